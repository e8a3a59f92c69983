//! Values that change at instants, some of which are still to come.

use std::time::Duration;

/// An instant of a run, from its beginning.
pub type At = Duration;

/// What holds from when on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline<T> {
    /// In order; the first holds from the beginning.
    entries: Vec<(At, T)>,
}

impl<T: Copy + PartialEq> Timeline<T> {
    /// This holds from the beginning.
    pub fn new(value: T) -> Self {
        Self {
            entries: vec![(At::ZERO, value)],
        }
    }

    /// What holds at an instant.
    pub fn at(&self, at: At) -> T {
        self.entries[self.place(at)].1
    }

    /// From now on this holds; what was to come does not.
    pub fn set(&mut self, from: At, value: T) {
        self.entries.retain(|(begin, _)| *begin < from);
        if self.entries.last().is_none_or(|(_, last)| *last != value) {
            self.entries.push((from, value));
        }
    }

    /// Changes what holds from an instant on, and what is to come.
    pub fn change(&mut self, from: At, change: impl Fn(T) -> T) {
        let first = self.at(from);
        let later = self.entries.split_off(self.place(from) + 1);
        self.set(from, change(first));
        for (begin, value) in later {
            self.entries.push((begin, change(value)));
        }
    }

    /// From now on all is as if it had gone on like `earlier`.
    pub fn restore(&mut self, from: At, earlier: &Self) {
        self.set(from, earlier.at(from));
        let later = earlier.entries.iter().filter(|(begin, _)| *begin > from);
        self.entries.extend(later);
    }

    /// What holds at some moment from `from` to `to`, both included, and within these from when to when.
    pub fn over(&self, from: At, to: At) -> impl Iterator<Item = (At, At, T)> {
        let first = self.place(from);
        (first..self.entries.len()).map_while(move |place| {
            let (begin, value) = self.entries[place];
            let end = self.entries.get(place + 1).map_or(to, |(next, _)| *next);
            (place == first || begin <= to).then_some((begin.max(from), end.min(to), value))
        })
    }

    /// Forgets what held before, for good.
    pub fn forget(&mut self, before: At) {
        let first = self.place(before);
        self.entries.drain(..first);
        self.entries[0].0 = At::ZERO;
    }

    fn place(&self, at: At) -> usize {
        let later = self.entries.partition_point(|(begin, _)| *begin <= at);
        later.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> At {
        At::from_secs(seconds)
    }

    fn seen(line: &Timeline<char>, from: u64, to: u64) -> String {
        line.over(s(from), s(to)).map(|(.., value)| value).collect()
    }

    #[test]
    fn what_is_to_come_can_be_changed_taken_back_and_restored() {
        let mut line = Timeline::new('a');
        line.set(s(10), 'b');
        line.set(s(20), 'c');
        assert_eq!(seen(&line, 0, 9), "a");
        assert_eq!(seen(&line, 9, 10), "ab");
        assert_eq!(seen(&line, 11, 30), "bc");
        let before = line.clone();
        line.change(s(5), |value| value.to_ascii_uppercase());
        assert_eq!(seen(&line, 0, 30), "aABC");
        line.restore(s(12), &before);
        assert_eq!(seen(&line, 0, 30), "aABbc");
        line.set(s(13), 'd');
        assert_eq!(seen(&line, 12, 30), "bd");
        line.forget(s(12));
        assert_eq!(seen(&line, 0, 30), "bd");
    }

    #[test]
    fn pieces_have_ends() {
        let mut line = Timeline::new('a');
        line.set(s(10), 'b');
        let pieces: Vec<_> = line.over(s(4), s(12)).collect();
        assert_eq!(pieces, [(s(4), s(10), 'a'), (s(10), s(12), 'b')]);
    }
}
