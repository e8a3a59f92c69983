//! A stream of bytes of which every one can be checked by its place.

/// The byte at `offset` of the stream of `seed`.
#[must_use]
pub fn byte(seed: u8, offset: u64) -> u8 {
    let mixed = (offset ^ u64::from(seed)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_be_bytes()[0]
}

/// Fills `buffer` with the stream from `offset` on.
pub fn fill(seed: u8, offset: u64, buffer: &mut [u8]) {
    for (place, value) in (offset..).zip(buffer) {
        *value = byte(seed, place);
    }
}

/// The offset of the first wrong byte, if there is one.
#[must_use]
pub fn first_wrong(seed: u8, offset: u64, bytes: &[u8]) -> Option<u64> {
    (offset..)
        .zip(bytes)
        .find(|&(place, &value)| value != byte(seed, place))
        .map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_found() {
        let mut bytes = [0; 1000];
        fill(7, 5000, &mut bytes);
        assert_eq!(first_wrong(7, 5000, &bytes), None);
        bytes[321] ^= 1;
        assert_eq!(first_wrong(7, 5000, &bytes), Some(5321));
    }

    #[test]
    fn a_shifted_or_foreign_stream_is_found() {
        let mut bytes = [0; 1000];
        fill(7, 5000, &mut bytes);
        assert!(first_wrong(7, 5001, &bytes).is_some());
        assert!(first_wrong(8, 5000, &bytes).is_some());
    }
}
