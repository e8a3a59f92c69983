//! When a flow is over.

use crate::abi::nat::{Activity, NatClient, activity};

/// Whether a flow has ended: closed or silent for as long as its state allows.
#[must_use]
pub const fn has_ended(
    client: Activity,
    server: Activity,
    udp: bool,
    now: u32,
    idle: Idle,
) -> bool {
    let silence = match (silent_for(client, now), silent_for(server, now)) {
        (client, server) if client < server => client,
        (_, server) => server,
    };
    silence > idle.of(client, server, udp)
}

/// Whether a flow may have ended, as far as its endpoint's side tells.
#[must_use]
pub const fn may_have_ended(client: &NatClient, udp: bool, now: u32, idle: Idle) -> bool {
    silent_for(client.server, now) > idle.of(client.client, client.server, udp)
}

/// Ticks of silence after which a flow has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// TCP, both sides have spoken.
    pub established: u32,
    /// TCP, the handshake is not over.
    pub opening: u32,
    /// TCP, after a reset or both FINs.
    pub closing: u32,
    /// UDP.
    pub udp: u32,
}

impl Idle {
    const fn of(self, client: Activity, server: Activity, udp: bool) -> u32 {
        if udp {
            self.udp
        } else if is_closing(client, server) {
            self.closing
        } else if is_open(client, server) {
            self.established
        } else {
            self.opening
        }
    }
}

/// Whether a connection's handshake is over.
#[inline(always)]
#[must_use]
pub(super) const fn is_open(client: Activity, server: Activity) -> bool {
    server.has(activity::TALKS) || client.has(activity::TALKS) && server.has(activity::SPEAKS)
}

/// Whether a connection is over but for stragglers: a reset, or a FIN from both sides.
#[inline(always)]
#[must_use]
pub const fn is_closing(client: Activity, server: Activity) -> bool {
    (client.state() | server.state()) & activity::RESET != 0
        || client.state() & server.state() & activity::FIN != 0
}

/// Whether a flow of this epoch began before another one.
#[must_use]
pub const fn is_older(epoch: u32, than: u32) -> bool {
    epoch.wrapping_sub(than).cast_signed() < 0
}

/// Ticks since a side's last packet: none if another CPU, whose clock is ahead, has just seen one.
#[inline(always)]
pub(super) const fn silent_for(side: Activity, now: u32) -> u32 {
    match now.wrapping_sub(side.seen()).cast_signed() {
        ahead if ahead < 0 => 0,
        silent => silent.cast_unsigned(),
    }
}
