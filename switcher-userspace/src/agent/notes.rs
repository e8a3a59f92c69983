//! What people say of a group: recorded before it counts.

use jiff::Timestamp;
use tracing::info;

use super::Runner;
use super::asked::{Asked, Verb};
use super::audit::portrait;
use super::failed::failure;
use crate::api::misleads;
use crate::api::model::NoteAnswer;
use crate::exit::{Exit, Failure};
use crate::hooks::Occasion;
use crate::release::{Effect, Outcome, SchemaRange, step};

/// The longest name of anything that people may give, in characters.
const LONGEST: usize = 128;

impl Runner {
    /// Takes what somebody says, at once.
    ///
    /// # Errors
    /// When there is no such group, when it can't be so, and when it can't be recorded; then it isn't so.
    pub fn note(&mut self, asked: &Asked) -> Result<NoteAnswer, Failure> {
        self.settle_now(&asked.group);
        let old = self.portrait(&asked.group);
        let done = self.try_note(asked).map_err(|failure| Failure {
            tried: asked.tried(),
            ..failure
        });
        // What was taken is recorded with what it changes.
        let recorded = matches!(&done, Ok(answer) if !answer.unchanged);
        if asked.counts(&done) && !recorded {
            self.audit(asked.entry(old.clone(), old), &done);
        }
        done
    }

    fn try_note(&mut self, asked: &Asked) -> Result<NoteAnswer, Failure> {
        let Asked {
            group: name,
            verb,
            request,
            who,
        } = asked;
        asked.check()?;
        self.group(name)?;
        let event = self.event(*verb, name, request.clone(), (String::new(), who))?;
        let now = self.clock.now();
        let group = self.group(name)?;
        let mut state = group.state.clone();
        let effects = step(&mut state, event, now);
        let outcome = effects.iter().find_map(|effect| match effect {
            Effect::Reply { id, outcome } if id.is_empty() => Some(outcome.clone()),
            _ => None,
        });
        let (colour, warnings, unchanged) = match outcome.unwrap_or(Outcome::Unchanged) {
            Outcome::Noted { colour, warnings } => (colour, warnings, false),
            Outcome::Unchanged => (request.to.clone(), Vec::new(), true),
            other => return Err(failure(other)),
        };
        let colour = colour.or_else(|| request.to.clone());
        let release = colour
            .as_ref()
            .and_then(|it| state.releases.colours.get(it));
        let answer = NoteAnswer {
            group: name.clone(),
            live: state.live.clone(),
            previous: state.previous.clone(),
            role: colour.as_ref().map(|it| state.role(it).name().to_owned()),
            version: release.and_then(|it| it.version.clone()),
            schema: release.and_then(|it| it.schema).map(|it| it.to_string()),
            colour,
            applied: state.releases.applied,
            gates: self.gate_status(&state.gates),
            frozen: self.freeze_status(&state.gates),
            revision: state.revision,
            warnings,
            unchanged,
            dry_run: request.dry_run,
        };
        if unchanged || request.dry_run {
            return Ok(answer);
        }
        let entry = asked.entry(portrait(&group.state), portrait(&state));
        let occasion = self.noted(asked, &answer);
        let events = occasion.as_ref().map(|it| self.outgoing(it));
        let events = events.unwrap_or_default();
        self.journal
            .tell_group(&group.record_of(&state), Some(&entry), &events)?;
        self.told.occasions.extend(occasion);
        self.wake_outbox(name);
        let (actor, reason) = (&who.actor, &who.reason);
        info!(group = name, actor, reason, "{}", asked.tried());
        if let Some(group) = self.groups.get_mut(name) {
            group.state = state;
        }
        for effect in effects {
            if matches!(&effect, Effect::Reply { id, .. } if id.is_empty()) {
                continue;
            }
            if let Effect::CallHooks(call) = effect {
                self.call_hooks(name, &call, Some(who));
                continue;
            }
            // What was being prepared may have to be taken back.
            if let Some(event) = self.carry_out(name, effect, None) {
                self.feed(name, event);
            }
        }
        self.changes.send_modify(|count| *count += 1);
        Ok(answer)
    }

    /// What others hear of it.
    fn noted(&self, asked: &Asked, answer: &NoteAnswer) -> Option<Occasion> {
        let Asked {
            group, verb, who, ..
        } = asked;
        let event = match verb {
            Verb::Stage => "staged",
            Verb::Schema => "schema",
            Verb::Freeze => "frozen",
            Verb::Unfreeze => "unfrozen",
            Verb::Gate => "gate",
            Verb::Flip
            | Verb::Rollback
            | Verb::Canary
            | Verb::Abort
            | Verb::Confirm
            | Verb::Extend
            | Verb::Pause
            | Verb::Drill
            | Verb::Resume => return None,
        };
        let now = Timestamp::now();
        Some(Occasion {
            id: format!("{}/{event}", self.journal.fresh_id(now)),
            event: event.to_owned(),
            time: now,
            host: self.host.clone(),
            group: group.clone(),
            from: Some(answer.live.clone()),
            to: answer.colour.clone(),
            version: answer.version.clone(),
            actor: who.actor.clone(),
            reason: who.reason.clone(),
            message: format!("{}: {event}", asked.tried()),
            ..Occasion::default()
        })
    }

    /// Has previews lead to what waits to become live: a boot has forgotten it.
    pub(super) fn turn_previews(&mut self) {
        let turn = |(name, group): (&String, &mut super::group::Group)| {
            let effect = group.state.turn_preview()?;
            Some((name.clone(), effect))
        };
        let turned: Vec<_> = self.groups.iter_mut().filter_map(turn).collect();
        for (name, effect) in turned {
            if let Some(event) = self.carry_out(&name, effect, None) {
                self.feed(&name, event);
            }
        }
    }
}

impl Verb {
    /// Whether it is answered by [`Runner::pause`] or [`Runner::note`].
    pub(super) const fn is_at_once(self) -> bool {
        matches!(self, Self::Pause | Self::Resume) || self.is_note()
    }

    /// Whether it is answered by [`Runner::note`].
    pub(crate) const fn is_note(self) -> bool {
        matches!(
            self,
            Self::Stage | Self::Schema | Self::Freeze | Self::Unfreeze | Self::Gate
        )
    }
}

/// A name that people give, on one line and not too long.
pub(super) fn named(field: &str, text: &str) -> Result<String, Failure> {
    let good = !text.trim().is_empty() && text.chars().count() <= LONGEST;
    if good && !text.chars().any(misleads) {
        return Ok(text.to_owned());
    }
    let why = format!("{field}: write 1 to {LONGEST} characters on one line");
    Err(Failure::new(Exit::Usage, "", why))
}

/// A range of schema versions.
pub(super) fn range(text: &str) -> Result<SchemaRange, Failure> {
    text.parse()
        .map_err(|why| Failure::new(Exit::Usage, "", format!("schema: {why}")))
}
