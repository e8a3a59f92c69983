//! Advice on words that are not known.

/// What to do about a word that is none of `known`.
pub(super) fn suggest(word: &str, known: &[&str]) -> String {
    let lower = word.to_lowercase().replace('-', "_");
    let distance = |other: &&&str| strsim::damerau_levenshtein(&lower, &other.replace('-', "_"));
    match known.iter().min_by_key(distance) {
        Some(best) if distance(&best) <= (best.len() / 3).min(3) => {
            format!("did you mean {best}?")
        }
        _ => one_of(known),
    }
}

/// "choose a, b or c", in the order given.
pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [] => "remove it".to_owned(),
        [word] => format!("choose {word}"),
        [first @ .., last] => format!("choose {} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_words_are_suggested() {
        let known = ["arm", "learn", "deadline"];
        assert_eq!(suggest("deadlin", &known), "did you mean deadline?");
        assert_eq!(suggest("laern", &known), "did you mean learn?");
        assert_eq!(suggest("Arm", &known), "did you mean arm?");
    }

    #[test]
    fn distant_words_get_the_whole_choice() {
        assert_eq!(suggest("bogus", &["arm", "learn"]), "choose arm or learn");
        assert_eq!(suggest("x", &["a", "bcd", "efg"]), "choose a, bcd or efg");
        assert_eq!(suggest("x", &[]), "remove it");
    }
}
