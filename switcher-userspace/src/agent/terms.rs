//! When a flip is to be made, and whether it has to be confirmed.

use std::time::Duration;

use jiff::Timestamp;

use super::Runner;
use crate::api::model::ChangeRequest;
use crate::exit::{Exit, Failure};
use crate::release::{Millis, Terms};

impl Runner {
    /// What a request asks for, with the group's default.
    pub(super) fn terms(&self, name: &str, request: &ChangeRequest) -> Result<Terms, Failure> {
        let at = request.at.as_deref().map(|text| {
            instant(text, Timestamp::now(), self.clock.now())
                .map_err(|why| Failure::new(Exit::Usage, "", format!("at: {why}")))
        });
        let asked = request.confirm_within.as_deref();
        let asked = asked.map(|text| duration("confirm_within", text));
        let default = self
            .config
            .groups
            .get(name)
            .and_then(|group| group.confirm_within);
        let bake = self.config.groups.get(name).and_then(|group| group.bake);
        Ok(Terms {
            // Whoever skips checks does not want to be called back by them.
            bake: bake.filter(|_| !request.no_bake && !request.force),
            policy: false,
            drill: false,
            at: at.transpose()?,
            confirm: asked
                .transpose()?
                .or_else(|| default.filter(|_| !request.no_confirm)),
        })
    }
}

/// A duration of a request.
pub(super) fn duration(field: &str, text: &str) -> Result<Duration, Failure> {
    let parsed = humantime::parse_duration(text)
        .ok()
        .filter(|it| !it.is_zero());
    parsed.ok_or_else(|| {
        let why = format!("{field}: {text:?} is no duration above zero");
        Failure::new(Exit::Usage, "", why)
            .advise("write a number with its unit, such as 300ms, 5s or 2m")
    })
}

/// The moment that a text means: `+5s` from now, or a time with its offset from UTC (RFC 3339). It is taken
/// over to the clock that nobody sets once, here: setting the wall clock afterwards does not move it.
fn instant(text: &str, wall: Timestamp, now: Millis) -> Result<Millis, String> {
    const ADVICE: &str = "write +5s, or a time with its offset such as 2026-11-28T12:00:00Z";
    if let Some(wait) = text.strip_prefix('+') {
        let wait = humantime::parse_duration(wait);
        return wait
            .map(|wait| now + wait)
            .map_err(|_| format!("{text:?} is no time: {ADVICE}"));
    }
    let then: Timestamp = text
        .parse()
        .map_err(|_| format!("{text:?} is no time: {ADVICE}"))?;
    let wait = Duration::try_from(then.duration_since(wall));
    wait.map(|wait| now + wait)
        .map_err(|_| format!("{text} has passed; it is {wall:.0} here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_relative_or_absolute() {
        let wall = "2026-11-28T12:00:00Z".parse().expect("a time");
        let at = |text| instant(text, wall, Millis(7_000));
        assert_eq!(at("+1500ms"), Ok(Millis(8_500)));
        assert_eq!(at("2026-11-28T13:00:02.5+01:00"), Ok(Millis(9_500)));
        for (text, why) in [
            (
                "2026-11-28T11:59:59Z",
                "has passed; it is 2026-11-28T12:00:00Z here",
            ),
            ("2026-11-28T12:00:00", "is no time"),
            ("12:00", "is no time"),
            ("+5", "is no time"),
        ] {
            let error = at(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
