//! A canary's tables, before its step.

use super::Runner;
use super::apply::refused;
use crate::datapath::Slot;
use crate::exit::Failure;
use crate::journal::Who;
use crate::reconcile::{Refusal, Step, WantCanary, step};
use crate::release::{self, Effect, Event, Order};

impl Runner {
    /// Makes the tables for a canary's step ready, unless the order is refused anyway or a dry run.
    ///
    /// # Errors
    /// When there is no slot or no space for them, and when the kernel refuses.
    pub(super) fn canary(
        &mut self,
        name: &str,
        order: Order,
        percent: u8,
        dry_run: bool,
    ) -> Result<Event, Failure> {
        let made = self.canary_step(name, &order, percent)?;
        let slot = made.as_ref().map_or(Slot::MAX, |step| step.slot);
        let event = Event::Canary {
            order,
            percent,
            slot,
        };
        if let Some(Step { plan, .. }) = made.filter(|_| !dry_run && self.would_begin(name, &event))
        {
            self.untended.insert(name.to_owned());
            self.carry_out_changes(&plan, &Who::default())?;
        }
        Ok(event)
    }

    fn canary_step(&self, name: &str, order: &Order, percent: u8) -> Result<Option<Step>, Failure> {
        let Some(mut want) = self.want_group(name) else {
            return Ok(None);
        };
        want.canary = order
            .to
            .clone()
            .map(|colour| WantCanary { colour, percent });
        step(&self.known(), name, &want, self.seed).map_err(|refusal| {
            let failure = refused(&refusal, "");
            match refusal {
                Refusal::Slots { .. } => Failure {
                    exit: crate::exit::Exit::Precondition,
                    why: "every table slot is in use until the window closes".to_owned(),
                    ..failure
                }
                .advise("wait until old connections are gone (switcher wait GROUP --for drained)"),
                _ => failure,
            }
        })
    }

    /// Whether an order would come to something.
    fn would_begin(&self, name: &str, event: &Event) -> bool {
        let Some(group) = self.groups.get(name) else {
            return false;
        };
        let mut state = group.state.clone();
        let effects = release::step(&mut state, event.clone(), self.clock.now());
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Prepare { .. }))
    }
}
