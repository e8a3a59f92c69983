//! Frames over the program contexts: the only packet pointers.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::programs::{TcContext, XdpContext};
use switcher_common::abi::TCP;
use switcher_common::frame::{Frame, Header};
use switcher_common::rewrite::{self, Edit, field};

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
    #[inline(always)]
    fn length(&self) -> u32 {
        let (start, end) = self.bounds();
        (end - start) as u32
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
    fn edit(&mut self, edit: &Edit) -> Option<()> {
        rewrite::in_place(self, edit)
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
    fn edit(&mut self, edit: &Edit) -> Option<()> {
        let (address, port) = edit.offsets();
        let (check, udp) = match edit.protocol {
            TCP => (field::TCP_CHECK, 0),
            _ => (field::UDP_CHECK, u64::from(BPF_F_MARK_MANGLED_0)),
        };
        let (from, to) = (u64::from(edit.from_address), u64::from(edit.to_address));
        let pseudo = u64::from(BPF_F_PSEUDO_HDR);
        self.0
            .l4_csum_replace(check, from, to, udp | pseudo | 4)
            .ok()?;
        let (from_port, to_port) = (u64::from(edit.from_port.0), u64::from(edit.to_port.0));
        self.0
            .l4_csum_replace(check, from_port, to_port, udp | 2)
            .ok()?;
        self.0.l3_csum_replace(field::IP_CHECK, from, to, 4).ok()?;
        self.write(address, edit.to_address)?;
        self.write(port, edit.to_port.0)
    }
}

#[inline(always)]
fn within<T>((start, end): (usize, usize), offset: usize) -> Option<*mut T> {
    if start + offset + size_of::<T>() > end {
        return None;
    }
    Some((start + offset) as *mut T)
}
