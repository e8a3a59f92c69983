//! Masqueraded flows.

use core::arch::asm;

use aya_ebpf::bindings::{BPF_EXIST, BPF_F_NO_PREALLOC, BPF_NOEXIST};
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
    fn keep_nat_port(&self, key: &NatPort, client: &NatClient) -> bool {
        // SAFETY: an entry is freed after a grace period; whose it is never changes in place.
        let holder = unsafe { NAT_PORTS.get(key) };
        holder.is_some_and(|holder| holder.flow() == client.flow())
            && NAT_PORTS.insert(key, client, u64::from(BPF_EXIST)).is_ok()
    }

    #[inline(always)]
    fn claim_nat_port(
        &self,
        key: &NatPort,
        now: u32,
        may: impl FnOnce(&NatClient) -> bool,
    ) -> bool {
        let Some(place) = NAT_PORTS.get_ptr_mut(key) else {
            return false;
        };
        // SAFETY: as in `nat_flow`; what has changed when the port is claimed is seen there.
        let was = unsafe { (&raw const (*place).server).read_volatile() };
        // SAFETY: likewise.
        if !may(unsafe { &*place }) {
            return false;
        }
        let seen = Activity::new(now, was.state());
        // Whoever comes second finds another word. SAFETY: an aligned word of an entry, as all that write it do.
        let found = unsafe { exchange((&raw mut (*place).server).cast(), was.0, seen.0) };
        found == was.0
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

/// What was at `place`; if that is `was`, it is `next` from now on. The target says that it has no such instruction, but
/// the kernel has it since 5.12.
///
/// # Safety
/// `place` is an aligned word of a map's entry.
#[inline(always)]
unsafe fn exchange(place: *mut u64, was: u64, next: u64) -> u64 {
    let found;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({place} + 0, r0, {next})",
            place = in(reg) place,
            next = in(reg) next,
            inout("r0") was => found,
        );
    }
    found
}

#[inline(always)]
fn taken(result: Result<(), i32>) -> Taken {
    match result {
        Ok(()) => Taken::Yes,
        Err(EXISTS) => Taken::Already,
        Err(_) => Taken::Full,
    }
}
