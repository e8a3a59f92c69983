//! Checksums that a virtual peer left to its network card, completed here: for packets that leave this host
//! without meeting its stack again.

use crate::abi::TCP;
use crate::checksum::fold;
use crate::frame::{Frame, TOO_SHORT};
use crate::parse::{Carriage, Packet};
use crate::rewrite::field;

/// Completes the L4 checksum of a packet that [`is_unfinished`](crate::parse::is_unfinished): its field holds
/// the sum of the pseudo-header. A checksum that is complete and only looks like that stays as it is, since
/// it is the only one that fits.
#[inline(always)]
pub(crate) fn finish<F: Frame + ?Sized>(
    frame: &mut F,
    packet: &Packet,
    carriage: Carriage,
) -> Option<()> {
    let length = carriage.length.checked_sub(packet.l4 - packet.l3)?;
    let sum = frame.sum(packet.l4.into(), length.into());
    if sum == TOO_SHORT {
        return None;
    }
    let check = match !fold(sum) {
        // RFC 768; in TCP both are zero to whoever adds them up.
        0 if packet.protocol != TCP => 0xffff,
        check => check,
    };
    frame.write(field::check(packet.l4, packet.protocol), check)
}
