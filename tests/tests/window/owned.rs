//! Flows that the socket table speaks for, explored to the end: one client tuple, its socket at each
//! endpoint, three tables. Nothing is remembered but sockets, so flows do not meet at all.
//!
//! A listener may also claim, wrongly, that a segment carries one of its SYN cookies: a cookie is 24 bits
//! of hash, and somebody guesses right some day. No connection may be harmed by that.
//!
//! What is not promised: a SYN that was answered with a cookie, and is repeated after a switch, is a new
//! connection, for a cookie leaves nothing behind.

use stateright::{Checker, Model, Property};
use switcher_common::steer::{self, Ownership, Segment};
use switcher_common::word::{Phase, Word};

use crate::timed::{SWITCHED, Timed};

const SLOTS: usize = 3;
/// Endpoints 0, 1 and 2 listen; so many sockets can the tuple have.
const ENDPOINTS: usize = 3;

/// Any number of switches among three tables.
struct Window;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    timed: Timed,
    /// The endpoint of each slot.
    bucket: [u16; SLOTS],
    /// The tuple's socket at each endpoint.
    sockets: [Socket; ENDPOINTS],
    connection: Option<Connection>,
    /// A packet of a live connection went astray.
    strayed: bool,
    /// A new connection did not go where the current table says.
    stale: bool,
    /// Late packets of a dead connection did not find its remains.
    unburied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Socket {
    Listening,
    Request,
    Established,
    TimeWait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Connection {
    home: u16,
    /// The SYN was answered with a cookie, which has not come back yet.
    cookie: bool,
    opening: bool,
    repeats: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A SYN, and whether the server answers it with a cookie.
    Begin {
        cookie: bool,
    },
    /// The SYN again.
    Repeat,
    /// The handshake's last segment, or data; and which listener takes it for a cookie of its own.
    Speak {
        forged: Option<u16>,
    },
    /// Both sides are done; the server's may linger.
    Close {
        lingers: bool,
    },
    /// A segment of a connection that is over.
    Late,
    /// A socket's time is over.
    Expire(u16),
    Arm,
    Switch(u32),
    Drain,
    Settle,
    Force(u32),
    /// A switch at this hour, with a way back.
    Schedule(u32, u8),
    /// The next hour of a timed word.
    Pass,
    Keep,
    /// The agent stores what a timed word counts as.
    Fix,
}

#[test]
fn one_flow_and_three_tables() {
    let checker = Window.checker().spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

impl Model for Window {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let buckets = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 1, 2]];
        let start = |bucket| State {
            timed: Timed::new(Word::default()),
            bucket,
            sockets: [Socket::Listening; ENDPOINTS],
            connection: None,
            strayed: false,
            stale: false,
            unburied: false,
        };
        buckets.map(start).to_vec()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.strayed || state.stale || state.unburied {
            return;
        }
        state.client(actions);
        state.operator(actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.act(action);
        next.timed.word = next.timed.word.with_epoch(0).with_staging(0);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("packets follow their SYN", |_, state: &State| {
                !state.strayed
            }),
            Property::always("new connections are current", |_, state: &State| {
                !state.stale
            }),
            Property::always("late packets find TIME_WAIT", |_, state: &State| {
                !state.unburied
            }),
            Property::sometimes("remains at two endpoints", |_, state: &State| {
                let lingers = |socket: &&Socket| **socket == Socket::TimeWait;
                state.connection.is_some() && state.sockets.iter().filter(lingers).count() == 2
            }),
        ]
    }
}

impl State {
    fn client(&self, actions: &mut Vec<Action>) {
        for endpoint in 0..ENDPOINTS as u16 {
            if self.sockets[usize::from(endpoint)] == Socket::TimeWait {
                actions.push(Action::Expire(endpoint));
            }
        }
        let Some(connection) = self.connection else {
            actions.push(Action::Begin { cookie: false });
            actions.push(Action::Begin { cookie: true });
            actions.push(Action::Late);
            return;
        };
        if connection.opening && connection.repeats {
            actions.push(Action::Repeat);
        }
        let forgers = (0..ENDPOINTS as u16).filter(|_| !connection.cookie);
        let speak = |forged| Action::Speak { forged };
        actions.extend(forgers.map(Some).chain([None]).map(speak));
        actions.push(Action::Close { lingers: false });
        actions.push(Action::Close { lingers: true });
    }

    fn operator(&self, actions: &mut Vec<Action>) {
        let timed = self.timed;
        if timed.may_pass() {
            actions.push(Action::Pass);
        }
        if timed.may_keep() {
            actions.push(Action::Keep);
        }
        if !timed.pending() || timed.hour == SWITCHED {
            actions.push(Action::Drain);
        }
        if timed.pending() {
            actions.push(Action::Fix);
            return;
        }
        actions.push(Action::Arm);
        for slot in 0..SLOTS as u32 {
            actions.push(Action::Switch(slot));
            actions.push(Action::Force(slot));
            let hours = [0, SWITCHED].into_iter();
            let hours = hours.filter(|hour| timed.may_schedule(*hour));
            actions.extend(hours.map(|hour| Action::Schedule(slot, hour)));
        }
        if self.may_settle() {
            actions.push(Action::Settle);
        }
    }

    /// Remains do not hold a window open.
    fn may_settle(&self) -> bool {
        let new = self.bucket[self.word().current() as usize];
        self.connection.is_none_or(|c| c.home == new)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Begin { cookie } => self.begin(cookie),
            Action::Repeat => self.repeat(),
            Action::Speak { forged } => self.speak(forged),
            Action::Close { lingers } => self.close(lingers),
            Action::Late => self.late(),
            Action::Expire(endpoint) => {
                self.sockets[usize::from(endpoint)] = Socket::Listening;
            }
            Action::Arm => self.timed.word = self.word().arm(),
            Action::Switch(slot) => {
                self.switched();
                self.timed.word = self.word().switch_to(slot);
            }
            // A timed word stays one.
            Action::Drain => self.timed.word = self.timed.word.drain(),
            Action::Settle => self.timed.word = self.word().settle(),
            Action::Force(slot) => self.force(slot),
            Action::Schedule(slot, hour) => {
                if hour == SWITCHED {
                    self.switched();
                }
                self.timed = self.timed.schedule(slot, hour);
            }
            Action::Pass => {
                let next = self.timed.pass();
                if next.now().current() != self.word().current() {
                    self.switched();
                }
                self.timed = next;
            }
            Action::Keep => self.timed = self.timed.keep(),
            Action::Fix => self.timed = self.timed.fix(),
        }
    }

    fn begin(&mut self, cookie: bool) {
        let home = self.went(Segment::syn(0), None);
        self.stale |= home != self.bucket[self.word().current() as usize];
        // A SYN ends TIME_WAIT, whatever it is answered with (tcp_v4_rcv, TCP_TW_SYN).
        self.sockets[usize::from(home)] = match cookie {
            true => Socket::Listening,
            false => Socket::Request,
        };
        self.connection = Some(Connection {
            home,
            cookie,
            opening: true,
            repeats: true,
        });
    }

    fn repeat(&mut self) {
        let home = self.went(Segment::syn(0), None);
        self.strayed |= self.connection.is_some_and(|c| c.home != home);
    }

    fn speak(&mut self, forged: Option<u16>) {
        let went = self.went(Segment::OTHER, forged);
        if let Some(connection) = &mut self.connection {
            self.strayed |= connection.home != went;
            connection.opening = false;
            connection.cookie = false;
            self.sockets[usize::from(connection.home)] = Socket::Established;
        }
    }

    fn close(&mut self, lingers: bool) {
        if let Some(connection) = self.connection.take() {
            self.sockets[usize::from(connection.home)] = match lingers {
                true => Socket::TimeWait,
                false => Socket::Listening,
            };
        }
    }

    fn late(&mut self) {
        let went = self.went(Segment::OTHER, None);
        let asked = |slot: &usize| self.word().in_use() & 1 << slot != 0;
        let in_use = (0..SLOTS).filter(asked).map(|slot| self.bucket[slot]);
        let mut remains = in_use.filter(|e| self.sockets[usize::from(*e)] == Socket::TimeWait);
        let windowed = self.word().phase() != Phase::Steady;
        let found = self.sockets[usize::from(went)] == Socket::TimeWait;
        self.unburied |= windowed && remains.next().is_some() && !found;
    }

    fn word(&self) -> Word {
        self.timed.now()
    }

    /// The table changes.
    fn switched(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.repeats &= !connection.cookie;
        }
    }

    /// Whoever is moved by force is lost: its server answers with a reset.
    fn force(&mut self, slot: u32) {
        self.timed.word = self.word().force(slot);
        if !self.may_settle() {
            self.close(false);
        }
    }

    /// Where the algorithm sends a segment.
    fn went(&self, segment: Segment, forged: Option<u16>) -> u16 {
        let new = self.bucket[self.word().current() as usize];
        if self.word().phase() == Phase::Steady {
            return new;
        }
        let choice = |slot: u32| self.bucket.get(slot as usize).copied();
        let owner = |endpoint| self.owner(endpoint, segment, forged);
        steer::owned(
            self.word(),
            new,
            segment,
            choice,
            owner,
            std::convert::identity,
        )
        .0
    }

    fn owner(&self, endpoint: u16, segment: Segment, forged: Option<u16>) -> Ownership {
        let pending = self.connection.filter(|c| c.cookie && c.home == endpoint);
        match self.sockets[usize::from(endpoint)] {
            Socket::Request | Socket::Established => Ownership::Owns,
            Socket::TimeWait => Ownership::TimeWait,
            Socket::Listening
                if !segment.opens && (pending.is_some() || forged == Some(endpoint)) =>
            {
                Ownership::Cookie
            }
            Socket::Listening => Ownership::None,
        }
    }
}
