//! The data path in the kernel: load, attach, pin, adopt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use aya::maps::{Map, MapData, RingBuf};
use switcher_common::abi::notice::Notice;
use switcher_common::abi::{Counters, Settings, TICK_SHIFT, Times, map};
use switcher_common::verdict::Reason;
use switcher_common::word::Word;

use super::attach;
use super::attach::tc::{Side, Tc};
use super::clients::{self, Bypass, LocalClients, LocalClientsState};
use super::nat::{self, Collecting, Collector, Masqueraded};
use super::pinned::Pinned;
use super::pins::{Lock, Pins};
use super::programs::Programs;
use super::{Attachment, Change, Datapath, Flows, Grace, GroupIndex, Have, Hold};
use crate::config::{AgentConfig, InterfaceConfig, XdpMode};
use crate::host;

/// The kernel object, built from source by `build.rs`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/switcher"));

/// After this long a UDP flow without packets is forgotten.
const UDP_IDLE: Duration = Duration::from_secs(60);
/// All CPUs together may fill a window's flow map in this many ticks,
const FILLED_IN: u32 = 16;
/// and SYNs alone one in so many of it while a group is armed.
const ARMED: u32 = 4;

/// The agent's hold of the kernel. Dropping it changes nothing for traffic.
pub struct KernelDatapath {
    pinned: Pinned,
    notices: RingBuf<MapData>,
    config: AgentConfig,
    how: Tc,
    /// Interfaces by name, and the index that each had when programs were attached to it.
    indices: BTreeMap<String, u32>,
    clients: LocalClients,
    collecting: Collecting,
    // Kept until the end: the right to change anything.
    lock: Lock,
}

impl KernelDatapath {
    /// Takes over what is pinned, loads what is missing of it, and attaches to the configured interfaces. `seed` is
    /// the installation's, and counts only if none is pinned; 0 draws one.
    ///
    /// # Errors
    /// When another agent runs, something is missing or not permitted, an interface refuses the mode or
    /// has somebody else's program. Interfaces that were attached before stay so; new ones are undone.
    pub fn open(config: &AgentConfig, seed: u64) -> anyhow::Result<Self> {
        Self::open_with(config, seed, Tc::supported())
    }

    /// [`Self::open`] with the choice of how tc programs are attached.
    ///
    /// # Errors
    /// As with [`Self::open`].
    pub fn open_with(config: &AgentConfig, seed: u64, how: Tc) -> anyhow::Result<Self> {
        let pins = Pins::new(&config.bpffs);
        pins.create()?;
        let lock = pins.lock()?;
        pins.refuse_other_versions()?;
        let mut programs = programs(&pins, config)?;
        let mut pinned = Pinned::open(&config.bpffs)?;
        pinned.nat_idle = nat::idle(&config.masquerade);
        settle_settings(&pinned, seed, config)?;
        let before = pins.interfaces();
        let indices = match attach_all(&pins, &mut programs, config, how) {
            Ok(indices) => indices,
            Err(error) => {
                let names = config.interfaces.iter().map(|wanted| &wanted.name);
                for new in names.filter(|name| !before.contains(name)) {
                    release(&pins, new)?;
                }
                return Err(error);
            }
        };
        let wanted = |name: &String| config.interfaces.iter().any(|it| it.name == *name);
        for gone in before.iter().filter(|name| !wanted(name)) {
            tracing::info!(interface = gone, "not configured any more; detaching");
            release(&pins, gone)?;
        }
        let clients = clients::attach(&pins, &pinned, &mut programs, config)?;
        programs.forget_others()?;
        let notices = notices(&pins)?;
        let collecting = Collector::open(&config.bpffs, &config.masquerade)?.start()?;
        for what in pinned.left_to_give_up()? {
            collecting.give_up(what);
        }
        Ok(Self {
            pinned,
            notices,
            clients,
            collecting,
            config: config.clone(),
            how,
            indices,
            lock,
        })
    }

    /// The installation's seed: of the flow hash and of every table.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.pinned.maps.settings.get(0).seed
    }

    fn give_up_masqueraded(&self, group: GroupIndex) -> anyhow::Result<()> {
        if let Some(what) = self.pinned.given_up(group)? {
            // Flows that an older word begins elsewhere have begun then.
            self.pinned.settle()?;
            self.collecting.give_up(what);
            self.pinned.forget_counts();
        }
        Ok(())
    }

    fn hold(&self, wanted: &InterfaceConfig) -> Hold {
        let pins = self.pinned.pins();
        let Ok(Some(interface)) = host::interface(&wanted.name) else {
            return Hold::Absent;
        };
        let incoming = match wanted.xdp {
            XdpMode::Native | XdpMode::Generic => {
                attach::is_attached(&pins.xdp(&wanted.name), &interface)
            }
            XdpMode::Tc => attach::tc::is_there(pins, &interface, Side::Ingress),
        };
        let same = self.indices.get(&wanted.name) == Some(&interface.index);
        match incoming && attach::tc::is_there(pins, &interface, Side::Egress) {
            true => Hold::Attached,
            false if same => Hold::Detached,
            false => Hold::Recreated,
        }
    }

    /// The maps.
    #[must_use]
    pub const fn pinned(&self) -> &Pinned {
        &self.pinned
    }
}

/// The ring buffer by which the programs tell the agent of rare things.
fn notices(pins: &Pins) -> anyhow::Result<RingBuf<MapData>> {
    let pin = pins.map(map::NOTICES);
    let map = MapData::from_pin(&pin).and_then(Map::from_map_data);
    map.and_then(RingBuf::try_from)
        .with_context(|| format!("{}: can't be opened", pin.display()))
}

/// The seed is drawn once: another one would give every flow another bucket.
fn settle_settings(pinned: &Pinned, seed: u64, config: &AgentConfig) -> anyhow::Result<()> {
    let old = pinned.maps.settings.get(0);
    let seed = match (old.seed, seed) {
        (0, 0) => draw()?,
        (0, given) => given,
        (kept, _) => kept,
    };
    let settings = Settings {
        seed,
        udp_idle: ticks_of(UDP_IDLE),
        tags: tags(config.flows),
        nat_udp_idle: ticks_of(config.masquerade.udp),
        ..old
    };
    pinned.maps.settings.set(0, &settings);
    Ok(())
}

/// A duration in ticks, and one more for the one that has begun.
pub(super) fn ticks_of(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos() >> TICK_SHIFT).unwrap_or(u32::MAX - 1) + 1
}

/// One tag in how many SYNs may have, if a group is armed for so long.
fn syn_share(arm: Duration) -> u16 {
    let share = (ARMED.saturating_mul(ticks_of(arm).saturating_add(1))).div_ceil(FILLED_IN);
    u16::try_from(share).unwrap_or(u16::MAX)
}

/// How many tags of a kind a CPU may make in a tick, for a flow map of this size.
fn tags(flows: u32) -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
    (flows / FILLED_IN / cpus).max(64)
}

fn draw() -> anyhow::Result<u64> {
    use std::io::Read as _;
    let mut seed = [0; 8];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut r| r.read_exact(&mut seed));
    random.context("/dev/urandom can't be read")?;
    Ok(u64::from_ne_bytes(seed) | 1)
}

fn programs(pins: &Pins, config: &AgentConfig) -> anyhow::Result<Programs> {
    let log = config.state_dir.join("verifier.log");
    Programs::open(pins, &config.masquerade, log)
}

/// Replies first: no client may see an answer with an endpoint's address. An interface that has gone since it
/// had programs may come back. Returns the indices of the others.
fn attach_all(
    pins: &Pins,
    programs: &mut Programs,
    config: &AgentConfig,
    how: Tc,
) -> anyhow::Result<BTreeMap<String, u32>> {
    let known = pins.interfaces();
    let mut interfaces = Vec::new();
    for wanted in &config.interfaces {
        if known.contains(&wanted.name) && host::interface(&wanted.name)?.is_none() {
            tracing::error!(
                interface = wanted.name,
                "has gone; its traffic is not steered"
            );
            continue;
        }
        interfaces.push((attach::usable(pins, &wanted.name, wanted.xdp)?, wanted.xdp));
    }
    // What is refused is refused before anything is attached.
    for (_, mode) in &interfaces {
        match mode {
            XdpMode::Native | XdpMode::Generic => programs.xdp().map(drop)?,
            XdpMode::Tc => programs.tc_ingress().map(drop)?,
        }
    }
    let mut egress = programs.tc_egress()?;
    for (interface, _) in &interfaces {
        attach::tc::attach(pins, &mut egress, interface, Side::Egress, how)?;
    }
    for (interface, mode) in &interfaces {
        attach::incoming(pins, programs, interface, *mode, how)?;
    }
    let indices = interfaces.into_iter();
    Ok(indices.map(|(it, _)| (it.name, it.index)).collect())
}

/// Detaches from an interface.
pub(super) fn release(pins: &Pins, interface: &str) -> anyhow::Result<()> {
    attach::remove_link(&pins.xdp(interface))?;
    attach::tc::remove_all(pins, interface)
}

impl Datapath for KernelDatapath {
    fn have(&self) -> anyhow::Result<Have> {
        self.pinned.have()
    }

    fn apply(&mut self, change: &Change) -> anyhow::Result<()> {
        let prepared = match change {
            Change::SetEndpoint { id, endpoint } => {
                self.pinned
                    .prepare_source(*id, endpoint, &self.config.masquerade)
            }
            _ => Ok(()),
        };
        prepared
            .and_then(|()| self.pinned.apply(change))
            .with_context(|| format!("can't be done: {change}"))
    }

    fn set_arming(&mut self, longest: Duration) {
        let settings = &self.pinned.maps.settings;
        let changed = Settings {
            syn_share: syn_share(longest),
            ..settings.get(0)
        };
        settings.set(0, &changed);
    }

    fn word(&self, group: GroupIndex) -> Word {
        self.pinned.word(group)
    }

    fn store(&mut self, group: GroupIndex, word: Word) {
        self.pinned.store(group, word);
    }

    fn times(&self, group: GroupIndex) -> Times {
        self.pinned.times(group)
    }

    fn set_times(&mut self, group: GroupIndex, times: Times) {
        self.pinned.set_times(group, times);
    }

    fn settle(&mut self) -> anyhow::Result<Duration> {
        self.pinned.settle()
    }

    fn grace(&self) -> Option<Arc<dyn Grace>> {
        Some(self.pinned.grace())
    }

    fn forget_counts(&self) {
        self.pinned.forget_counts();
    }

    fn open_window(&mut self, group: GroupIndex, flows: u32) -> anyhow::Result<()> {
        self.pinned.open_window(group, flows)
    }

    fn close_window(&mut self, group: GroupIndex) -> anyhow::Result<()> {
        self.pinned.close_window(group)
    }

    fn give_up(&mut self, group: GroupIndex, epoch: u32) {
        let mut state = self.pinned.maps.groups.get(group.into());
        state.udp_floor = epoch;
        self.pinned.maps.groups.set(group.into(), &state);
        if let Err(error) = self.give_up_masqueraded(group) {
            tracing::warn!("masqueraded flows of other colours stay: {error:#}");
        }
    }

    fn links_changed(&mut self) {
        self.collecting.renew();
    }

    fn hold_until(&mut self, group: GroupIndex, at_most: Duration) {
        let mut state = self.pinned.maps.groups.get(group.into());
        state.held_until = super::flows::ticks().wrapping_add(ticks_of(at_most));
        self.pinned.maps.groups.set(group.into(), &state);
    }

    fn end_connections(&mut self, group: GroupIndex) -> anyhow::Result<u64> {
        self.pinned.end_connections(group)
    }

    fn flows(&self, group: GroupIndex, idle: Duration) -> anyhow::Result<Flows> {
        self.pinned.flows(group, idle)
    }

    fn masqueraded(&self) -> anyhow::Result<Option<Masqueraded>> {
        self.pinned.masqueraded()
    }

    fn flow_map_used(&self, group: GroupIndex) -> anyhow::Result<f64> {
        self.pinned.flow_map_used(group)
    }

    fn counters(&self, cells: &[u32]) -> anyhow::Result<Vec<Counters>> {
        self.pinned.counters(cells)
    }

    fn reasons(&self) -> anyhow::Result<Vec<(Reason, u64)>> {
        self.pinned.reasons()
    }

    fn notices(&mut self) -> Vec<Notice> {
        let mut found = Vec::new();
        while let Some(entry) = self.notices.next() {
            found.extend(bytemuck::try_pod_read_unaligned::<Notice>(&entry).ok());
        }
        found
    }

    fn attachments(&self) -> Vec<Attachment> {
        let attachment = |wanted: &InterfaceConfig| Attachment {
            interface: wanted.name.clone(),
            xdp: wanted.xdp.name().into(),
            hold: self.hold(wanted),
        };
        self.config.interfaces.iter().map(attachment).collect()
    }

    fn attach_again(&mut self, interface: &str) -> anyhow::Result<()> {
        let mut all = self.config.interfaces.iter();
        let wanted = all.find(|wanted| wanted.name == interface).cloned();
        let wanted = wanted.with_context(|| format!("{interface}: not configured"))?;
        let one = AgentConfig {
            interfaces: vec![wanted],
            ..self.config.clone()
        };
        let pins = self.pinned.pins();
        let mut programs = programs(pins, &one)?;
        let index = attach_all(pins, &mut programs, &one, self.how)?;
        self.indices.extend(index);
        Ok(())
    }

    fn is_pinned(&self) -> bool {
        let pins = self.pinned.pins();
        pins.exist() && self.lock.is_of(pins)
    }

    fn local_clients(&self) -> LocalClients {
        let mut clients = self.clients.clone();
        if clients.state == LocalClientsState::On && !clients::attached(self.pinned.pins()) {
            clients.state = LocalClientsState::Lost;
            clients.reason = Some(
                "the cgroup has gone, or somebody has detached the programs; traffic from other hosts goes on"
                    .into(),
            );
        }
        clients
    }

    fn steer_clients_again(&mut self) -> anyhow::Result<()> {
        let pins = self.pinned.pins();
        let mut programs = programs(pins, &self.config)?;
        self.clients = clients::attach(pins, &self.pinned, &mut programs, &self.config)?;
        Ok(())
    }

    fn bypass(&self) -> Bypass {
        Bypass::new(self.pinned.pins()).unwrap_or_else(|error| {
            tracing::warn!("health checks of a VIP may reach another colour's endpoint: {error:#}");
            Bypass::default()
        })
    }
}
