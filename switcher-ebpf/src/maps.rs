//! Every map, and the pipeline's look-ups over them.

mod nat;

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{
    Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf, SkStorage,
};
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_map;
use switcher_common::abi::client::{Clients, SocketNote};
use switcher_common::abi::fragment::{FragmentKey, Fragmented, MAX_FRAGMENTED};
use switcher_common::abi::notice::{Notice, Noticed};
use switcher_common::abi::{
    self, AddressKey, BUCKETS_PER_ELEMENT, Counters, DEFAULT_FLOWS, Endpoint, FlowKey, GroupName,
    GroupState, MAX_ADDRESSES, MAX_BUCKETS, MAX_COUNTERS, MAX_ENDPOINTS, MAX_GROUPS, MAX_NOTES,
    MAX_SERVICES, NextHop, Note, PORTS_PER_WORD, Port, PortEntry, Service, ServiceName, Settings,
    Tag, TagBudget, Times, Tunnel, UDP_FLOWS, known_port,
};
use switcher_common::frame::KEPT;
use switcher_common::tables::{Count, Tables};
use switcher_common::tunnel::Parcel;
use switcher_common::verdict::{Reason, Stage};
use switcher_common::word::Word;

pub(crate) const MAPPED: usize = BPF_F_MMAPABLE as usize;
const GROUP_COUNT: usize = MAX_GROUPS as usize;
const SERVICE_COUNT: usize = MAX_SERVICES as usize;
const ENDPOINT_COUNT: usize = MAX_ENDPOINTS as usize;

/// Room for some hundred notices; what does not fit is lost.
const NOTICE_BYTES: usize = 1 << 16;

type Buckets = [u16; BUCKETS_PER_ELEMENT as usize];
type Window = HashMap<FlowKey, Tag, { DEFAULT_FLOWS as usize }, { BPF_F_NO_PREALLOC as usize }>;
type UdpFlows = LruHashMap<FlowKey, Tag, { UDP_FLOWS as usize }>;

#[btf_map]
static PORTS: Array<PortEntry, 65536, MAPPED> = Array::new();
#[btf_map]
static KNOWN_PORTS: Array<u64, { 65536 / PORTS_PER_WORD as usize }, MAPPED> = Array::new();
#[btf_map]
static ADDRESSES: HashMap<
    AddressKey,
    u32,
    { MAX_ADDRESSES as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();
#[btf_map]
static SERVICES: Array<Service, SERVICE_COUNT, MAPPED> = Array::new();
#[btf_map]
static STEERING: Array<u64, GROUP_COUNT, MAPPED> = Array::new();
#[btf_map]
static GROUPS: Array<GroupState, GROUP_COUNT, MAPPED> = Array::new();
#[btf_map]
static TABLES: Array<Buckets, { (MAX_BUCKETS / BUCKETS_PER_ELEMENT) as usize }, MAPPED> =
    Array::new();
#[btf_map]
static ENDPOINTS: Array<Endpoint, ENDPOINT_COUNT, MAPPED> = Array::new();
#[btf_map]
static TUNNELS: Array<Tunnel, ENDPOINT_COUNT, MAPPED> = Array::new();
#[btf_map]
static SETTINGS: Array<Settings, 1, MAPPED> = Array::new();
#[btf_map]
static NEXT_HOPS: PerCpuArray<NextHop, { abi::NEXT_HOPS as usize }> = PerCpuArray::new();
#[btf_map]
static COUNTERS: PerCpuArray<Counters, { MAX_COUNTERS as usize }> = PerCpuArray::new();
#[btf_map]
static REASONS: PerCpuArray<u64, 64> = PerCpuArray::new();
#[btf_map]
static TAG_BUDGET: PerCpuArray<TagBudget, 1> = PerCpuArray::new();
#[btf_map]
static NOTES: LruHashMap<FlowKey, Note, { MAX_NOTES as usize }> = LruHashMap::new();
#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, Fragmented, { MAX_FRAGMENTED as usize }> =
    LruHashMap::new();
#[btf_map]
static WINDOWS: ArrayOfMaps<Window, GROUP_COUNT> = ArrayOfMaps::new();
#[btf_map]
static UDP_FLOWS_OF: ArrayOfMaps<UdpFlows, GROUP_COUNT> = ArrayOfMaps::new();
#[btf_map]
static GROUP_NAMES: Array<GroupName, GROUP_COUNT> = Array::new();
#[btf_map]
static SERVICE_NAMES: Array<ServiceName, SERVICE_COUNT> = Array::new();
#[btf_map]
static NOTICES: RingBuf<Notice, NOTICE_BYTES> = RingBuf::new();
#[btf_map]
static NOTICED: PerCpuArray<Noticed, GROUP_COUNT> = PerCpuArray::new();
/// What is kept of the packet that is being worked on: at XDP hooks, at tc hooks, and from one stage to the next
/// wherever it came in.
#[btf_map]
pub(crate) static SCRATCH: PerCpuArray<[u64; KEPT / 8], 3> = PerCpuArray::new();
/// By [`Stage`].
#[btf_map]
pub(crate) static STAGES: ProgramArray<{ Stage::ALL.len() }> = ProgramArray::new();
/// Likewise at tc ingress: a map of programs has one type of them.
#[btf_map]
pub(crate) static TC_STAGES: ProgramArray<{ Stage::ALL.len() }> = ProgramArray::new();
#[btf_map]
pub(crate) static CLIENTS: Array<Clients, 1, MAPPED> = Array::new();
#[btf_map]
pub(crate) static SOCKETS: SkStorage<SocketNote> = SkStorage::new();

/// A key that is written to the stack: the compiler may write two words of it at once, which the verifier
/// only allows where they are aligned.
#[repr(C, align(8))]
struct Aligned<T>(T);
/// One program at egress takes over what is odd.
#[btf_map]
pub(crate) static EGRESS_STAGES: ProgramArray<1> = ProgramArray::new();

/// The maps of this object as the pipeline's tables.
pub(crate) struct Maps;

impl Tables for Maps {
    type Place = *mut Tag;

    #[inline(always)]
    fn known(&self, port: Port) -> bool {
        let (word, bit) = known_port(port.number());
        match KNOWN_PORTS.get(word) {
            Some(ports) => *ports & bit != 0,
            None => false,
        }
    }

    #[inline(always)]
    fn port(&self, port: Port) -> PortEntry {
        match PORTS.get(u32::from(port.number())) {
            Some(entry) => *entry,
            None => PortEntry::default(),
        }
    }

    #[inline(always)]
    fn find(&self, key: &AddressKey) -> Option<u16> {
        let key = Aligned(*key);
        // SAFETY: the value is one word, copied at once.
        let index = unsafe { ADDRESSES.get(&key.0) }?;
        Some(*index as u16)
    }

    #[inline(always)]
    fn service(&self, index: u16) -> Option<&Service> {
        SERVICES.get(u32::from(index))
    }

    #[inline(always)]
    fn endpoint(&self, id: u16) -> Option<&Endpoint> {
        ENDPOINTS.get(u32::from(id))
    }

    #[inline(always)]
    fn tunnel(&self, endpoint: u16) -> Tunnel {
        match TUNNELS.get(u32::from(endpoint)) {
            Some(tunnel) => *tunnel,
            None => Tunnel::default(),
        }
    }

    #[inline(always)]
    fn bucket(&self, bucket: u32) -> Option<u16> {
        let element = TABLES.get(bucket / BUCKETS_PER_ELEMENT)?;
        Some(element[(bucket % BUCKETS_PER_ELEMENT) as usize])
    }

    #[inline(always)]
    fn word(&self, group: u16) -> Word {
        match STEERING.get_ptr(u32::from(group)) {
            // SAFETY: an aligned word of a map that lives as long as the program; volatile, so that it is
            // read exactly once.
            Some(word) => Word(unsafe { word.read_volatile() }),
            None => Word::default(),
        }
    }

    #[inline(always)]
    fn udp_floor(&self, group: u16) -> u32 {
        GROUPS
            .get(u32::from(group))
            .map_or(0, |state| state.udp_floor)
    }

    #[inline(always)]
    fn times(&self, group: u16) -> Times {
        let Some(state) = GROUPS.get_ptr(u32::from(group)) else {
            return Times::default();
        };
        // SAFETY: aligned words of a map that lives as long as the program; volatile, so that each is read
        // exactly once.
        unsafe {
            Times {
                arm_at: (&raw const (*state).times.arm_at).read_volatile(),
                activate_at: (&raw const (*state).times.activate_at).read_volatile(),
                revert_at: (&raw const (*state).times.revert_at).read_volatile(),
                paused_until: (&raw const (*state).times.paused_until).read_volatile(),
            }
        }
    }

    #[inline(always)]
    fn settings(&self) -> Settings {
        match SETTINGS.get(0) {
            Some(settings) => *settings,
            None => Settings::default(),
        }
    }

    #[inline(always)]
    fn tag(&self, group: u16, key: &FlowKey) -> Option<(Tag, *mut Tag)> {
        let window = WINDOWS.get(u32::from(group))?;
        let place = window.get_ptr_mut(key)?;
        // SAFETY: copied at once; an entry that is replaced meanwhile is freed after a grace period.
        Some((unsafe { place.read() }, place))
    }

    #[inline(always)]
    fn set_tag(&self, group: u16, key: &FlowKey, tag: Tag) -> bool {
        match WINDOWS.get(u32::from(group)) {
            Some(window) => window.insert(key, tag, 0).is_ok(),
            None => false,
        }
    }

    #[inline(always)]
    fn touch(&self, place: *mut Tag, seen: u32) {
        // SAFETY: an aligned word of an entry, written in place, which takes no lock and no new entry. One that another
        // flow gets at this moment lives a little longer.
        unsafe { (&raw mut (*place).seen).write_volatile(seen) };
    }

    #[inline(always)]
    fn may_tag(&self, tag: &Tag) -> bool {
        let most = self.settings().tags_like(tag);
        match TAG_BUDGET.get_ptr_mut(0) {
            // SAFETY: this CPU's element.
            Some(budget) => unsafe { &mut *budget }.spend(tag, most),
            None => false,
        }
    }

    #[inline(always)]
    fn held_until(&self, group: u16) -> u32 {
        GROUPS
            .get(u32::from(group))
            .map_or(0, |state| state.held_until)
    }

    #[inline(always)]
    fn remove_tag(&self, group: u16, key: &FlowKey) {
        if let Some(window) = WINDOWS.get(u32::from(group)) {
            let _absent = window.remove(key);
        }
    }

    #[inline(always)]
    fn udp_flow(&self, group: u16, key: &FlowKey) -> Option<(Tag, *mut Tag)> {
        let flows = UDP_FLOWS_OF.get(u32::from(group))?;
        let place = flows.get_ptr_mut(key)?;
        // SAFETY: copied at once. An eviction in between can hand over another flow's tag for one
        // datagram, which is what LRU maps are.
        Some((unsafe { place.read() }, place))
    }

    #[inline(always)]
    fn set_udp_flow(&self, group: u16, key: &FlowKey, tag: Tag) -> bool {
        match UDP_FLOWS_OF.get(u32::from(group)) {
            Some(flows) => flows.insert(key, tag, 0).is_ok(),
            None => false,
        }
    }

    #[inline(always)]
    fn note(&self, key: &FlowKey) -> Option<Note> {
        // SAFETY: the value is one word, copied at once.
        unsafe { NOTES.get(key) }.copied()
    }

    #[inline(always)]
    fn set_note(&self, key: &FlowKey, note: Note) {
        let _full = NOTES.insert(key, note, 0);
    }

    #[inline(always)]
    fn remove_note(&self, key: &FlowKey) {
        let _absent = NOTES.remove(key);
    }

    #[inline(always)]
    fn mark_noted(&self, endpoint: u16) {
        if let Some(endpoint) = ENDPOINTS.get_ptr_mut(u32::from(endpoint)) {
            // SAFETY: an aligned word of a map that lives as long as the program; every writer stores 1.
            unsafe { (&raw mut (*endpoint).noted).write_volatile(1) };
        }
    }

    #[inline(always)]
    fn fragments(&self, key: &FragmentKey) -> Option<Fragmented> {
        // SAFETY: copied at once. An eviction in between can hand over what another packet's first fragment
        // said, which is what LRU maps are.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn set_fragments(&self, key: &FragmentKey, said: &Fragmented) {
        let _full = FRAGMENTS.insert(key, said, 0);
    }

    #[inline(always)]
    fn next_hop(&self, endpoint: u16) -> Option<NextHop> {
        let hop = NEXT_HOPS.get(u32::from(endpoint) % abi::NEXT_HOPS)?;
        (hop.endpoint == endpoint).then_some(*hop)
    }

    #[inline(always)]
    fn set_next_hop(&self, endpoint: u16, hop: NextHop) {
        if let Some(slot) = NEXT_HOPS.get_ptr_mut(u32::from(endpoint) % abi::NEXT_HOPS) {
            // SAFETY: this CPU's element, and the program is not preempted by another of its kind.
            unsafe { slot.write(hop) };
        }
    }

    #[inline(always)]
    fn hand_on(&self, parcel: &Parcel) {
        if let Some(place) = handed() {
            // SAFETY: this CPU's element, aligned and large enough as asserted; programs that packets come in by
            // do not interrupt each other.
            unsafe { place.write(*parcel) };
        }
    }

    #[inline(always)]
    fn handed_on<'a>(&self, _place: &'a mut MaybeUninit<Parcel>) -> Option<&'a mut Parcel> {
        // SAFETY: as above; the stage before has written it.
        handed().map(|place| unsafe { &mut *place })
    }

    #[inline(always)]
    fn notice(&self, kind: u32, group: u16, id: u16, mark: u32) {
        notice(kind, u32::from(group), u32::from(id), mark);
    }

    #[inline(always)]
    fn count(&self, cell: u32, event: Count) {
        let Some(counters) = COUNTERS.get_ptr_mut(cell) else {
            return;
        };
        // SAFETY: this CPU's element.
        let counters = unsafe { &mut *counters };
        match event {
            Count::Packet { bytes, begins } => {
                counters.packets += 1;
                counters.bytes += u64::from(bytes);
                counters.connections += u64::from(begins);
            }
            Count::Connection => {
                counters.connections += 1;
                counters.answers += 1;
            }
            Count::Reset => counters.resets += 1,
            Count::Answer => counters.answers += 1,
        }
    }

    #[inline(always)]
    fn count_reason(&self, reason: Reason) {
        if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
            // SAFETY: this CPU's element.
            unsafe { *count += 1 };
        }
    }
}

/// Where a stage leaves a packet to the next.
#[inline(always)]
fn handed() -> Option<*mut Parcel> {
    const { assert!(size_of::<Parcel>() <= KEPT && align_of::<Parcel>() <= 8) };
    Some(SCRATCH.get_ptr_mut(HANDED)?.cast::<Parcel>())
}

/// Element of [`SCRATCH`] behind those of the hooks.
const HANDED: u32 = 2;

/// A function of its own, so that the few places that call it hardly grow by it.
#[inline(never)]
fn notice(kind: u32, group: u32, id: u32, mark: u32) {
    let Some(noticed) = NOTICED.get_ptr_mut(group) else {
        return;
    };
    // SAFETY: this CPU's element.
    if !unsafe { &mut *noticed }.is_news(kind, mark) {
        return;
    }
    let notice = Notice {
        // SAFETY: no arguments.
        at: unsafe { bpf_ktime_get_ns() },
        word: Maps.word(group as u16).0,
        kind,
        // SAFETY: no arguments.
        cpu: unsafe { bpf_get_smp_processor_id() },
        group,
        id,
    };
    let _full = NOTICES.output(notice, 0);
}
