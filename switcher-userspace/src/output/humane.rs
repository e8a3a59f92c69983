//! Numbers as people say them.

use std::time::Duration;

/// A duration in at most two units: `1h 2m`, `12s`, `340ms`, `85us`.
#[must_use]
pub fn human_duration(duration: Duration) -> String {
    if duration < Duration::from_millis(1) {
        return format!("{}us", duration.as_micros());
    }
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
    }
    if duration < Duration::from_secs(10) && duration.subsec_millis() >= 100 {
        return format!("{}.{}s", duration.as_secs(), duration.subsec_millis() / 100);
    }
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let said = parts[first..]
        .iter()
        .take(2)
        .filter(|(count, _)| *count > 0);
    said.map(|(count, unit)| format!("{count}{unit}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A count with at most four characters: `999`, `12k`, `3.4M`.
#[must_use]
pub fn human_count(count: u64) -> String {
    scaled(count, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

/// Some flows: `1 flow`, `12 flows`, `3.4k flows`.
#[must_use]
pub fn human_flows(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} flow{plural}", human_count(count))
}

/// A size in units of 1024: `999 B`, `12 KiB`, `3.4 MiB`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    scaled(
        bytes,
        1024,
        &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"],
    )
}

/// One decimal below ten, none above; always rounded down.
fn scaled(number: u64, step: u64, units: &[&str]) -> String {
    let (mut whole, mut tenth, mut unit) = (number, 0, 0);
    while whole >= step && unit + 1 < units.len() {
        tenth = whole % step * 10 / step;
        whole /= step;
        unit += 1;
    }
    match (unit, whole) {
        (1.., ..10) => format!("{whole}.{tenth}{}", units[unit]),
        _ => format!("{whole}{}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let said = |millis| human_duration(Duration::from_millis(millis));
        assert_eq!(human_duration(Duration::ZERO), "0us");
        assert_eq!(human_duration(Duration::from_micros(85)), "85us");
        assert_eq!(said(340), "340ms");
        assert_eq!(said(1_000), "1s");
        assert_eq!(said(1_250), "1.2s");
        assert_eq!(said(12_999), "12s");
        assert_eq!(said(60_000), "1m");
        assert_eq!(said(3_725_000), "1h 2m");
        assert_eq!(said(3_605_000), "1h");
        assert_eq!(said(200_000_000), "2d 7h");
    }

    #[test]
    fn counts_and_sizes() {
        assert_eq!(human_count(0), "0");
        assert_eq!(human_count(999), "999");
        assert_eq!(human_count(3_456), "3.4k");
        assert_eq!(human_count(12_000_000), "12M");
        assert_eq!(human_bytes(1_023), "1023 B");
        assert_eq!(human_bytes(1_536), "1.5 KiB");
        assert_eq!(human_bytes(u64::MAX), "15 EiB");
    }
}
