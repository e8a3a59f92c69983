//! What is left when the agent is killed: the kernel's word and tables, and what was committed.

use super::*;
use crate::datapath::{Canary, HaveGroup, Mix, Slot};

/// The kernel and the journal.
#[derive(Clone)]
pub(super) struct Durable {
    have: HaveGroup,
    times: Times,
    timing: Timing,
    policy: Policy,
    live: String,
    previous: Option<String>,
    revision: u64,
    releases: Releases,
    gates: Gates,
    /// In the order in which they were begun.
    open: Vec<Intent>,
}

const COLOURS: [&str; 3] = ["blue", "green", "red"];

impl Durable {
    pub(super) fn new(state: &GroupState) -> Self {
        let number = |colour: &str| COLOURS.iter().position(|it| *it == colour);
        let number = |colour: &str| number(colour).expect("a colour") as u8;
        let colours = COLOURS.iter().map(|it| (number(it), (*it).to_owned()));
        let slots = state.slots.iter();
        let slots = slots.map(|(colour, slot)| (*slot, Mix::pure(number(colour))));
        Self {
            have: HaveGroup {
                name: "shop".into(),
                colours: colours.collect(),
                slots: slots.collect(),
                word: state.word,
            },
            times: state.times,
            timing: state.timing,
            policy: state.gates.policy.clone(),
            live: state.live.clone(),
            previous: state.previous.clone(),
            revision: state.revision,
            releases: state.releases.clone(),
            gates: state.gates.clone(),
            open: Vec::new(),
        }
    }

    /// Somebody else stores a word.
    pub(super) fn store(&mut self, word: Word) {
        self.have.word = word;
    }

    /// Tables are filled: a colour's own, or with a share of another one.
    pub(super) fn fill(&mut self, slot: Slot, colour: &str, canary: Option<(&str, u8)>) {
        let number = |name: &str| {
            let mut colours = self.have.colours.iter();
            *colours.find(|(_, it)| *it == name).expect("a colour").0
        };
        let mix = Mix {
            colour: number(colour),
            canary: canary.map(|(colour, percent)| Canary {
                colour: number(colour),
                percent,
            }),
        };
        self.have.slots.insert(slot, mix);
    }

    /// Tables that nobody needs any more are cleared.
    pub(super) fn clear(&mut self, state: &GroupState) {
        let in_use = self.have.word.in_use();
        let ready = |slot: &Slot| state.slots.values().any(|it| it == slot);
        let slots = &mut self.have.slots;
        slots.retain(|slot, _| in_use & 1 << slot != 0 || ready(slot));
    }

    /// Colours that new flows go to at this moment.
    pub(super) fn served(&self, now: Millis) -> Vec<String> {
        let word = self.have.word.at(&self.times, now.nanoseconds());
        let mix = self.have.slots[&(word.current() as Slot)];
        let name = |colour| self.have.colours[&colour].clone();
        mix.colours().map(name).collect()
    }

    /// What people say is committed before it counts.
    pub(super) fn note(&mut self, state: &GroupState) {
        self.live.clone_from(&state.live);
        self.previous.clone_from(&state.previous);
        self.revision = state.revision;
        self.releases = state.releases.clone();
        self.gates = state.gates.clone();
    }

    /// What an effect leaves behind.
    pub(super) fn keep(&mut self, state: &GroupState, effect: &Effect) {
        match effect {
            Effect::Store(word) => self.have.word = *word,
            Effect::SetTimes(times) => self.times = *times,
            Effect::Prepare { cutover, .. } => {
                let left = match &state.stage {
                    Stage::Preparing(preparing) => preparing.left.clone(),
                    other => panic!("prepared in {other:?}"),
                };
                self.open.push(Intent {
                    cutover: cutover.clone(),
                    switched: false,
                    unconfirmed: false,
                    bake: None,
                    undecided: false,
                    left,
                });
            }
            Effect::Record(record) => self.record(state, record),
            Effect::CheckHealth { .. }
            | Effect::CallHooks(_)
            | Effect::StopHooks { .. }
            | Effect::Hold
            | Effect::Abandon(_)
            | Effect::Settle { .. }
            | Effect::CloseWindow
            | Effect::CountFlows
            | Effect::Observe { .. }
            | Effect::WakeAt(_)
            | Effect::Reply { .. } => {}
        }
    }

    fn record(&mut self, state: &GroupState, record: &Record) {
        match record {
            Record::Switched { id } => {
                let window = state.window();
                if let Some(intent) = self.intent(id) {
                    intent.switched = true;
                    intent.unconfirmed = state.confirm_by().is_some();
                    intent.undecided = window.is_some_and(|it| it.hooks);
                    intent.bake = window.and_then(|it| it.bake);
                    if let Some(window) = window {
                        intent.left.clone_from(&window.left);
                    }
                }
                self.note(state);
            }
            Record::Found { cutover, left } => {
                self.open.push(Intent {
                    cutover: cutover.clone(),
                    switched: true,
                    unconfirmed: false,
                    bake: None,
                    undecided: false,
                    left: left.clone(),
                });
                self.note(state);
            }
            Record::Ended { id, .. } => self.open.retain(|it| it.cutover.id != *id),
            Record::Drained { colour, .. } => {
                if let Some(window) = state.window()
                    && let Some(intent) = self.intent(&window.cutover.id)
                {
                    intent.left.remove(colour);
                }
            }
            Record::Confirmed { id } => {
                if let Some(intent) = self.intent(id) {
                    intent.unconfirmed = false;
                }
            }
            Record::Hooked { id } => {
                if let Some(intent) = self.intent(id) {
                    intent.undecided = false;
                }
            }
            Record::Bake { id, verdict, .. } => {
                if let Some(intent) = self.intent(id)
                    && verdict.is_final()
                {
                    (intent.bake, intent.cutover.terms.bake) = (None, None);
                }
            }
            Record::Extended { .. } => {}
        }
    }

    fn intent(&mut self, id: &str) -> Option<&mut Intent> {
        self.open.iter_mut().find(|it| it.cutover.id == id)
    }

    /// Another agent takes over.
    pub(super) fn resume(&self, id: String, now: Millis) -> (GroupState, Vec<Effect>) {
        let mut open = self.open.clone();
        for intent in &mut open {
            // They are not recorded: the kernel has them.
            (intent.cutover.terms.at, intent.cutover.terms.confirm) = (None, None);
        }
        let found = Found {
            have: &self.have,
            times: self.times,
            releases: self.releases.clone(),
            gates: Gates {
                policy: self.policy.clone(),
                ..self.gates.clone()
            },
        };
        let recorded = (self.live.clone(), self.previous.clone(), self.revision);
        resume(found, Some(recorded), open, self.timing, id, now)
    }

    /// What was begun is over, or is what the group is at.
    pub(super) fn check(&self, state: &GroupState) {
        let under_way = [
            state.cutover().map(|it| &it.id),
            state.window().map(|it| &it.cutover.id),
        ];
        for intent in &self.open {
            let id = &intent.cutover.id;
            assert!(
                under_way.contains(&Some(id)),
                "{id} is never over: {state:?}"
            );
        }
    }
}
