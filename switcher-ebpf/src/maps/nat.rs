//! Masqueraded flows.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::macros::btf_map;
use switcher_common::abi::FlowKey;
use switcher_common::abi::nat::{
    Activity, DEFAULT_NAT_FLOWS, MAX_NAT_SOURCES, NatClient, NatFlow, NatPort, NatSource,
};
use switcher_common::nat::{Found, NatTables, Taken};

use super::Maps;

const SOURCES: usize = MAX_NAT_SOURCES as usize;
const FLOWS: usize = DEFAULT_NAT_FLOWS as usize;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
/// `-EEXIST`.
const EXISTS: i32 = -17;

#[btf_map]
static NAT_SOURCES: HashMap<u32, NatSource, SOURCES, NO_PREALLOC> = HashMap::new();
#[btf_map]
static NAT_FLOWS: HashMap<FlowKey, NatFlow, FLOWS, NO_PREALLOC> = HashMap::new();
#[btf_map]
static NAT_PORTS: HashMap<NatPort, NatClient, FLOWS, NO_PREALLOC> = HashMap::new();

impl NatTables for Maps {
    #[inline(always)]
    fn nat_source(&self, endpoint: u16) -> Option<&NatSource> {
        // SAFETY: an entry is replaced whole, and freed after a grace period.
        unsafe { NAT_SOURCES.get(u32::from(endpoint)) }
    }

    #[inline(always)]
    fn nat_flow(&self, key: &FlowKey, see: impl FnOnce(&NatFlow) -> Activity) -> Found<NatFlow> {
        let Some(place) = NAT_FLOWS.get_ptr_mut(key) else {
            return Found::default();
        };
        // SAFETY: an entry is freed after a grace period, and what else changes in it is one word of the
        // endpoint's activity at a time.
        let entry = unsafe { place.read() };
        let client = see(&entry);
        if client != entry.client {
            // SAFETY: an aligned word.
            unsafe { (&raw mut (*place).client).write_volatile(client) };
        }
        Found {
            exists: true,
            entry,
        }
    }

    #[inline(always)]
    fn nat_client(
        &self,
        key: &NatPort,
        see: impl FnOnce(&NatClient) -> Activity,
    ) -> Found<NatClient> {
        let Some(place) = NAT_PORTS.get_ptr_mut(key) else {
            return Found::default();
        };
        // SAFETY: as in `nat_flow`, with the client's activity.
        let entry = unsafe { place.read() };
        let server = see(&entry);
        if server != entry.server {
            // SAFETY: an aligned word.
            unsafe { (&raw mut (*place).server).write_volatile(server) };
        }
        Found {
            exists: true,
            entry,
        }
    }

    #[inline(always)]
    fn tell_nat_flow(&self, key: &FlowKey, server: Activity) {
        if let Some(flow) = NAT_FLOWS.get_ptr_mut(key) {
            // SAFETY: an aligned word.
            unsafe { (&raw mut (*flow).server).write_volatile(server) };
        }
    }

    #[inline(always)]
    fn tell_nat_client(&self, key: &NatPort, client: Activity) {
        if let Some(port) = NAT_PORTS.get_ptr_mut(key) {
            // SAFETY: an aligned word.
            unsafe { (&raw mut (*port).client).write_volatile(client) };
        }
    }

    #[inline(always)]
    fn take_nat_port(&self, key: &NatPort, client: &NatClient) -> Taken {
        taken(NAT_PORTS.insert(key, client, u64::from(BPF_NOEXIST)))
    }

    #[inline(always)]
    fn release_nat_port(&self, key: &NatPort) {
        let _gone = NAT_PORTS.remove(key);
    }

    #[inline(always)]
    fn set_nat_flow(&self, key: &FlowKey, flow: &NatFlow, replace: bool) -> Taken {
        let flags = if replace { 0 } else { u64::from(BPF_NOEXIST) };
        taken(NAT_FLOWS.insert(key, flow, flags))
    }

    #[inline(always)]
    fn remove_nat_flow(&self, key: &FlowKey) {
        let _gone = NAT_FLOWS.remove(key);
    }
}

#[inline(always)]
fn taken(result: Result<(), i32>) -> Taken {
    match result {
        Ok(()) => Taken::Yes,
        Err(EXISTS) => Taken::Already,
        Err(_) => Taken::Full,
    }
}
