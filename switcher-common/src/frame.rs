//! Bytes of a packet, wherever they are.

use core::mem::MaybeUninit;

use network_types::eth::EthHdr;
use network_types::tcp::TcpHdr;

use crate::abi::Address;
use crate::layers::{LINK, Layers};
use crate::parse::Packet;
use crate::rewrite::Edit;

/// A header that can be read from, and written to, any bytes.
///
/// # Safety
/// Implementors have no padding, are valid for every bit pattern and have an alignment of 1 or are only
/// moved by unaligned copies.
pub unsafe trait Header: Copy {}

// SAFETY: byte arrays and integers only, declared `repr(C)` with alignment 1 or 2 and no padding.
unsafe impl Header for EthHdr {}
// SAFETY: as above.
unsafe impl Header for TcpHdr {}
// SAFETY: two integers without padding, moved by unaligned copies.
unsafe impl Header for Address {}
// SAFETY: as above, without padding between them.
unsafe impl Header for [Address; 2] {}
// SAFETY: plain bytes.
unsafe impl<const N: usize> Header for [u8; N] {}
// SAFETY: plain integers, valid for every bit pattern.
unsafe impl Header for u16 {}
// SAFETY: as above.
unsafe impl Header for u32 {}

/// Programs see no byte from this offset on: the verifier wants a bound, and headers end before it.
pub const REACH: usize = 1024;

/// A frame, from the Ethernet header on. Headers are copied out and in by value: no aliasing and no
/// alignment to worry about.
pub trait Frame {
    /// Whether whoever holds the packet knows which of its checksums are unfinished, and completes them when it
    /// leaves. Else they have to be recognised.
    const COMPLETED: bool = false;

    /// Bytes in the frame.
    fn length(&self) -> u32;
    /// Bytes of `packet` from the IP header on, as it leaves: `length` is what the header says, but one of many
    /// segments leaves in as many frames.
    #[inline(always)]
    fn segment(&self, _packet: &Packet, length: u16) -> u16 {
        length
    }
    /// Bytes of `packet` from the IP header on: of all its segments together, if it has many. `length` is what one has.
    #[inline(always)]
    fn whole(&self, _packet: &Packet, length: u16) -> u32 {
        length.into()
    }
    /// Whether a VLAN tag travels beside the frame, and not in it.
    #[inline(always)]
    fn is_tagged(&self) -> bool {
        false
    }
    /// The header at `offset` (less than [`REACH`]), or nothing where the frame is too short.
    fn read<T: Header>(&self, offset: usize) -> Option<T>;
    /// Puts a header at `offset`; nothing happens where the frame is too short.
    fn write<T: Header>(&mut self, offset: usize, header: T) -> Option<()>;
    /// The layers that were found in the frame, as they are. A program forgets here how it came to know them.
    #[inline(always)]
    fn layers(&self, found: Layers) -> Layers {
        found
    }
    /// Puts something where it stays while the packet is worked on: `place`, if nothing better is at hand. A
    /// program has memory of its own for that, which spares its stack and about whose contents the verifier
    /// knows nothing: it walks once what it would walk for each way to get there. Nothing if there is none, which
    /// does not happen.
    #[inline(always)]
    fn keep<'a, T: Kept>(&self, value: T, place: &'a mut MaybeUninit<T>) -> Option<&'a mut T> {
        Some(place.write(value))
    }
    /// Carries out an edit of the headers, checksums included. All or nothing.
    fn edit(&mut self, edit: &Edit) -> Option<()>;
    /// Makes room for another header of this many bytes between the link header, which ends at `l3`, and the rest.
    /// What the room contains is anything.
    fn insert(&mut self, l3: u16, bytes: usize, as_what: Inserted) -> Option<()>;
    /// Cuts the frame off after this many bytes, of which it has more.
    fn truncate(&mut self, length: usize) -> Option<()>;
    /// The sum of words as they stand in the frame, from `offset` on, the last filled up with a zero byte;
    /// [`TOO_SHORT`] where the frame is too short, or [`SUMMED`] is. No `Option`: the compiler
    /// may move a payload that was never set, and the verifier refuses to read it.
    fn sum(&self, offset: usize, length: usize) -> u64;
}

/// What is put between a link header and a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// An IPv4 header, inside which the packet travels.
    OuterIpv4,
    /// An IPv6 header, likewise.
    OuterIpv6,
    /// The headers of an ICMP error that quotes the packet.
    Error,
}

/// Bytes before the IP header at the most: the Ethernet header and two VLAN tags.
const LINK_MOST: usize = LINK + 8;

/// [`Frame::insert`] for who can make room in front of a frame.
#[inline(always)]
pub fn insert_behind_link<F: Frame + ?Sized>(
    frame: &mut F,
    l3: u16,
    prepend: impl FnOnce(&mut F) -> Option<()>,
) -> Option<()> {
    let link: [u8; LINK_MOST] = frame.read(0)?;
    prepend(frame)?;
    let (plain, tags) = link.split_at(LINK);
    frame.write::<[u8; LINK]>(0, plain.try_into().ok()?)?;
    if usize::from(l3) > LINK {
        frame.write::<[u8; 4]>(LINK, tags[..4].try_into().ok()?)?;
    }
    if usize::from(l3) > LINK + 4 {
        frame.write::<[u8; 4]>(LINK + 4, tags[4..].try_into().ok()?)?;
    }
    Some(())
}

/// What may be kept: at most [`KEPT`] bytes.
pub trait Kept: Copy + 'static {}

/// Bytes that a program keeps of a packet.
pub const KEPT: usize = 256;

/// What [`Frame::sum`] says where there is nothing to add up; no sum is as large.
pub const TOO_SHORT: u64 = u64::MAX;

/// Bytes that are added up at most: no more lie in one piece in a driver's buffer.
pub const SUMMED: usize = 4096;

impl Frame for [u8] {
    fn length(&self) -> u32 {
        self.len() as u32
    }

    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let bytes = self.get(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: `bytes` holds exactly `size_of::<T>()` bytes and a `Header` is valid for all of them.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    fn write<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        let bytes = self.get_mut(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: `bytes` holds exactly `size_of::<T>()` bytes and a `Header` has no padding.
        unsafe { bytes.as_mut_ptr().cast::<T>().write_unaligned(header) };
        Some(())
    }

    fn edit(&mut self, edit: &Edit) -> Option<()> {
        crate::rewrite::in_place(self, edit)
    }

    /// Bytes that somebody else owns neither grow nor shrink.
    fn insert(&mut self, _l3: u16, _bytes: usize, _as_what: Inserted) -> Option<()> {
        None
    }

    fn truncate(&mut self, _length: usize) -> Option<()> {
        None
    }

    fn sum(&self, offset: usize, length: usize) -> u64 {
        let bytes = self.get(offset..offset.saturating_add(length));
        let Some(bytes) = bytes.filter(|_| length <= SUMMED) else {
            return TOO_SHORT;
        };
        let (words, rest) = bytes.as_chunks::<2>();
        let sum = words
            .iter()
            .map(|word| u64::from(u16::from_ne_bytes(*word)));
        let last = rest
            .first()
            .map_or(0, |last| u16::from_ne_bytes([*last, 0]));
        sum.sum::<u64>() + u64::from(last)
    }
}

/// A frame that grows and shrinks, as a driver's buffer does.
#[cfg(feature = "std")]
impl Frame for std::vec::Vec<u8> {
    fn length(&self) -> u32 {
        self.as_slice().length()
    }

    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        self.as_slice().read(offset)
    }

    fn write<T: Header>(&mut self, offset: usize, header: T) -> Option<()> {
        self.as_mut_slice().write(offset, header)
    }

    fn edit(&mut self, edit: &Edit) -> Option<()> {
        self.as_mut_slice().edit(edit)
    }

    fn insert(&mut self, l3: u16, bytes: usize, _as_what: Inserted) -> Option<()> {
        insert_behind_link(self, l3, |frame| {
            frame.splice(0..0, core::iter::repeat_n(0, bytes));
            Some(())
        })
    }

    fn truncate(&mut self, length: usize) -> Option<()> {
        Self::truncate(self, length);
        Some(())
    }

    fn sum(&self, offset: usize, length: usize) -> u64 {
        self.as_slice().sum(offset, length)
    }
}
