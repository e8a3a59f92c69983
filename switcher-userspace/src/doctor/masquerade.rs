//! Whether this host's own connections stay out of the way of masqueraded flows.

use std::fs;
use std::ops::RangeInclusive;

use super::Check;

/// Compares the ports with those that the kernel gives to connections of this host.
pub(super) fn check(ports: &RangeInclusive<u16>) -> Check {
    let read = |key: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{key}"));
    match (read("ip_local_port_range"), read("ip_local_reserved_ports")) {
        (Ok(range), Ok(reserved)) => judge(ports, &range, &reserved),
        (Err(error), _) | (_, Err(error)) => {
            Check::unknown(NAME, format!("/proc/sys/net/ipv4: {error}"), "")
        }
    }
}

const NAME: &str = "masquerade ports";

fn judge(ports: &RangeInclusive<u16>, range: &str, reserved: &str) -> Check {
    let (first, last) = (ports.start(), ports.end());
    let mut bounds = range.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(low)), Some(Ok(high))) = (bounds.next(), bounds.next()) else {
        return Check::unknown(NAME, format!("ip_local_port_range is {range:?}"), "");
    };
    let common = low.max(*first)..=high.min(*last);
    if common.is_empty() || is_reserved(&common, reserved) {
        let found = format!("{first}-{last}, which this host's own connections never have");
        return Check::ok(NAME, found);
    }
    let (from, to) = (common.start(), common.end());
    Check::problem(
        NAME,
        format!("{first}-{last} meets net.ipv4.ip_local_port_range, {low}-{high}"),
        &format!(
            "a connection of this host to an endpoint may get a port that a flow has: choose other \
             ports, or keep the kernel off them (sysctl -w net.ipv4.ip_local_reserved_ports={from}-{to}, \
             beside what is there)"
        ),
    )
}

/// Whether a list of ports and ranges, as the kernel shows it, has all of `wanted`.
fn is_reserved(wanted: &RangeInclusive<u16>, list: &str) -> bool {
    let mut next = u32::from(*wanted.start());
    for item in list.trim().split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>())
            && (first..=last).contains(&next)
        {
            next = last + 1;
        }
    }
    next > u32::from(*wanted.end())
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn ports_of_this_host_are_kept_apart() {
        let state = |ports, range, reserved| judge(&ports, range, reserved).state;
        let usual = "32768\t60999\n";
        assert_eq!(state(16_384..=32_767, usual, "\n"), State::Ok);
        assert_eq!(state(61_000..=65_535, usual, "\n"), State::Ok);
        assert_eq!(state(16_384..=32_768, usual, "\n"), State::Problem);
        assert_eq!(state(40_000..=50_000, usual, "80,40000-50000\n"), State::Ok);
        assert_eq!(
            state(40_000..=50_000, usual, "40000-45000,45001-50000"),
            State::Ok
        );
        assert_eq!(
            state(40_000..=50_000, usual, "40000-49999\n"),
            State::Problem
        );
        assert_eq!(state(1..=2, "nonsense", "\n"), State::Unknown);
        let advice = judge(&(16_384..=40_000), usual, "\n").advice;
        assert!(advice.contains("=32768-40000"), "{advice}");
    }
}
