//! Programs at the other ends of links that Switcher sends to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap};
use aya::programs::Xdp;
use aya::programs::tc::{SchedClassifier, TcAttachType};
use aya::programs::xdp::XdpMode;
use aya::{Ebpf, EbpfLoader};
use switcher_harness::topology::INTERFACE;
use switcher_harness::{Mode, Namespace, Topology};

/// The object with the programs; see `tests/ebpf`.
const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/receiver"));

/// Programs on interfaces; they go when this does.
pub struct Receivers(Vec<Ebpf>);

impl Receivers {
    /// Lets the link between a topology's switch and its servers take what XDP transmits, and servers
    /// understand tunnels.
    ///
    /// # Errors
    /// When the kernel refuses a program.
    pub fn attach(topology: &Topology) -> Result<Self> {
        let mut receivers = Vec::new();
        if let Some((bridge, port)) = topology.port_of_switch() {
            receivers.push(on(bridge, &port, "pass")?);
        }
        if topology.mode == Mode::Ipip {
            for host in &topology.backends {
                receivers.push(on(host, INTERFACE, "decapsulate")?);
            }
        }
        Ok(Self(receivers))
    }

    /// Lets servers understand tunnels, of IPv4 in IPv4 alone, in packets of many segments, too.
    ///
    /// # Errors
    /// When the kernel refuses a program.
    pub fn attach_at_tc(topology: &Topology) -> Result<Self> {
        let hosts = topology.backends.iter();
        hosts.map(at_tc).collect::<Result<_>>().map(Self)
    }

    /// Packets of many segments that came at tc, and how many of them had another length than their outer header says.
    ///
    /// # Errors
    /// When the map can't be read.
    pub fn segmented(&self) -> Result<[u64; 2]> {
        let mut all = [0; 2];
        for ebpf in &self.0 {
            let map = ebpf.map("SEGMENTED").context("no map of segments")?;
            let map = Array::<_, u64>::try_from(map)?;
            for (place, sum) in (0..).zip(&mut all) {
                *sum += map.get(&place, 0)?;
            }
        }
        Ok(all)
    }

    /// Source addresses of outer headers that were seen, and how often.
    ///
    /// # Errors
    /// When the map can't be read.
    pub fn sources(&self) -> Result<BTreeMap<IpAddr, u64>> {
        let mut all = BTreeMap::new();
        for ebpf in &self.0 {
            let map = ebpf.map("SOURCES").context("no map of sources")?;
            for entry in HashMap::<_, [u8; 16], u64>::try_from(map)?.iter() {
                let (source, seen) = entry?;
                let address = Ipv6Addr::from(source);
                // An IPv4 address lies in the last four bytes.
                let address = match address.octets() {
                    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => IpAddr::from([a, b, c, d]),
                    _ => address.into(),
                };
                *all.entry(address).or_default() += seen;
            }
        }
        Ok(all)
    }
}

fn at_tc(namespace: &Namespace) -> Result<Ebpf> {
    namespace.inside(|| {
        let mut ebpf = EbpfLoader::new().load(OBJECT)?;
        let program = ebpf.program_mut("decapsulate_at_tc");
        let program: &mut SchedClassifier = program.context("no such program")?.try_into()?;
        program.load()?;
        program.attach(INTERFACE, TcAttachType::Ingress)?;
        Ok(ebpf)
    })?
}

fn on(namespace: &Namespace, interface: &str, name: &str) -> Result<Ebpf> {
    namespace.inside(|| {
        let mut ebpf = EbpfLoader::new().load(OBJECT)?;
        let program: &mut Xdp = ebpf
            .program_mut(name)
            .context("no such program")?
            .try_into()?;
        program.load()?;
        program
            .attach(interface, XdpMode::Driver)
            .with_context(|| format!("{name} on {interface}"))?;
        Ok(ebpf)
    })?
}
