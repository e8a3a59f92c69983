//! The data path in the kernel: programs, links and maps, all pinned, so that they outlive the agent.

mod apply;
mod attach;
mod bpf;
mod flows;
pub(crate) mod foreign;
mod load;
mod mapped;
mod maps;
mod pins;
mod snapshot;
mod sockets;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use switcher_common::abi::{Counters, Settings, TICK_SHIFT};
use switcher_common::verdict::Reason;
use switcher_common::word::Word;

use super::{Attachment, Change, Datapath, GroupIndex, Have};
use crate::config::{AgentConfig, XdpMode};

pub use attach::EgressHook;
pub(super) use attach::{attached_links, remove_clsact};
pub use load::{EGRESS, INGRESS, OBJECT};
pub use maps::Maps;
pub use pins::Pins;

/// Idle time after which a UDP flow is forgotten.
const UDP_IDLE: Duration = Duration::from_secs(60);

/// The programs and maps of this host, held by the only agent.
#[derive(Debug)]
pub struct KernelDatapath {
    maps: Maps,
    interfaces: Vec<(String, XdpMode)>,
    pins: Pins,
    _lock: pins::Lock,
}

impl KernelDatapath {
    /// Takes over what is pinned, or loads everything afresh, and attaches both programs to every
    /// interface. `seed` is used only where the maps have none yet.
    ///
    /// # Errors
    /// When another agent holds the lock, the kernel refuses the programs, or an interface does not take
    /// them; each says what to do. Programs that were attached before stay so.
    pub fn open(config: &AgentConfig, seed: u64) -> anyhow::Result<Self> {
        Self::open_with(config, seed, EgressHook::for_this_kernel())
    }

    /// As [`Self::open`], with the choice of the egress hook; for tests of the older one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(config: &AgentConfig, seed: u64, egress: EgressHook) -> anyhow::Result<Self> {
        let pins = Pins::prepare(&config.bpffs)?;
        let lock = pins.lock()?;
        let mut programs = load::programs(&pins)?;
        let maps = Maps::open(&pins)?;
        settle_settings(&maps, seed);
        for interface in &config.interfaces {
            attach::ingress(&mut programs, &pins, interface, config.xdp)?;
            attach::egress(&mut programs, &pins, interface, egress)?;
        }
        attach::leave_others(&pins, &config.interfaces, config.xdp)?;
        let interfaces = config
            .interfaces
            .iter()
            .map(|name| (name.clone(), config.xdp))
            .collect();
        Ok(Self {
            maps,
            interfaces,
            pins,
            _lock: lock,
        })
    }

    /// The maps, for `explain` and tests.
    pub const fn maps(&self) -> &Maps {
        &self.maps
    }
}

fn settle_settings(maps: &Maps, seed: u64) {
    let known: Settings = maps.settings.read(0);
    let idle = (UDP_IDLE.as_nanos() >> TICK_SHIFT) as u32;
    let seed = if known.seed == 0 { seed } else { known.seed };
    maps.settings.write(
        0,
        Settings {
            seed,
            udp_idle: idle,
            reserved: 0,
        },
    );
}

impl Datapath for KernelDatapath {
    fn have(&self) -> anyhow::Result<Have> {
        self.maps.have()
    }

    fn apply(&mut self, change: &Change) -> anyhow::Result<()> {
        apply::apply(&self.maps, change)
            .with_context(|| format!("changing the kernel's maps: {change:?}"))
    }

    fn word(&self, group: GroupIndex) -> Word {
        self.maps.word(group)
    }

    fn store(&mut self, group: GroupIndex, word: Word) {
        self.maps.store(group, word);
    }

    fn settle(&mut self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        self.maps.grace_period()?;
        Ok(begun.elapsed())
    }

    fn open_window(&mut self, group: GroupIndex, flows: u32) -> anyhow::Result<()> {
        self.maps.open_window(group, flows)
    }

    fn close_window(&mut self, group: GroupIndex) -> anyhow::Result<()> {
        self.maps.close_window(group)
    }

    fn void_udp_flows(&mut self, group: GroupIndex, epoch: u32) {
        let state = switcher_common::abi::GroupState {
            udp_floor: epoch,
            reserved: 0,
        };
        self.maps.groups.write(u32::from(group), state);
    }

    fn flows(&self, group: GroupIndex, idle: Duration) -> anyhow::Result<BTreeMap<u16, u64>> {
        flows::by_endpoint(&self.maps, group, idle)
    }

    fn flow_map_used(&self, group: GroupIndex) -> anyhow::Result<f64> {
        flows::window_used(&self.maps, group)
    }

    fn counters(&self, cell: u32) -> anyhow::Result<Counters> {
        self.maps.counters(cell)
    }

    fn reasons(&self) -> anyhow::Result<Vec<(Reason, u64)>> {
        self.maps.reasons()
    }

    fn attachments(&self) -> Vec<Attachment> {
        self.interfaces
            .iter()
            .map(|(interface, mode)| Attachment {
                interface: interface.clone(),
                xdp: mode.name().to_owned(),
                attached: attach::is_attached(&self.pins, interface, *mode),
            })
            .collect()
    }
}
