//! Frames over the program contexts: the only packet pointers.

use core::intrinsics::is_val_statically_known;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, xdp_md};
use aya_ebpf::helpers::generated::{bpf_csum_update, bpf_xdp_get_buff_len};
use aya_ebpf::programs::{TcContext, XdpContext};
use switcher_common::abi::{Address, TCP};
use switcher_common::checksum::{change_address, fold, narrow};
use switcher_common::frame::{Frame, Header, KEPT, Kept, REACH, SUMMED, TOO_SHORT};
use switcher_common::layers::Layers;
use switcher_common::rewrite::{self, Edit, Places, field};

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
    pub(crate) fn bounds(&self) -> (usize, usize) {
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
        kept(value, 0)
    }

    #[inline(always)]
    fn edit(&mut self, edit: &Edit) -> Option<()> {
        rewrite::in_place(self, edit)
    }

    #[inline(always)]
    fn sum(&self, offset: usize, length: usize) -> u64 {
        sum(self.0.ctx, offset, length)
    }
}

/// An outgoing packet, perhaps many segments long and with its checksum still to be completed: it may
/// only be changed through helpers that know about that.
pub(crate) struct TcFrame<'a>(pub(crate) &'a TcContext);

impl TcFrame<'_> {
    /// `data` and `data_end` of `struct __sk_buff`: the linear part.
    #[inline(always)]
    pub(crate) fn bounds(&self) -> (usize, usize) {
        (
            load_pointer!(self.0.skb.skb, "76"),
            load_pointer!(self.0.skb.skb, "80"),
        )
    }
}

impl Frame for TcFrame<'_> {
    #[inline(always)]
    fn length(&self) -> u32 {
        self.0.len()
    }

    #[inline(always)]
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let header = within::<T>(self.bounds(), offset)?;
        // SAFETY: inside the linear part of the packet, and any bytes are a valid `Header`.
        Some(unsafe { header.read_unaligned() })
    }

    #[inline(always)]
    fn write<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        self.0.store(offset, &header, 0).ok()
    }

    #[inline(always)]
    fn layers(&self, found: Layers) -> Layers {
        forget(found)
    }

    #[inline(always)]
    fn keep<'a, T: Kept>(&self, value: T, _place: &'a mut MaybeUninit<T>) -> Option<&'a mut T> {
        kept(value, 1)
    }

    #[inline(always)]
    fn edit(&mut self, edit: &Edit) -> Option<()> {
        let Places {
            address,
            port,
            check,
        } = edit.places();
        let pseudo = u64::from(BPF_F_PSEUDO_HDR);
        let udp = match edit.protocol {
            TCP => 0,
            _ => u64::from(BPF_F_MARK_MANGLED_0),
        };
        let from_port = u64::from(self.read::<u16>(port)?);
        if edit.is_v6 {
            let from: Address = self.read(address)?;
            let change = narrow(change_address(from, edit.address));
            self.0
                .l4_csum_replace(check, 0, change.into(), udp | pseudo)
                .ok()?;
            // The helper takes the change of the checksum for one of the whole packet's sum, as it is over
            // IPv4, whose header has a checksum of its own. Here the address outweighs it.
            // SAFETY: the context is this program's.
            let _not_kept = unsafe { bpf_csum_update(self.0.skb.skb, change) };
            self.write(address, edit.address)?;
        } else {
            let from = u64::from(self.read::<u32>(address)?);
            let to = u64::from(edit.address.v4_word());
            self.0
                .l4_csum_replace(check, from, to, udp | pseudo | 4)
                .ok()?;
            let header_check = usize::from(edit.l3) + field::v4::CHECK;
            self.0.l3_csum_replace(header_check, from, to, 4).ok()?;
            self.write(address, edit.address.v4_word())?;
        }
        self.0
            .l4_csum_replace(check, from_port, edit.port.0.into(), udp | 2)
            .ok()?;
        self.write(port, edit.port.0)
    }

    /// Outgoing checksums are completed by whoever has to.
    #[inline(always)]
    fn sum(&self, _offset: usize, _length: usize) -> u64 {
        TOO_SHORT
    }
}

/// Puts something into this CPU's memory for the kind of hook, whose programs don't interrupt each other.
#[inline(always)]
fn kept<'a, T: Kept>(value: T, hook: u32) -> Option<&'a mut T> {
    const { assert!(size_of::<T>() <= KEPT && align_of::<T>() <= 8) };
    let place = SCRATCH.get_ptr_mut(hook)?.cast::<T>();
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
