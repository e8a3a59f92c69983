//! What each connection is entitled to. No I/O and no clock: whoever asks brings the instants.
//!
//! While an order is under way, what it may do is allowed beside what was; when it has answered, only what
//! it said. What will happen by itself is allowed from the earliest instant that it can, and required from
//! the latest one. So whatever is judged is judged at most too leniently, and never by when a thread ran.

use std::time::Duration;

use crate::endpoint::Endpoints;
use crate::timeline::{At, Timeline};

/// How far a deadline of the agent's may come early: it counts milliseconds, and in its own clock.
const EARLY: Duration = Duration::from_millis(50);
/// How soon after a hard rollback has answered nobody given up is served: answers may be on their way.
const ON_THE_WAY: Duration = Duration::from_millis(250);

/// What may become of new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// They may be let in.
    pub open: bool,
    /// They may be held.
    pub held: bool,
}

impl Door {
    const OPEN: Self = Self {
        open: true,
        held: false,
    };
    const HELD: Self = Self {
        open: false,
        held: true,
    };
    const EITHER: Self = Self {
        open: true,
        held: true,
    };
}

/// A flow that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who serves it.
    pub endpoint: Endpoints,
    /// Before its first packet was sent.
    pub begun: At,
    /// After it had its first answer: until then nobody may have let it in.
    pub answered: At,
    /// Its end is seen by both sides: TCP.
    pub connected: bool,
    /// When its client last heard of it, if it may be silent for long.
    pub heard: Option<At>,
}

/// Flows that an order takes away from their endpoints.
#[derive(Clone, Copy, Debug)]
struct Taken {
    from: At,
    /// When it has answered that it has.
    done: Option<At>,
    spared: Endpoints,
}

/// A window was opened at some moment between these.
#[derive(Clone, Copy, Debug)]
struct Opened {
    earliest: At,
    /// Not known yet while that may still happen.
    latest: Option<At>,
}

/// Everything that was promised.
#[derive(Clone, Debug)]
pub struct Model {
    routes: Timeline<Endpoints>,
    door: Timeline<Door>,
    deadline: Timeline<Duration>,
    /// Between which instants windows were opened.
    changes: Vec<Opened>,
    taken: Vec<Taken>,
    /// Flows that are silent for so long right after a switch may be taken for new ones.
    learn: Option<Duration>,
    /// As it would be without the order that is under way.
    before: Option<(Timeline<Endpoints>, Timeline<Door>, Timeline<Duration>)>,
}

impl Model {
    /// New flows go to these endpoints, and the old ones of a window are given up after `deadline`.
    #[must_use]
    pub fn new(routes: Endpoints, deadline: Duration) -> Self {
        Self {
            routes: Timeline::new(routes),
            door: Timeline::new(Door::OPEN),
            deadline: Timeline::new(deadline),
            changes: Vec::new(),
            taken: Vec::new(),
            learn: None,
            before: None,
        }
    }

    /// Flows that are silent for so long may be taken for new ones.
    #[must_use]
    pub fn learning(mut self, learn: Option<Duration>) -> Self {
        self.learn = learn;
        self
    }

    /// An order is given that may send new flows to these, too.
    pub fn begin(&mut self, at: At, also: Endpoints) {
        let Self {
            routes,
            door,
            deadline,
            ..
        } = &*self;
        self.before = Some((routes.clone(), door.clone(), deadline.clone()));
        self.routes.change(at, |to| to | also);
        self.may_open(at, None);
    }

    /// The order was refused: nothing has changed.
    pub fn refused(&mut self, at: At) {
        if let Some((routes, door, deadline)) = self.before.take() {
            self.routes.restore(at, &routes);
            self.door.restore(at, &door);
            self.deadline.restore(at, &deadline);
        }
        self.taken.retain(|it| it.done.is_some());
        self.close(at);
    }

    /// It was carried out, or is known to have been: new flows go to these alone, until something else is said.
    pub fn routed(&mut self, at: At, to: Endpoints) {
        self.before = None;
        self.routes.set(at, to);
        self.close(at);
    }

    /// Between two instants new flows begin to go to these, by themselves.
    pub fn later(&mut self, earliest: At, latest: At, to: Endpoints) {
        let until = self.routes.at(earliest);
        self.routes.set(earliest, until | to);
        self.routes.set(latest, to);
        self.may_open(earliest, Some(latest));
    }

    /// New flows may be held, or not any more, from now on.
    pub fn door_moves(&mut self, at: At) {
        self.door.set(at, Door::EITHER);
    }

    /// New flows are held, and let in by themselves between two instants.
    pub fn held(&mut self, at: At, earliest: At, latest: At) {
        self.before = None;
        self.door.set(at, Door::HELD);
        self.door.set(earliest, Door::EITHER);
        self.door.set(latest, Door::OPEN);
        self.close(at);
    }

    /// New flows are let in.
    pub fn opened(&mut self, at: At) {
        self.before = None;
        self.door.set(at, Door::OPEN);
        self.close(at);
    }

    /// The group's deadline may be another one.
    pub fn deadline_moves(&mut self, at: At, to: Duration) {
        self.deadline.change(at, |before| before.min(to));
    }

    /// It is this one.
    pub fn deadline_is(&mut self, at: At, to: Duration) {
        self.deadline.set(at, to);
    }

    /// Something other than an order may open a window: checks that pass, or no longer do.
    pub fn disturbed(&mut self, earliest: At, latest: At) {
        self.may_open(earliest, Some(latest));
    }

    /// An order is given that takes flows from all endpoints but these.
    pub fn takes(&mut self, from: At, spared: Endpoints) {
        self.taken.push(Taken {
            from,
            done: None,
            spared,
        });
    }

    /// It was carried out.
    pub fn took(&mut self, done: At, spared: Endpoints) {
        for taken in self.taken.iter_mut().filter(|it| it.done.is_none()) {
            (taken.done, taken.spared) = (Some(done), spared);
        }
    }

    /// Whether it was carried out is not known.
    pub fn may_have_taken(&mut self, at: At) {
        for taken in self.taken.iter_mut().filter(|it| it.done.is_none()) {
            (taken.done, taken.spared) = (Some(at), Endpoints::NONE);
        }
    }

    /// Where new flows may go at some moment between these two, were they let in.
    #[must_use]
    pub fn routes_over(&self, from: At, to: At) -> Endpoints {
        let all = self.routes.over(from, to);
        all.fold(Endpoints::NONE, |all, (.., routes)| all | routes)
    }

    /// Whether new flows are let in, for certain.
    #[must_use]
    pub fn is_open(&self, at: At) -> bool {
        self.door.at(at) == Door::OPEN
    }

    /// Where new flows may go at some moment between these two at which they may be let in.
    #[must_use]
    pub fn entitled(&self, begun: At, answered: At) -> Endpoints {
        let mut to = Endpoints::NONE;
        for (from, until, routes) in self.routes.over(begun, answered) {
            if self.door.over(from, until).any(|(.., door)| door.open) {
                to = to | routes;
            }
        }
        to
    }

    /// Whether a flow begun then may be with this endpoint.
    ///
    /// # Errors
    /// What it is entitled to instead.
    pub fn begins(&self, begun: At, answered: At, endpoint: Endpoints) -> Result<(), String> {
        let entitled = self.entitled(begun, answered);
        if entitled.has(endpoint) {
            return Ok(());
        }
        Err(if entitled == Endpoints::NONE {
            "no answer before the pause is over".to_owned()
        } else {
            format!("an answer of {entitled}")
        })
    }

    /// Whether a flow may still be served by its endpoint.
    ///
    /// # Errors
    /// Why not.
    pub fn goes_on(&self, flow: &Flow, asked: At) -> Result<(), String> {
        let given_up = |taken: &&Taken| {
            let spared = taken.spared == Endpoints::NONE || taken.spared.has(flow.endpoint);
            let late = taken.done.is_some_and(|done| asked > done + ON_THE_WAY);
            late && !spared && flow.answered < taken.from
        };
        match self.taken.iter().find(given_up) {
            Some(taken) if flow.connected => Err(format!(
                "a reset: all but {} were given up at {:.3} s",
                taken.spared,
                taken.from.as_secs_f64()
            )),
            _ => Ok(()),
        }
    }

    /// Whether a flow may have been taken from its endpoint by now.
    #[must_use]
    pub fn may_end(&self, flow: &Flow, at: At) -> bool {
        let given_up = self.taken.iter().any(|taken| {
            let before_it = taken.done.is_none_or(|done| flow.begun <= done);
            taken.from <= at && before_it && !taken.spared.has(flow.endpoint)
        });
        let was_old = |opened: &Opened| opened.latest.is_none_or(|latest| flow.begun <= latest);
        let over = |opened: &Opened| {
            let since = opened.earliest.max(flow.begun);
            let deadlines = self.deadline.over(since, at.max(since));
            let shortest = deadlines.map(|(.., deadline)| deadline).min();
            shortest.is_some_and(|deadline| since.saturating_add(deadline) <= at + EARLY)
        };
        let silent = flow.heard.is_some_and(|heard| {
            let silence = at.saturating_sub(heard) + EARLY;
            self.learn.is_some_and(|learn| silence >= learn)
        });
        given_up || silent || self.changes.iter().any(|it| was_old(it) && over(it))
    }

    /// Whether a flow that is still begun may be turned away: who takes flows takes new ones, too.
    #[must_use]
    pub fn may_be_refused(&self, begun: At, at: At) -> bool {
        let meanwhile = |taken: &Taken| {
            let over = taken.done.is_some_and(|done| begun > done);
            taken.from <= at && !over
        };
        self.taken.iter().any(meanwhile)
    }

    /// Forgets what no flow can remember.
    pub fn forget(&mut self, before: At) {
        self.routes.forget(before);
        self.door.forget(before);
        self.deadline.forget(before);
        self.changes
            .retain(|it| it.latest.is_none_or(|latest| latest >= before));
        self.taken
            .retain(|taken| taken.done.is_none_or(|done| done >= before));
    }

    fn may_open(&mut self, earliest: At, latest: Option<At>) {
        self.changes.push(Opened { earliest, latest });
    }

    fn close(&mut self, at: At) {
        for opened in self.changes.iter_mut().filter(|it| it.latest.is_none()) {
            opened.latest = Some(at);
        }
    }
}

#[cfg(test)]
mod tests;
