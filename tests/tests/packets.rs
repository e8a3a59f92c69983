//! The packet cases through the core, on the host.

use std::collections::{BTreeMap, BTreeSet};

use switcher_common::abi::Counters;
use switcher_common::pipeline;
use switcher_common::verdict::Reason;
use switcher_tests::cases::{self, Case, Hook, Remembered};
use switcher_tests::frame::{Build, flag, sound};
use switcher_tests::town::{
    AWAY, CELL, CLIENT, GROUP, MASK, Masked, SHOP, State, WEB, endpoint, id, nat_key, udp_key,
    window_key,
};

#[test]
fn every_case() {
    let wrong: Vec<String> = cases::all()
        .iter()
        .filter_map(|case| run(case).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sentences_are_unique() {
    let mut seen = BTreeMap::<_, u32>::new();
    for case in cases::all() {
        *seen.entry(case.sentence).or_default() += 1;
    }
    seen.retain(|_, times| *times > 2);
    assert!(seen.is_empty(), "{seen:?}");
}

/// `kernel` shows that the program counts what the core counts; so whatever is counted is counted there, too.
#[test]
fn every_reason_has_a_case() {
    let mut seen = BTreeSet::new();
    for case in cases::all() {
        assert_eq!(run(&case), Ok(()));
        seen.extend(case.state.memory.reasons.borrow().keys().copied());
    }
    let counted: BTreeSet<_> = Reason::ALL.iter().filter(|it| it.counted()).collect();
    assert_eq!(seen.iter().collect::<BTreeSet<_>>(), counted);
}

/// A reset and a SYN-ACK are counted once, for the service and colour of the endpoint that sent it, whatever way it takes.
#[test]
fn resets_and_answers_are_counted_for_their_colour() {
    for (vip, hook) in [
        (WEB, Hook::Egress),
        (CELL, Hook::Egress),
        (SHOP, Hook::Ingress),
        (AWAY, Hook::Ingress),
    ] {
        for colour in 0..2 {
            let state = State::new(cases::open()).masks(MASK.port(), 1).masked(
                CLIENT,
                vip,
                Masked::at(id(vip, colour), MASK.port()),
            );
            let to = if vip == AWAY { MASK } else { CLIENT };
            for (flags, expected) in [
                (flag::RST | flag::ACK, (1, 0)),
                (flag::SYN | flag::ACK, (0, 1)),
                (flag::FIN | flag::ACK, (0, 0)),
            ] {
                let mut frame = Build::tcp(endpoint(vip, colour), to, flags).bytes();
                state.memory.counters.borrow_mut().clear();
                let _verdict = match hook {
                    Hook::Ingress => {
                        pipeline::run(frame.as_mut_slice(), &state.memory, &state.told)
                    }
                    Hook::Egress => {
                        pipeline::run_egress(frame.as_mut_slice(), &state.memory, &state.told)
                    }
                };
                let counters = state.memory.counters.borrow();
                let cell = state.memory.endpoints[&id(vip, colour)].counter;
                let counted = |it: &Counters| (it.resets, it.answers);
                let of = counters.get(&cell).map_or((0, 0), counted);
                assert_eq!(of, expected, "{vip} {colour}");
                let all = counters.values().map(counted);
                let all = all.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
                assert_eq!(all, expected, "{vip} {colour}");
            }
        }
    }
}

fn run(case: &Case) -> Result<(), String> {
    let Case {
        sentence, state, ..
    } = case;
    let mut frame = case.frame.clone();
    let verdict = match case.hook {
        Hook::Ingress => pipeline::run(frame.as_mut_slice(), &state.memory, &state.told),
        Hook::Egress => pipeline::run_egress(frame.as_mut_slice(), &state.memory, &state.told),
    };
    if verdict != case.verdict {
        return Err(format!("{sentence}: {verdict:?}, not {:?}", case.verdict));
    }
    if frame != case.out {
        return Err(format!("{sentence}:\n{frame:02x?}, not\n{:02x?}", case.out));
    }
    if frame != case.frame && sound(&case.frame) && !sound(&frame) {
        return Err(format!("{sentence}: wrong checksums in {frame:02x?}"));
    }
    remembered(case)
}

fn remembered(case: &Case) -> Result<(), String> {
    let (client, vip, want) = match case.tag {
        Remembered::Whatever => return Ok(()),
        Remembered::Masqueraded(client, vip, want) => {
            let flows = case.state.memory.nat.flows.borrow();
            let flow = flows.get(&nat_key(client, vip));
            let have = flow.map(|flow| (flow.endpoint, flow.port.number()));
            if have == want {
                return Ok(());
            }
            return Err(format!(
                "{}: masqueraded at {have:?}, not {want:?}",
                case.sentence
            ));
        }
        Remembered::Nothing(client, vip) => (client, vip, None),
        Remembered::Endpoint(client, vip, endpoint) => (client, vip, Some(endpoint)),
    };
    let windows = case.state.memory.windows.borrow();
    let udp = case.state.memory.udp_flows.borrow();
    let tag = windows
        .get(&GROUP)
        .and_then(|window| window.flows.get(&window_key(client, vip)))
        .or_else(|| udp.get(&GROUP)?.flows.get(&udp_key(client, vip)));
    let have = tag.map(|tag| tag.endpoint);
    if have != want {
        return Err(format!(
            "{}: remembered {have:?}, not {want:?}",
            case.sentence
        ));
    }
    Ok(())
}
