//! Have and want in, exact changes out; and the promise that every prefix of a plan leaves traffic served.

mod health;
mod prefixes;

use std::net::SocketAddr;

use switcher_common::abi::{
    Address, Endpoint, MAX_BUCKETS, TCP, Tunnel, address_kind, endpoint_flags, service_flags,
};
use switcher_common::word::{Phase, Word};

use super::*;
use crate::datapath::{HaveGroup, Mix};
use crate::maglev::MAX_BITS;

const SEED: u64 = 7;

#[test]
fn a_new_group_is_published_last() {
    let want = want(&[("blue", &[81]), ("green", &[82])], None);
    let plan = plan(&Have::default(), &want, SEED).expect("nothing is in the way");
    let steps: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "endpoint 1 is 10.0.0.1:81",
            "endpoint 2 is 10.0.0.1:82",
            "fill a table of 256 buckets at 0",
            "fill a table of 256 buckets at 256",
            "entry 0: service web with 2 tables",
            "wait until no CPU uses what was replaced",
            "group 0: slot 0 live, slot 1 staging",
            "name group 0 shop: blue in slot 0 green in slot 1",
            "publish endpoint 10.0.0.1:81/tcp as 1",
            "publish endpoint 10.0.0.1:82/tcp as 2",
            "publish service 10.0.0.1:80/tcp as 0",
        ]
    );
    assert!(plan.summary[0].contains("group shop: add, with blue live"));
}

#[test]
fn fragments_are_followed_where_addresses_change() {
    let mut want = want(&[("blue", &[81]), ("green", &[82])], None);
    let elsewhere = SocketAddr::from(([10, 0, 0, 2], 81));
    let web = group(&mut want)
        .services
        .get_mut("web")
        .expect("it is there");
    web.endpoints.get_mut("blue").expect("it is there")[0].address = elsewhere;
    let first = plan(&Have::default(), &want, SEED).expect("nothing is in the way");
    let published = |plan: &Plan| -> Vec<String> {
        let steps = plan.changes.iter().map(ToString::to_string);
        steps
            .filter(|step| step.contains("publish") || step.contains("withdraw"))
            .collect()
    };
    assert_eq!(
        published(&first),
        [
            "publish tcp fragments to 10.0.0.1 as 0",
            "publish tcp fragments from 10.0.0.2 as 0",
            "publish endpoint 10.0.0.1:82/tcp as 2",
            "publish endpoint 10.0.0.2:81/tcp as 1",
            "publish service 10.0.0.1:80/tcp as 0",
        ]
    );
    let have = apply(&Have::default(), &first);
    assert!(plan(&have, &want, SEED).expect("a plan").is_empty());

    let gone = plan(&have, &Want::default(), SEED).expect("nothing is in the way");
    assert_eq!(
        published(&gone),
        [
            "withdraw service 10.0.0.1:80/tcp",
            "withdraw endpoint 10.0.0.1:82/tcp",
            "withdraw endpoint 10.0.0.2:81/tcp",
            "withdraw tcp fragments to 10.0.0.1",
            "withdraw tcp fragments from 10.0.0.2",
        ]
    );
}

#[test]
fn endpoints_that_answer_for_themselves_are_not_looked_out_for() {
    let mut want = want(&[("blue", &[81]), ("green", &[82])], None);
    let routed = after(&Have::default(), &want);
    let of_kind = |have: &Have, kind| {
        let keys = have.addresses.keys();
        keys.filter(|key| key.kind == kind).count()
    };
    let endpoints = |have: &Have| of_kind(have, address_kind::ENDPOINT);
    assert_eq!(endpoints(&routed), 2);
    let services = group(&mut want).services.values_mut();
    for endpoint in services.flat_map(|it| it.endpoints.values_mut()).flatten() {
        endpoint.flags = endpoint_flags::PRESENT | endpoint_flags::DSR;
    }
    let direct = after(&Have::default(), &want);
    assert_eq!(endpoints(&direct), 0);
    assert_eq!(endpoints(&after(&routed, &want)), 0, "withdrawn");
    // Fragments to the VIP follow their first one, and none come back.
    assert_eq!(of_kind(&direct, address_kind::FRAGMENTS_TO), 1);
    assert_eq!(of_kind(&direct, address_kind::FRAGMENTS_FROM), 0);
    let again = plan(&direct, &want, SEED).expect("nothing is in the way");
    assert!(again.is_empty());
}

#[test]
fn a_source_of_outer_headers_is_there_while_packets_go_inside() {
    let mut want = want(&[("blue", &[81]), ("green", &[82])], None);
    let tunnel = Tunnel::new([10, 200, 0, 0].into(), 16);
    let mut with = |flags, tunnel| {
        let services = group(&mut want).services.values_mut();
        for endpoint in services.flat_map(|it| it.endpoints.values_mut()).flatten() {
            endpoint.flags = endpoint_flags::PRESENT | flags;
            endpoint.tunnel = tunnel;
        }
        want.clone()
    };
    let inside = with(endpoint_flags::TUNNEL, tunnel);
    let unknown = with(endpoint_flags::TUNNEL, Tunnel::default());
    let beside = with(endpoint_flags::DSR, Tunnel::default());
    let order = |have: &Have, want: &Want| {
        let plan = plan(have, want, SEED).expect("nothing is in the way");
        let mut order = Vec::new();
        for change in &plan.changes {
            match change {
                Change::SetTunnel { id: 1, .. } => order.push("source"),
                Change::SetEndpoint { id: 1, .. } => order.push("endpoint"),
                _ => {}
            }
        }
        order
    };
    let nothing = Have::default();
    assert_eq!(order(&nothing, &inside), ["source", "endpoint"]);
    let tunnelled = after(&nothing, &inside);
    assert_eq!(tunnelled.tunnels.len(), 2);
    assert!(tunnelled.tunnels.values().all(|it| *it == tunnel));
    assert!(order(&tunnelled, &inside).is_empty());
    assert!(order(&tunnelled, &unknown).is_empty(), "as it was");
    assert_eq!(order(&tunnelled, &beside), ["endpoint", "source"]);
    assert!(after(&tunnelled, &beside).tunnels.is_empty());
}

#[test]
fn what_is_there_needs_nothing() {
    let want = want(&[("blue", &[81]), ("green", &[82])], Some(90));
    let have = after(&Have::default(), &want);
    let again = plan(&have, &want, SEED).expect("nothing is in the way");
    assert_eq!(again, Plan::default());
    assert!(again.is_empty());
}

#[test]
fn elements_are_written_in_full() {
    let have = after(
        &Have::default(),
        &want(&[("blue", &[80]), ("green", &[82])], Some(90)),
    );
    let address = Address::v4([10, 0, 0, 1]);
    let expected = Endpoint {
        address,
        port: switcher_common::abi::Port::new(82),
        protocol: TCP,
        flags: endpoint_flags::PRESENT,
        service: 0,
        colour: 1,
        counter: 1,
        ..Endpoint::default()
    };
    assert_eq!(have.endpoints[&2], expected);
    assert!(have.endpoints[&1].has(endpoint_flags::UNTOUCHED));
    let (main, preview) = (have.services[&0].service, have.services[&1].service);
    assert_eq!((main.parent, preview.parent), (0, 0));
    assert_eq!(main.tables, preview.tables);
    assert!(!main.has(service_flags::PREVIEW) && preview.has(service_flags::PREVIEW));
    let word = have.groups[&0].word;
    assert_eq!((word.current(), word.previous(), word.staging()), (0, 0, 1));
    assert_eq!((word.in_use(), word.phase()), (1, Phase::Steady));
}

#[test]
fn the_initial_colour_is_live_only_the_first_time() {
    let mut want = want(&[("blue", &[81]), ("green", &[82])], None);
    group(&mut want).initial = "green".into();
    let have = after(&Have::default(), &want);
    assert_eq!(live(&have), "green");
    group(&mut want).initial = "blue".into();
    assert!(plan(&have, &want, SEED).expect("a plan").is_empty());
}

#[test]
fn an_idle_colour_moves_to_a_fresh_slot() {
    let have = after(
        &Have::default(),
        &want(&[("blue", &[81]), ("green", &[82])], Some(90)),
    );
    let want = want(&[("blue", &[81]), ("green", &[83])], Some(90));
    let plan = plan(&have, &want, SEED).expect("nothing is in the way");
    let steps: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "endpoint 3 is 10.0.0.1:83",
            "fill a table of 256 buckets at 512",
            "entry 0: service web with 3 tables",
            "entry 1: preview of web with 3 tables",
            "wait until no CPU uses what was replaced",
            "name group 0 shop: blue in slot 0 green in slot 1 green in slot 2",
            "group 0: slot 0 live, slot 2 staging",
            "name group 0 shop: blue in slot 0 green in slot 2",
            "wait until no CPU uses what was replaced",
            "entry 0: service web with 2 tables",
            "entry 1: preview of web with 2 tables",
            "publish endpoint 10.0.0.1:83/tcp as 3",
            "withdraw endpoint 10.0.0.1:82/tcp",
            "wait until no CPU uses what was replaced",
            "free endpoint 2",
        ]
    );
    assert!(plan.unfinished.is_empty());
}

#[test]
fn the_live_colour_moves_by_a_window() {
    let before = want(&[("blue", &[81]), ("green", &[82])], None);
    let have = after(&Have::default(), &before);
    let want = want(&[("blue", &[81, 84]), ("green", &[82])], None);
    let first = plan(&have, &want, SEED).expect("nothing is in the way");
    let switch = Change::Switch { group: 0, slot: 2 };
    assert_eq!(first.changes.last(), Some(&switch));
    assert_eq!(first.unfinished, ["shop"]);

    let mut kernel = Memory::from(have);
    first
        .changes
        .iter()
        .for_each(|change| kernel.change(change));
    assert_eq!(live(kernel.state()), "blue");
    let waiting = plan(kernel.state(), &want, SEED).expect("the window is no obstacle");
    assert!(waiting.is_empty(), "{waiting:?}");
    let refused = plan(kernel.state(), &before, SEED).expect_err("the window is open");
    assert!(matches!(refused, Refusal::Window { .. }), "{refused}");

    close(&mut kernel, 0);
    let last = plan(kernel.state(), &want, SEED).expect("nothing is in the way");
    last.changes.iter().for_each(|change| kernel.change(change));
    let have = kernel.state();
    assert_eq!(
        have.groups[&0].slots,
        [(1, Mix::pure(1)), (2, Mix::pure(0))].into()
    );
    assert!(!have.services[&0].service.tables[0].exists());
}

#[test]
fn weights_alone_make_a_new_table() {
    let mut want = want(&[("blue", &[81, 84]), ("green", &[82])], None);
    let have = after(&Have::default(), &want);
    let web = group(&mut want)
        .services
        .get_mut("web")
        .expect("it is there");
    web.endpoints.get_mut("blue").expect("it is there")[0].weight = 3;
    let plan = plan(&have, &want, SEED).expect("nothing is in the way");
    assert!(matches!(
        plan.changes.last(),
        Some(Change::Switch { group: 0, slot: 2 })
    ));
    assert!(
        plan.summary
            .iter()
            .any(|s| s.contains("new table for blue")),
        "{:?}",
        plan.summary
    );
}

#[test]
fn a_group_goes_address_first() {
    let have = after(
        &Have::default(),
        &want(&[("blue", &[81]), ("green", &[82])], None),
    );
    let plan = plan(&have, &Want::default(), SEED).expect("nothing is in the way");
    let steps: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "withdraw service 10.0.0.1:80/tcp",
            "withdraw endpoint 10.0.0.1:81/tcp",
            "withdraw endpoint 10.0.0.1:82/tcp",
            "wait until no CPU uses what was replaced",
            "free service 0",
            "free endpoint 1",
            "free endpoint 2",
            "free group 0",
            "group 0: slot 0 live, slot 0 staging",
        ]
    );
}

#[test]
fn a_live_colour_stays() {
    let three: [(&str, &[u16]); 3] = [("blue", &[81]), ("green", &[82]), ("red", &[83])];
    let have = after(&Have::default(), &want(&three, None));
    let refused = plan(&have, &renamed(&three[1..], "green"), SEED).expect_err("blue is live");
    assert_eq!(
        refused,
        Refusal::LiveColour {
            group: "shop".into(),
            colour: "blue".into()
        }
    );
    let fewer = plan(&have, &want(&three[..2], None), SEED).expect("red is idle");
    let have = apply(&have, &fewer);
    assert_eq!(have.groups[&0].colours.len(), 2);
    assert!(
        fewer
            .summary
            .contains(&"group shop: remove colour red".into())
    );
}

#[test]
fn eight_colours_leave_no_room_to_replace_endpoints() {
    let colours = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let ports = [[81], [82], [83], [84], [85], [86], [87], [88]];
    let all: Vec<(&str, &[u16])> = colours
        .iter()
        .copied()
        .zip(ports.iter().map(|p| &p[..]))
        .collect();
    let have = after(&Have::default(), &renamed(&all, "a"));
    let mut changed = all.clone();
    changed[3].1 = &[99];
    let refused = plan(&have, &renamed(&changed, "a"), SEED).expect_err("no slot is free");
    assert!(refused.to_string().contains("colour d"), "{refused}");
    // With seven there is one, for one after the other.
    let have = after(&Have::default(), &renamed(&all[..7], "a"));
    let other: Vec<(&str, &[u16])> = colours
        .iter()
        .copied()
        .zip([&[70][..], &[71], &[72], &[73], &[74], &[75], &[76]])
        .collect();
    let mut mixed = other.clone();
    mixed[0] = all[0];
    let have = after(&have, &renamed(&mixed, "a"));
    assert_eq!(have.groups[&0].slots.len(), 7);
}

#[test]
fn a_full_table_space_is_told_in_numbers() {
    // A light one among heavy ones makes for the largest tables.
    let ports: Vec<u16> = (1000..1006).collect();
    let many = |n: usize| {
        let mut want = Want::default();
        for i in 0..n {
            let colours: [(&str, &[u16]); 2] = [("blue", &ports), ("green", &ports)];
            let mut one = self::want(&colours, None);
            let mut group = one.groups.remove("shop").expect("it is there");
            let web = group.services.get_mut("web").expect("it is there");
            web.vip.set_port(100 + i as u16);
            for endpoints in web.endpoints.values_mut() {
                endpoints[1..].iter_mut().for_each(|it| it.weight = 1000);
            }
            want.groups.insert(format!("g{i}"), group);
        }
        want
    };
    let all = MAX_BUCKETS as usize >> MAX_BITS;
    let Err(refused) = plan(&Have::default(), &many(all / 2 + 1), SEED) else {
        panic!("there is room for {all} tables of 2^{MAX_BITS}");
    };
    let (needed, largest, free) = (1 << MAX_BITS, 0, 0);
    let expected = matches!(refused, Refusal::Space { needed: n, largest: l, free: f, .. }
        if (n, l, f) == (needed, largest, free));
    assert!(expected, "{refused}");
}

#[test]
fn a_swap_of_addresses_never_leaves_them_unserved() {
    let mut want = want(&[("blue", &[81]), ("green", &[82])], None);
    let mut api = group(&mut want).services["web"].clone();
    api.vip.set_port(70);
    for (offset, endpoints) in (71..).zip(api.endpoints.values_mut()) {
        endpoints[0].address.set_port(offset);
    }
    group(&mut want).services.insert("api".into(), api);
    let have = after(&Have::default(), &want);
    for service in group(&mut want).services.values_mut() {
        let port = if service.vip.port() == 70 { 80 } else { 70 };
        service.vip.set_port(port);
    }
    let have = after(&have, &want);
    assert_eq!(have.services.len(), 2);
    assert_eq!(have.addresses.len(), 6);
}

#[test]
fn emergencies_find_the_newer_table_of_a_colour() {
    let group = HaveGroup {
        name: "shop".into(),
        colours: [(0, "blue".into()), (1, "green".into())].into(),
        slots: [(0, 0), (1, 1), (2, 0)]
            .map(|(slot, colour)| (slot, Mix::pure(colour)))
            .into(),
        word: Word::default().with_current(1).with_staging(2),
    };
    assert_eq!(group.slot_of(0), Some(2));
    assert_eq!(group.slot_of(1), Some(1));
    assert_eq!(group.slot_of(3), None);
}

fn after(have: &Have, want: &Want) -> Have {
    apply(
        have,
        &plan(have, want, SEED).expect("nothing is in the way"),
    )
}

fn apply(have: &Have, plan: &Plan) -> Have {
    use crate::datapath::Datapath;
    let mut kernel = Memory::from(have.clone());
    plan.changes.iter().for_each(|change| kernel.change(change));
    kernel.have().expect("memory is always readable")
}

fn close(kernel: &mut Memory, group: GroupIndex) {
    let word = kernel.state().groups[&group].word;
    kernel.change(&Change::SetWord {
        group,
        word: word.settle(),
    });
}

fn live(have: &Have) -> &str {
    let group = &have.groups[&0];
    &group.colours[&group.live().expect("a live colour")]
}

fn group(want: &mut Want) -> &mut WantGroup {
    want.groups.get_mut("shop").expect("it is there")
}

fn want(colours: &[(&str, &[u16])], preview: Option<u16>) -> Want {
    let mut want = renamed(colours, "blue");
    let web = group(&mut want)
        .services
        .get_mut("web")
        .expect("it is there");
    web.preview = preview.map(at);
    want
}

fn renamed(colours: &[(&str, &[u16])], initial: &str) -> Want {
    let endpoint = |port: &u16| WantEndpoint {
        tunnel: Default::default(),
        address: at(*port),
        weight: 1,
        standing: Standing::Up,
        flags: match port {
            80 => endpoint_flags::PRESENT | endpoint_flags::UNTOUCHED,
            _ => endpoint_flags::PRESENT,
        },
    };
    let endpoints = colours
        .iter()
        .map(|(colour, ports)| ((*colour).into(), ports.iter().map(endpoint).collect()));
    let web = WantService {
        vip: at(80),
        protocol: TCP,
        flags: service_flags::PRESENT | service_flags::SOCKETS,
        preview: None,
        endpoints: endpoints.collect(),
    };
    let shop = WantGroup {
        initial: initial.into(),
        colours: colours.iter().map(|(colour, _)| (*colour).into()).collect(),
        services: [("web".into(), web)].into(),
        canary: None,
    };
    Want {
        groups: [("shop".into(), shop)].into(),
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}
