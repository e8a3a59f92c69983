//! Garbage: flows that have ended are forgotten, and their ports given back, by a thread of their own.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use switcher_common::abi::nat::{NatClient, NatFlow, NatPort};
use switcher_common::abi::{
    Endpoint, MAX_ENDPOINTS, MAX_SERVICES, Service, endpoint_flags, map, service_flags,
};
use switcher_common::nat::{Idle, has_ended, is_older, may_have_ended};

use super::given_up::GivenUp;
use super::maps::NatMaps;
use super::source::source;
use super::{idle, is_udp};
use crate::config::Masquerade;
use crate::datapath::flows::ticks;
use crate::datapath::mapped::Mapped;
use crate::datapath::pins::Pins;
use crate::datapath::table;

/// The least time between two looks at all flows.
const EVERY: Duration = Duration::from_secs(1);
/// At most one part in so many of a CPU's time goes into looking at flows that stay. To forget those that have ended is work
/// that has to be done as fast as they come.
const SHARE: u32 = 10;
/// How long whoever gives flows up waits.
const PATIENCE: Duration = Duration::from_millis(250);
/// Time between two looks at which addresses lead to endpoints.
const SOURCES_EVERY: Duration = Duration::from_secs(5);

/// What a look at all flows came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Flows there were.
    pub flows: u64,
    /// Of these, those that had ended and are forgotten.
    pub ended: u64,
    /// What that took.
    pub forgetting: Duration,
}

impl Swept {
    /// How long to wait after a look that took so long.
    fn pause(&self, took: Duration) -> Duration {
        EVERY.max(took.saturating_sub(self.forgetting) * SHARE)
    }
}

/// Forgets flows that have ended.
///
/// Nothing that lives may vanish: an entry is removed and looked at in one step, and one that a packet has
/// met in the microsecond before goes back. A packet in between is sent again.
pub struct Collector {
    maps: NatMaps,
    services: Mapped<Service>,
    endpoints: Mapped<Endpoint>,
    config: Masquerade,
    idle: Idle,
}

impl Collector {
    /// Opens the maps pinned below `bpffs`.
    ///
    /// # Errors
    /// When there are none, or this process may not open them (CAP_BPF).
    pub fn open(bpffs: &Path, config: &Masquerade) -> anyhow::Result<Self> {
        let pins = Pins::new(bpffs);
        Ok(Self {
            maps: NatMaps::open(&pins)?,
            services: table::mapped(&pins.map(map::SERVICES), MAX_SERVICES)?,
            endpoints: table::mapped(&pins.map(map::ENDPOINTS), MAX_ENDPOINTS)?,
            config: config.clone(),
            idle: idle(config),
        })
    }

    /// Looks at every flow once, and forgets those that have ended.
    ///
    /// # Errors
    /// When a map can't be read or changed.
    pub fn sweep(&self) -> anyhow::Result<Swept> {
        let now = ticks();
        let mut swept = Swept::default();
        let mut failed = None;
        self.maps.each_port(|port, client| {
            swept.flows += 1;
            if failed.is_none() && self.deserves_a_look(client, now) {
                let before = Instant::now();
                match self.end(port, client, now) {
                    Ok(true) => {
                        swept.ended += 1;
                        swept.forgetting += before.elapsed();
                    }
                    Ok(false) => {}
                    Err(error) => failed = Some(error),
                }
            }
        })?;
        match failed {
            None => Ok(swept),
            Some(error) => Err(error).context("a masqueraded flow that has ended stays"),
        }
    }

    fn deserves_a_look(&self, client: &NatClient, now: u32) -> bool {
        let service = self.services.get(client.service.into());
        !service.has(service_flags::PRESENT)
            || may_have_ended(client, is_udp(&service), now, self.idle)
    }

    /// Forgets a flow if it has ended; says whether.
    fn end(&self, port: &NatPort, client: &NatClient, now: u32) -> std::io::Result<bool> {
        let service = self.services.get(client.service.into());
        let over = |flow: &NatFlow| {
            !service.has(service_flags::PRESENT)
                || has_ended(flow.client, client.server, is_udp(&service), now, self.idle)
        };
        self.forget(port, client, over, |taken| taken == client)
    }

    /// Forgets a flow if it is over, and then gives its port back if that is still the `same`; says whether.
    fn forget(
        &self,
        port: &NatPort,
        client: &NatClient,
        over: impl Fn(&NatFlow) -> bool,
        same: impl Fn(&NatClient) -> bool,
    ) -> std::io::Result<bool> {
        let key = client.flow();
        let over = |flow: &NatFlow| flow.back() == *port && over(flow);
        match self.maps.flow(&key)? {
            Some(flow) if over(&flow) => {}
            // It lives: its client talks to an endpoint that says nothing.
            Some(flow) if flow.back() == *port => return Ok(false),
            // Another flow of the client has taken its place.
            Some(_) | None => return self.free(port, same),
        }
        if let Some(taken) = self.maps.take_flow(&key)?
            && !over(&taken)
        {
            self.maps.restore_flow(&key, &taken)?;
            return Ok(false);
        }
        self.free(port, same)
    }

    /// Gives a port back that no flow has any more, if it is still the one that was looked at.
    fn free(&self, port: &NatPort, same: impl Fn(&NatClient) -> bool) -> std::io::Result<bool> {
        let Some(taken) = self.maps.take_port(port)? else {
            return Ok(false);
        };
        if same(&taken) {
            return Ok(true);
        }
        self.maps.restore_port(port, &taken)?;
        Ok(false)
    }

    /// Forgets flows whatever they do, and says how many.
    ///
    /// # Errors
    /// When a map can't be read or changed.
    pub fn give_up(&self, what: &GivenUp) -> anyhow::Result<u64> {
        let (mut forgotten, mut failed) = (0, None);
        self.maps.each_port(|port, client| {
            let preview = |client: &NatClient| {
                let service = self.services.get(client.service.into());
                service.has(service_flags::PREVIEW)
            };
            let meant =
                what.endpoints.contains(&port.endpoint) && is_older(client.epoch, what.epoch);
            if !meant || failed.is_some() || preview(client) {
                return;
            }
            let over = |flow: &NatFlow| is_older(flow.epoch, what.epoch);
            let same =
                |taken: &NatClient| (taken.flow(), taken.epoch) == (client.flow(), client.epoch);
            match self.forget(port, client, over, same) {
                Ok(gone) => forgotten += u64::from(gone),
                Err(error) => failed = Some(error),
            }
        })?;
        match failed {
            None => Ok(forgotten),
            Some(error) => Err(error).context("a masqueraded flow that was given up stays"),
        }
    }

    /// Addresses come and go, and so do routes. Where there is none now, the last one stays: it is as good as none as long as there
    /// is no way, and right when the way is back.
    fn renew_sources(&mut self) -> anyhow::Result<()> {
        for id in 0..self.endpoints.len() {
            let endpoint = self.endpoints.get(id);
            if endpoint.has(endpoint_flags::PRESENT | endpoint_flags::MASQUERADE) {
                let wanted = source(endpoint.address.into(), &self.config);
                if wanted.count > 0 {
                    self.maps.set_source(id as u16, &wanted)?;
                }
            }
        }
        Ok(())
    }

    fn renew(&mut self) {
        if let Err(error) = self.renew_sources() {
            tracing::warn!("{error:#}");
        }
    }

    fn carry_out(&self, what: &GivenUp, done: &SyncSender<()>) {
        match self.give_up(what) {
            Ok(flows) => tracing::info!(flows, "masqueraded flows of other colours given up"),
            Err(error) => tracing::warn!("{error:#}"),
        }
        let _waits_no_longer = done.send(());
    }

    /// Goes on by itself until what is returned is dropped.
    ///
    /// # Errors
    /// When no thread can be made.
    pub(crate) fn start(mut self) -> anyhow::Result<Collecting> {
        let (orders, ordered) = channel::<Order>();
        let run = move || {
            let mut due = Instant::now() + EVERY;
            let mut renewed = Instant::now();
            loop {
                match ordered.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Ok(Order::GiveUp { what, done }) => {
                        self.carry_out(&what, &done);
                        continue;
                    }
                    Ok(Order::Renew) => {
                        self.renew();
                        continue;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                let before = Instant::now();
                let swept = self.sweep().unwrap_or_else(|error| {
                    tracing::warn!("{error:#}");
                    Swept::default()
                });
                due = Instant::now() + swept.pause(before.elapsed());
                if renewed.elapsed() >= SOURCES_EVERY {
                    renewed = Instant::now();
                    self.renew();
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("flows".to_owned())
            .spawn(run);
        Ok(Collecting {
            orders: Some(orders),
            thread: Some(thread.context("start the thread that forgets flows")?),
        })
    }
}

/// A [`Collector`] at work; it ends with this.
pub(crate) struct Collecting {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Collecting {
    /// Has it looked which addresses lead to endpoints now.
    pub(crate) fn renew(&self) {
        if let Some(orders) = &self.orders {
            let _ended = orders.send(Order::Renew);
        }
    }

    /// Has flows given up. Waits for that, but not for long: there may be a million.
    pub(crate) fn give_up(&self, what: GivenUp) {
        let (done, over) = sync_channel(1);
        let order = Order::GiveUp { what, done };
        let sent = self.orders.as_ref().map(|orders| orders.send(order));
        if !matches!(sent, Some(Ok(()))) || over.recv_timeout(PATIENCE).is_err() {
            tracing::warn!("masqueraded flows are still being given up");
        }
    }
}

/// What to do soon.
enum Order {
    /// Flows are given up, and somebody waits for it.
    GiveUp { what: GivenUp, done: SyncSender<()> },
    /// Other addresses may lead to endpoints.
    Renew,
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With what one flow costs on a slow machine, and as many closing ones as are there at any time.
    #[test]
    fn fifty_thousand_flows_a_second_are_kept_up_with() {
        const RATE: f64 = 50_000.0;
        const CLOSING: f64 = 30.0;
        let (look, forget) = (Duration::from_nanos(400), Duration::from_micros(8));
        let (mut ended, mut most) = (0.0, 0.0_f64);
        for _ in 0..1000 {
            let forgetting = forget.mul_f64(ended);
            let took = look.mul_f64(RATE * CLOSING + ended) + forgetting;
            let swept = Swept {
                forgetting,
                ..Swept::default()
            };
            ended = RATE * (took + swept.pause(took)).as_secs_f64();
            most = most.max(ended);
        }
        assert!(most < RATE * CLOSING, "{most} ended flows wait");
    }
}
