//! Where tables lie: a first-fit allocator over the buckets of the `TABLES` map.

use switcher_common::abi::{MAX_BUCKETS, TableRef};

/// Which units of [`TableRef::UNIT`] buckets are taken. Never gives anything back: what a plan frees is
/// for the next one.
#[derive(Clone)]
pub(super) struct Space {
    taken: Vec<bool>,
    /// By the logarithm of a size: there is no free range of it below this unit.
    from: [usize; 32],
}

/// No range is large enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted {
    /// Buckets of the largest free range.
    pub(super) largest: u32,
    /// Free buckets altogether.
    pub(super) free: u32,
}

impl Space {
    /// All buckets but those of `tables`.
    pub(super) fn besides(tables: impl Iterator<Item = TableRef>) -> Self {
        let mut taken = vec![false; (MAX_BUCKETS / TableRef::UNIT) as usize];
        for table in tables {
            let first = (table.first() / TableRef::UNIT) as usize;
            taken
                .iter_mut()
                .skip(first)
                .take(units(table.bits()))
                .for_each(|unit| *unit = true);
        }
        Self {
            taken,
            from: [0; 32],
        }
    }

    /// The first free range for a table of `1 << bits` buckets.
    pub(super) fn take(&mut self, bits: u32) -> Result<TableRef, Exhausted> {
        let wanted = units(bits);
        let mut free = 0;
        for unit in self.from[bits as usize]..self.taken.len() {
            free = if self.taken[unit] { 0 } else { free + 1 };
            if free == wanted {
                let first = unit + 1 - wanted;
                self.taken[first..=unit].fill(true);
                self.from[bits as usize] = unit + 1;
                return Ok(TableRef::new(first as u32 * TableRef::UNIT, bits));
            }
        }
        Err(self.exhausted())
    }

    fn exhausted(&self) -> Exhausted {
        let free_ranges = self.taken.chunk_by(|a, b| a == b).filter(|range| !range[0]);
        let lengths = free_ranges.map(|range| range.len() as u32 * TableRef::UNIT);
        Exhausted {
            largest: lengths.clone().max().unwrap_or(0),
            free: lengths.sum(),
        }
    }
}

fn units(bits: u32) -> usize {
    ((1 << bits) / TableRef::UNIT).max(1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_first_range_that_is_large_enough() {
        let used = [TableRef::new(256, 8), TableRef::new(1024, 8)];
        let mut space = Space::besides(used.into_iter());
        assert_eq!(space.take(9), Ok(TableRef::new(512, 9)));
        assert_eq!(space.take(8), Ok(TableRef::new(0, 8)));
        assert_eq!(space.take(8), Ok(TableRef::new(1280, 8)));
    }

    /// Looking through the free rest for each would take billions of steps.
    #[test]
    fn small_tables_fill_everything() {
        let mut space = Space::besides(std::iter::empty());
        let units = MAX_BUCKETS / TableRef::UNIT;
        for unit in 0..units {
            assert_eq!(space.take(8), Ok(TableRef::new(unit * TableRef::UNIT, 8)));
        }
        let nothing = Exhausted {
            largest: 0,
            free: 0,
        };
        assert_eq!(space.take(8), Err(nothing));
    }

    #[test]
    fn says_what_is_left() {
        let mut space = Space::besides([TableRef::new(MAX_BUCKETS / 2, 10)].into_iter());
        let expected = Exhausted {
            largest: MAX_BUCKETS / 2,
            free: MAX_BUCKETS - 1024,
        };
        assert_eq!(space.take(24), Err(expected));
    }
}
