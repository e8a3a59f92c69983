//! Errors in both families: too big, and too long on the way; and about packets with options or extension headers.

use std::net::{Ipv4Addr, SocketAddrV4};

use switcher_common::steer::Ownership;
use switcher_common::verdict::Verdict;

use super::{LEAST, OUTSIDE_ADDRESS, ROUTER, hop, packet};
use crate::cases::layers::extensions;
use crate::cases::{Case, open, steady};
use crate::frame::Build;
use crate::pieces::{Family, forwarded};
use crate::town::{
    CALLS, CELL, CLIENT, GATEWAY, INSIDE, NEAR, OUTSIDE, SHOP, State, WEB, endpoint, id,
};

pub(super) fn cases() -> Vec<Case> {
    let kinds = [
        // In IPv4 it has cases of its own.
        Error(Family::V6, "too big", Family::too_big),
        Error(Family::V4, "expired", Family::expired),
        Error(Family::V6, "expired", Family::expired),
    ];
    let kinds = kinds.into_iter().flat_map(|error| {
        [
            error.to_endpoints(),
            error.in_windows(),
            error.to_clients(),
            error.going_out(),
        ]
        .concat()
    });
    let dressed = [Family::V4, Family::V6].into_iter().flat_map(dressed);
    kinds.chain(dressed).collect()
}

/// A family, what the error says in words, and who makes it of a packet, a sender and the bytes that are quoted.
struct Error(
    Family,
    &'static str,
    fn(Family, &Build, Ipv4Addr, usize) -> Vec<u8>,
);

impl Error {
    fn to_endpoints(&self) -> Vec<Case> {
        let to = |about, vip, bytes| {
            let [frame, out] = self.about_reply(vip, CLIENT, 0, bytes);
            let state = State::new(steady());
            self.case(about, state, frame, Verdict::Deliver, out)
        };
        let [frame, out] = self.about_reply(SHOP, CLIENT, 0, LEAST);
        vec![
            to("about a local endpoint's reply", WEB, LEAST),
            to("about a local endpoint's reply, with its checksum", WEB, 20),
            to("about a container's reply", CELL, LEAST),
            to("about a whole datagram", CALLS, 200),
            self.case(
                "about a routed endpoint's reply",
                State::new(steady()),
                frame,
                Verdict::Redirect(INSIDE.index),
                forwarded(out, hop(INSIDE, *endpoint(SHOP, 0).ip())),
            ),
        ]
    }

    fn in_windows(&self) -> Vec<Case> {
        let to = |about, state, colour| {
            let [frame, out] = self.about_reply(WEB, NEAR, colour, LEAST);
            self.case(about, state, frame, Verdict::Deliver, out)
        };
        let owned = State::new(open()).socket(NEAR, endpoint(WEB, 0), Ownership::Owns);
        let [frame, out] = self.about_reply(SHOP, CLIENT, 0, LEAST);
        let tagged = State::new(open()).tag(CLIENT, SHOP, crate::town::flow_tag(id(SHOP, 0)));
        vec![
            to("about a connection that the old endpoint owns", owned, 0),
            to("about a connection of nobody", State::new(open()), 1),
            self.case(
                "about a routed flow with a tag",
                tagged,
                frame,
                Verdict::Redirect(INSIDE.index),
                forwarded(out, hop(INSIDE, *endpoint(SHOP, 0).ip())),
            ),
        ]
    }

    fn to_clients(&self) -> Vec<Case> {
        let server = *endpoint(SHOP, 1).ip();
        let to = |about, from, seems, bytes| {
            let [frame, out] = self.about_request(SHOP, 1, from, seems, bytes);
            let out = forwarded(out, hop(OUTSIDE, GATEWAY));
            self.case(about, State::new(steady()), frame, Verdict::Transmit, out)
        };
        vec![
            to("a router about a request", ROUTER, ROUTER, 20),
            to("an endpoint about a request", server, *SHOP.ip(), LEAST),
        ]
    }

    fn going_out(&self) -> Vec<Case> {
        let here = *OUTSIDE_ADDRESS;
        let out = |about, vip, from, seems, bytes| {
            let [frame, out] = self.about_request(vip, 0, from, seems, bytes);
            let state = State::new(steady());
            self.case(about, state, frame, Verdict::Deliver, out)
                .outgoing()
        };
        let [cell, web] = [CELL, WEB].map(|vip| *endpoint(vip, 0).ip());
        vec![
            out("this host about a request to itself", WEB, web, web, 20),
            out("this host about a routed request", SHOP, here, here, 100),
            out("a container about a request", CELL, cell, *CELL.ip(), LEAST),
        ]
    }

    /// Of a router, with the reply as the router saw it and as the endpoint has sent it.
    fn about_reply(
        &self,
        vip: SocketAddrV4,
        client: SocketAddrV4,
        colour: u16,
        bytes: usize,
    ) -> [Vec<u8>; 2] {
        [vip, endpoint(vip, colour)].map(|source| {
            let reply = with_100_bytes(packet(source, client, vip == CALLS));
            self.2(self.0, &reply, ROUTER, bytes)
        })
    }

    /// Of whoever, with the request as it was rewritten and as the client has sent it.
    fn about_request(
        &self,
        vip: SocketAddrV4,
        colour: u16,
        from: Ipv4Addr,
        seems: Ipv4Addr,
        bytes: usize,
    ) -> [Vec<u8>; 2] {
        [(endpoint(vip, colour), from), (vip, seems)].map(|(destination, from)| {
            let request = with_100_bytes(packet(CLIENT, destination, vip == CALLS));
            self.2(self.0, &request, from, bytes)
        })
    }

    fn case(
        &self,
        about: &str,
        state: State,
        frame: Vec<u8>,
        verdict: Verdict,
        out: Vec<u8>,
    ) -> Case {
        let Self(family, kind, _) = self;
        let sentence = family.says(format!("{kind}: {about}").leak());
        Case::bytes(sentence, family.state(state), frame, verdict, out)
    }
}

/// About packets with IPv4 options or with IPv6 extension headers, quoted up to the least of what follows them.
fn dressed(family: Family) -> Vec<Case> {
    let (options, extensions) = (vec![[7, 7, 4, 0], [0; 4], [1; 4]], extensions());
    let headers = match family {
        Family::V4 => options.len() * 4,
        Family::V6 => extensions.iter().map(|(_, rest)| 1 + rest.len()).sum(),
    };
    let dress = |plain: Build| match family {
        Family::V4 => Build {
            options: options.clone(),
            ..plain
        },
        Family::V6 => plain.in_v6(&extensions),
    };
    let about = |source, destination, udp, bytes| {
        let whole = dress(with_100_bytes(packet(source, destination, udp)));
        family.too_big(&whole, ROUTER, headers + bytes)
    };
    let case = |sentence, frame, verdict, out| {
        let state = family.state(State::new(steady()));
        Case::bytes(family.says(sentence), state, frame, verdict, out)
    };
    let (server, out) = (endpoint(SHOP, 0), hop(OUTSIDE, GATEWAY));
    vec![
        case(
            "an error that quotes more than plain headers, about a reply",
            about(CELL, CLIENT, false, LEAST),
            Verdict::Deliver,
            about(endpoint(CELL, 0), CLIENT, false, LEAST),
        ),
        case(
            "an error that quotes more than plain headers, about a whole datagram",
            about(CALLS, CLIENT, true, 108),
            Verdict::Deliver,
            about(endpoint(CALLS, 0), CLIENT, true, 108),
        ),
        case(
            "an error that quotes more than plain headers, about a request",
            about(CLIENT, server, false, 20),
            Verdict::Transmit,
            forwarded(about(CLIENT, SHOP, false, 20), out),
        ),
    ]
}

fn with_100_bytes(plain: Build) -> Build {
    Build {
        payload: vec![7; 100],
        ..plain
    }
}
