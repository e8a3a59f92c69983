//! When a masqueraded flow has ended.

use switcher_common::abi::nat::activity::{FIN, RESET, SPEAKS, TALKS};
use switcher_common::abi::nat::{Activity, NatClient};
use switcher_common::nat::{Idle, has_ended, is_closing, is_older, may_have_ended};

const NOW: u32 = 10_000;
const IDLE: Idle = Idle {
    established: 7000,
    opening: 20,
    closing: 30,
    udp: 60,
};

#[test]
fn each_state_has_its_time() {
    let said = SPEAKS | TALKS;
    let states = [
        ("a SYN without an answer", SPEAKS, 0, IDLE.opening),
        (
            "an answer without a last word",
            SPEAKS,
            SPEAKS,
            IDLE.opening,
        ),
        ("an ACK that nobody asked for", said, 0, IDLE.opening),
        ("a handshake", said, SPEAKS, IDLE.established),
        ("a server that speaks first", SPEAKS, said, IDLE.established),
        ("half closed", said | FIN, said, IDLE.established),
        ("closed", said | FIN, said | FIN, IDLE.closing),
        ("reset by the client", said | RESET, said, IDLE.closing),
        (
            "refused by the server",
            SPEAKS,
            SPEAKS | RESET,
            IDLE.closing,
        ),
    ];
    for (sentence, client, server, idle) in states {
        let ended = |silence| {
            let (client, server) = sides(client, silence, server, silence);
            has_ended(client, server, false, NOW, IDLE)
        };
        assert!(!ended(idle), "{sentence}");
        assert!(ended(idle + 1), "{sentence}");
    }
}

#[test]
fn who_talks_last_counts() {
    let said = SPEAKS | TALKS;
    for (client, server) in [(0, 9000), (9000, 0), (0, 0)] {
        let (client, server) = sides(said, client, said, server);
        assert!(!has_ended(client, server, false, NOW, IDLE));
        assert!(!has_ended(client, server, true, NOW, IDLE));
    }
    let (client, server) = sides(said, 61, 0, 61);
    assert!(has_ended(client, server, true, NOW, IDLE));
}

#[test]
fn a_clock_that_is_ahead_is_not_silence() {
    let ahead = Activity::new(NOW + 1, SPEAKS);
    assert!(!has_ended(ahead, ahead, true, NOW, Idle { udp: 0, ..IDLE }));
    let wrapped = Activity::new(u32::MAX, SPEAKS);
    assert!(!has_ended(wrapped, wrapped, true, 1, IDLE));
}

#[test]
fn what_has_ended_is_always_worth_a_look() {
    let states = [
        0,
        SPEAKS,
        SPEAKS | TALKS,
        SPEAKS | TALKS | FIN,
        SPEAKS | RESET,
    ];
    for (client_state, server_state) in states.iter().flat_map(|c| states.map(|s| (*c, s))) {
        for silence in [0, 21, 31, 61, 7001] {
            let (client, server) = sides(client_state, silence, server_state, silence);
            // The client's side is told when it closes.
            let told = if client_state & (FIN | RESET) == 0 {
                0
            } else {
                client_state
            };
            let port = NatClient {
                client: Activity::new(NOW - silence, told),
                server,
                ..NatClient::default()
            };
            for udp in [false, true] {
                let ended = has_ended(client, server, udp, NOW, IDLE);
                let looked_at = may_have_ended(&port, udp, NOW, IDLE);
                assert!(looked_at || !ended, "{client:?} {server:?} {udp}");
            }
        }
    }
}

#[test]
fn one_reset_or_two_fins_close() {
    let closing = |client, server| is_closing(Activity::new(1, client), Activity::new(1, server));
    assert!(closing(RESET, 0) && closing(0, RESET) && closing(FIN, FIN));
    assert!(!closing(FIN, 0) && !closing(0, FIN) && !closing(TALKS, TALKS));
}

#[test]
fn epochs_are_older_by_their_distance() {
    assert!(is_older(4, 5) && is_older(u32::MAX, 0));
    assert!(!is_older(5, 5) && !is_older(0, u32::MAX) && !is_older(0, 0));
}

fn sides(client: u32, silent: u32, server: u32, server_silent: u32) -> (Activity, Activity) {
    (
        Activity::new(NOW - silent, client),
        Activity::new(NOW - server_silent, server),
    )
}
