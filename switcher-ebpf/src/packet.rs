//! Frames over the program contexts: the only packet pointers.

use core::intrinsics::is_val_statically_known;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_FIXED_GSO,
    BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM,
    bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, xdp_md,
};
use aya_ebpf::helpers::generated::{
    bpf_csum_update, bpf_skb_change_tail, bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
    bpf_xdp_get_buff_len,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use switcher_common::abi::trace::kind;
use switcher_common::abi::{TCP, UDP};
use switcher_common::checksum::{fold, narrow};
use switcher_common::frame::{
    Frame, Header, Inserted, KEPT, Kept, REACH, SUMMED, TOO_SHORT, insert_behind_link,
};
use switcher_common::layers::{LINK, Layers};
use switcher_common::parse::Packet;
use switcher_common::rewrite::{self, Edit, field};

use crate::maps::SCRATCH;

/// An incoming frame, still in the driver's buffer.
pub(crate) struct XdpFrame<'a>(pub(crate) &'a XdpContext);

/// Loads a packet pointer from a 32-bit field of a program context.
///
/// In assembly, since the compiler knows that a loaded `u32` has no upper half and may spill just the
/// lower one, which the verifier does not accept for a pointer ("invalid size of register spill").
macro_rules! load_pointer {
    ($context:expr, $offset:literal) => {{
        let pointer: usize;
        // SAFETY: a load of a context field; the verifier turns it into the packet pointer.
        unsafe {
            core::arch::asm!(
                concat!("{0} = *(u32 *)({1} + ", $offset, ")"),
                out(reg) pointer,
                in(reg) $context,
                options(pure, readonly, nostack)
            );
        }
        pointer
    }};
}

impl XdpFrame<'_> {
    /// `data` and `data_end` of `struct xdp_md`.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        (
            load_pointer!(self.0.ctx, "0"),
            load_pointer!(self.0.ctx, "4"),
        )
    }
}

impl Frame for XdpFrame<'_> {
    /// Of all its buffers; headers are read from the first.
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is this program's.
        unsafe { bpf_xdp_get_buff_len(self.0.ctx) as u32 }
    }

    #[inline(always)]
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let header = within::<T>(self.bounds(), offset)?;
        // SAFETY: inside the frame, and any bytes are a valid `Header`.
        Some(unsafe { header.read_unaligned() })
    }

    #[inline(always)]
    fn write<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        let place = within::<T>(self.bounds(), offset)?;
        // SAFETY: inside the frame, which belongs to this program until it returns.
        unsafe { place.write_unaligned(header) };
        Some(())
    }

    #[inline(always)]
    fn layers(&self, found: Layers) -> Layers {
        forget(found)
    }

    #[inline(always)]
    fn keep<'a, T: Kept>(&self, value: T, _place: &'a mut MaybeUninit<T>) -> Option<&'a mut T> {
        kept(value, kind::XDP)
    }

    #[inline(always)]
    fn edit(&mut self, edit: &Edit) -> Option<()> {
        rewrite::in_place(self, edit)
    }

    #[inline(always)]
    fn insert(&mut self, l3: u16, bytes: usize, _as_what: Inserted) -> Option<()> {
        insert_behind_link(self, l3, |frame| {
            // SAFETY: the context is this program's; packet pointers are loaded anew for each access.
            let refused = unsafe { bpf_xdp_adjust_head(frame.0.ctx, -(bytes as i32)) };
            (refused == 0).then_some(())
        })
    }

    #[inline(always)]
    fn truncate(&mut self, length: usize) -> Option<()> {
        let change = length as i32 - self.length() as i32;
        // SAFETY: as above.
        let refused = unsafe { bpf_xdp_adjust_tail(self.0.ctx, change) };
        (refused == 0).then_some(())
    }

    #[inline(always)]
    fn sum(&self, offset: usize, length: usize) -> u64 {
        sum(self.0.ctx, offset, length)
    }
}

/// A packet in the stack, perhaps many segments long and with its checksum still to be completed: it may
/// only be changed through helpers that know about that. With `SUMMED`, what is written counts in the sum that a
/// card may have made of the whole packet; else the caller sees to that.
pub(crate) struct TcFrame<'a, const SUMMED: bool>(&'a TcContext);

impl<'a> TcFrame<'a, true> {
    pub(crate) const fn new(context: &'a TcContext) -> Self {
        Self(context)
    }

    /// Makes the headers readable, as far as the pipeline looks at them: the rest of a packet may lie in pages.
    #[inline(always)]
    pub(crate) fn pull(&self) {
        let linear = self.linear();
        if linear < self.0.len() {
            let headers = self.headers();
            if linear < headers {
                self.pull_to(headers);
            }
        }
    }

    /// As [`pull`](Self::pull), for both IP headers of an ICMP error and the TCP header that it quotes.
    #[inline(always)]
    pub(crate) fn pull_more(&self) {
        let linear = self.linear();
        if linear < ODD && linear < self.0.len() {
            self.pull_to(ODD);
        }
    }

    #[inline(always)]
    fn pull_to(&self, headers: u32) {
        // Nothing to do about a failure: the packet then looks short and passes.
        let _short = self.0.pull_data(headers.min(self.0.len()));
    }

    #[inline(always)]
    fn linear(&self) -> u32 {
        let (start, end) = self.bounds();
        (end - start) as u32
    }

    /// As far as there are headers: plain ones, or any.
    #[inline(always)]
    fn headers(&self) -> u32 {
        const IPV4: u16 = 0x0800_u16.to_be();
        const IPV6: u16 = 0x86dd_u16.to_be();
        const BASIC: u32 = 20;
        let plain = match self.read::<u16>(LINK - 2) {
            Some(IPV4) if self.read::<[u8; 1]>(LINK) == Some([0x45]) => 20,
            Some(IPV6) if matches!(self.read::<[u8; 1]>(LINK + 6), Some([TCP | UDP])) => 40,
            _ => return ODD,
        };
        LINK as u32 + plain + BASIC
    }
}

/// Bytes in which all headers are, whatever there is.
const ODD: u32 = 256;

impl<const SUMMED: bool> TcFrame<'_, SUMMED> {
    /// `data` and `data_end` of `struct __sk_buff`: the linear part.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        (
            load_pointer!(self.0.skb.skb, "76"),
            load_pointer!(self.0.skb.skb, "80"),
        )
    }
}

impl<const SUMMED: bool> Frame for TcFrame<'_, SUMMED> {
    const COMPLETED: bool = true;

    #[inline(always)]
    fn length(&self) -> u32 {
        self.0.len()
    }

    #[inline(always)]
    fn segment(&self, packet: &Packet, length: u16) -> u16 {
        // SAFETY: the context is this program's.
        let payload = unsafe { (*self.0.skb.skb).gso_size };
        if payload == 0 {
            return length;
        }
        let header = match packet.protocol {
            TCP => {
                let [words]: [u8; 1] = self.read(usize::from(packet.l4) + 12).unwrap_or_default();
                u16::from(words >> 4) * 4
            }
            _ => 8,
        };
        packet.l4 - packet.l3 + header + payload as u16
    }

    /// The frame ends with the packet: the stack has cut off what padded it.
    #[inline(always)]
    fn whole(&self, packet: &Packet, length: u16) -> u32 {
        // SAFETY: the context is this program's.
        match unsafe { (*self.0.skb.skb).gso_size } {
            0 => length.into(),
            _ => self.0.len() - u32::from(packet.l3),
        }
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        // SAFETY: the context is this program's.
        unsafe { (*self.0.skb.skb).vlan_present != 0 }
    }

    #[inline(always)]
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let header = within::<T>(self.bounds(), offset)?;
        // SAFETY: inside the linear part of the packet, and any bytes are a valid `Header`.
        Some(unsafe { header.read_unaligned() })
    }

    #[inline(always)]
    fn write<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        // The sum begins behind the link header.
        let flags = match SUMMED && offset >= LINK {
            true => u64::from(BPF_F_RECOMPUTE_CSUM),
            false => 0,
        };
        self.0.store(offset, &header, flags).ok()
    }

    #[inline(always)]
    fn layers(&self, found: Layers) -> Layers {
        forget(found)
    }

    #[inline(always)]
    fn keep<'a, T: Kept>(&self, value: T, _place: &'a mut MaybeUninit<T>) -> Option<&'a mut T> {
        kept(value, kind::TC)
    }

    #[inline(always)]
    fn edit(&mut self, edit: &Edit) -> Option<()> {
        let mut plain = TcFrame::<false>(self.0);
        let (is_v6, places) = (edit.is_v6, edit.places());
        let (mut addresses, mut ports) =
            rewrite::replace(&mut plain, is_v6, &places, edit.address, edit.port)?;
        if edit.both {
            let (address, port) = (edit.other_address, edit.other_port);
            let other = rewrite::replace(&mut plain, is_v6, &edit.other_places(), address, port)?;
            addresses += other.0;
            ports += other.1;
        }
        let udp = match edit.protocol {
            TCP => 0,
            _ => u64::from(BPF_F_MARK_MANGLED_0),
        };
        let pseudo = udp | u64::from(BPF_F_PSEUDO_HDR);
        let change = |by: u64| u64::from(narrow(by));
        self.0
            .l4_csum_replace(places.check, 0, change(addresses), pseudo)
            .ok()?;
        self.0
            .l4_csum_replace(places.check, 0, change(ports), udp)
            .ok()?;
        let mut header = addresses;
        if let Some(hop) = edit.hop {
            header += rewrite::forward(&mut plain, edit, hop)?;
        }
        if is_v6 {
            // The helper takes the change of the checksum for one of the whole packet's sum, as it is over
            // IPv4, whose header has a checksum of its own. Here the address outweighs it.
            // SAFETY: the context is this program's.
            let _not_kept = unsafe { bpf_csum_update(self.0.skb.skb, narrow(header)) };
            return Some(());
        }
        let check = usize::from(edit.l3) + field::v4::CHECK;
        self.0.l3_csum_replace(check, 0, change(header), 0).ok()
    }

    /// Of a packet that is many segments, each gets the outer header, and is as long as before: there was room for it.
    #[inline(always)]
    fn insert(&mut self, _l3: u16, bytes: usize, as_what: Inserted) -> Option<()> {
        let flags = match as_what {
            Inserted::OuterIpv4 => BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4,
            Inserted::OuterIpv6 => BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
            Inserted::Error => 0,
        };
        self.0
            .adjust_room(bytes as i32, BPF_ADJ_ROOM_MAC, flags.into())
            .ok()
    }

    #[inline(always)]
    fn truncate(&mut self, length: usize) -> Option<()> {
        // SAFETY: the context is this program's; packet pointers are loaded anew for each access.
        let refused = unsafe { bpf_skb_change_tail(self.0.skb.skb, length as u32, 0) };
        (refused == 0).then_some(())
    }

    /// Checksums are completed by whoever has to.
    #[inline(always)]
    fn sum(&self, _offset: usize, _length: usize) -> u64 {
        TOO_SHORT
    }
}

/// Puts something into this CPU's memory for the kind of hook, whose programs don't interrupt each other.
#[inline(always)]
fn kept<'a, T: Kept>(value: T, kind: u32) -> Option<&'a mut T> {
    const { assert!(size_of::<T>() <= KEPT && align_of::<T>() <= 8) };
    let place = SCRATCH.get_ptr_mut(kind)?.cast::<T>();
    // SAFETY: large enough and aligned, as asserted; nobody else has this CPU's element until the program returns.
    unsafe {
        place.write(value);
        Some(&mut *place)
    }
}

/// Hides from the verifier by which path the layers were found: it would walk the whole pipeline once for
/// each combination of tags, options and extension headers.
///
/// It tracks a register through the stack only where a slot of eight bytes begins, so the first quarter
/// stays unused.
#[inline(always)]
fn forget(found: Layers) -> Layers {
    let Layers {
        l3,
        l4,
        fragment,
        protocol,
        is_v6,
    } = found;
    let mut slot = MaybeUninit::<u64>::uninit();
    let place = slot.as_mut_ptr().cast::<u16>();
    // SAFETY: the last three quarters of the slot, written before they are read.
    let [l3, l4, kind] = unsafe {
        place.add(1).write_volatile(l3);
        place.add(2).write_volatile(l4);
        place
            .add(3)
            .write_volatile(u16::from(protocol) | u16::from(is_v6) << 8);
        [
            place.add(1).read_volatile(),
            place.add(2).read_volatile(),
            place.add(3).read_volatile(),
        ]
    };
    Layers {
        l3,
        l4,
        fragment,
        protocol: kind as u8,
        is_v6: kind >> 8 != 0,
    }
}

/// See [`Frame::sum`]. A function of its own, since the verifier walks every turn of its loop.
///
/// What is left over by whole chunks comes first, and without a loop: from the chunk that ends where the bytes
/// do, and begins before them if they are few. The verifier would walk the rest once for each turn.
#[inline(never)]
fn sum(context: *mut xdp_md, offset: usize, length: usize) -> u64 {
    let context = XdpContext::new(context);
    let (start, end) = XdpFrame(&context).bounds();
    if length > SUMMED || offset + length < CHUNK {
        return TOO_SHORT;
    }
    let last = bounded::<{ 2 * SUMMED - 1 }>(start, offset + length - CHUNK);
    if last + CHUNK > end {
        return TOO_SHORT;
    }
    // SAFETY: inside the frame; any bytes are integers.
    let [low, high] = unsafe { (last as *const [u64; 2]).read_unaligned() };
    let mut sum = match length % CHUNK {
        0 => 0,
        over @ 1..8 => halves(high & (u64::MAX << (64 - over * 8))),
        8 => halves(high),
        over => halves(high) + halves(low & (u64::MAX << (128 - over * 8))),
    };
    // The chunk begins at an odd offset, so that bytes have changed places in its words (RFC 1071, 2B).
    if length % 2 == 1 {
        sum = u64::from(fold(sum).swap_bytes());
    }
    let (mut place, mut left) = (bounded::<{ REACH - 1 }>(start, offset), length);
    for _ in 0..SUMMED / CHUNK {
        if left < CHUNK || place + CHUNK > end {
            break;
        }
        // SAFETY: as above.
        let [low, high] = unsafe { (place as *const [u64; 2]).read_unaligned() };
        sum += halves(low) + halves(high);
        place += CHUNK;
        left -= CHUNK;
    }
    sum
}

/// Bytes that are added up at once.
const CHUNK: usize = 16;

#[inline(always)]
const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// A pointer to a `T` at `offset`, if the frame is that long.
#[inline(always)]
fn within<T>((start, end): (usize, usize), offset: usize) -> Option<*mut T> {
    let place = if is_val_statically_known(offset) {
        start + offset
    } else {
        bounded::<{ REACH - 1 }>(start, offset)
    };
    if place + size_of::<T>() > end {
        return None;
    }
    Some(place as *mut T)
}

/// A packet pointer plus a variable.
///
/// In assembly, so that the bound that the verifier needs is not optimised away as obvious, and the pointer
/// that is compared with the frame's end stays the one that is used.
#[inline(always)]
fn bounded<const MASK: usize>(start: usize, offset: usize) -> usize {
    let (mut place, mut bounded) = (start, offset);
    // SAFETY: arithmetic only.
    unsafe {
        core::arch::asm!(
            "{0} &= {2}",
            "{1} += {0}",
            inout(reg) bounded,
            inout(reg) place,
            const MASK,
            options(pure, nomem, nostack)
        );
    }
    let _ = bounded;
    place
}
