//! The harness judged on links without Switcher: what it reports must be so.

use std::time::{Duration, Instant};

use switcher_harness::load::{Connection, Kind};
use switcher_harness::servers::Fleet;
use switcher_harness::stats::Counters;
use switcher_harness::{Load, Mode, Plan, Topology, netns, privilege};

fn brief() -> Plan {
    Plan {
        download: Duration::from_secs(1),
        ..Plan::default()
    }
}

#[test]
fn a_quiet_network_answers_everything() {
    if !privilege::is_root("a_quiet_network_answers_everything") {
        return;
    }
    netns::sweep();
    for mode in [Mode::Local, Mode::Routed] {
        for offloads in [true, false] {
            let topology = Topology::new(mode, offloads).expect("building a network");
            let fleet = Fleet::start(&topology, 1).expect("starting servers");
            let green = topology.endpoints(1)[1];
            let load = Load::start_at(&topology.client, green.web, green.echo, &brief())
                .expect("starting clients");
            std::thread::sleep(Duration::from_secs(2));
            let report = load.stop().expect("ending the load");
            println!("{mode}, offloads {offloads}: {}", report.summary());
            assert_eq!(report.failures(), Vec::<String>::new());
            for kind in Kind::ALL {
                assert!(report.count(kind) > 0, "no {kind}");
            }
            assert_eq!((fleet.resets("green"), fleet.accepted("blue")), (0, 0));
            assert!(fleet.accepted("green") > 10);
            let counters = Counters::read(&topology.client).expect("reading counters");
            assert_eq!(counters, Counters::default());
        }
    }
}

#[test]
fn a_dead_server_and_a_cut_link_are_failures() {
    if !privilege::is_root("a_dead_server_and_a_cut_link_are_failures") {
        return;
    }
    let topology = Topology::new(Mode::Local, true).expect("building a network");
    let fleet = Fleet::start(&topology, 1).expect("starting servers");
    let blue = topology.endpoints(1)[0];
    let load =
        Load::start_at(&topology.client, blue.web, blue.echo, &brief()).expect("starting clients");
    std::thread::sleep(Duration::from_millis(300));
    drop(fleet);
    std::thread::sleep(Duration::from_millis(300));
    let report = load.stop().expect("ending the load");
    let failures = report.failures().join("\n");
    for part in [
        "keep-alive request",
        "new connection",
        "download",
        "idle connection's line",
        "datagram",
    ] {
        assert!(
            failures.contains(part),
            "no failure of a {part} in:\n{failures}"
        );
    }
}

#[test]
fn a_server_that_changes_under_a_flow_is_noticed() {
    if !privilege::is_root("a_server_that_changes_under_a_flow_is_noticed") {
        return;
    }
    let topology = Topology::new(Mode::Local, true).expect("building a network");
    let blue = topology.endpoints(1)[0];
    let load = {
        let _fleet = Fleet::start(&topology, 1).expect("starting servers");
        let plan = Plan {
            udp_flows: 1,
            udp_new: 0,
            new: 0,
            idle: 0,
            downloads: 0,
            ..Plan::default()
        };
        let load =
            Load::start_at(&topology.client, blue.web, blue.echo, &plan).expect("starting clients");
        std::thread::sleep(Duration::from_millis(300));
        load
    };
    let green = switcher_harness::servers::Identity {
        colour: "green".to_owned(),
        version: "v2".to_owned(),
        host: "green-1".to_owned(),
    };
    let _imposter =
        switcher_harness::servers::EchoServer::start(topology.host("blue"), blue.echo, green)
            .expect("starting another server");
    std::thread::sleep(Duration::from_millis(2500));
    let failures = load.stop().expect("ending the load").failures().join("\n");
    assert!(
        failures.contains("was not answered") || failures.contains("went on with"),
        "{failures}"
    );
}

#[test]
fn health_is_what_the_test_says() {
    if !privilege::is_root("health_is_what_the_test_says") {
        return;
    }
    let topology = Topology::new(Mode::Routed, true).expect("building a network");
    let fleet = Fleet::start(&topology, 2).expect("starting servers");
    let green = topology.endpoints(2)[3];
    assert_eq!((green.colour, green.number), ("green", 2));
    let ask = || {
        let ask = || Connection::open(green.web)?.status("/healthz");
        topology
            .switch
            .inside(ask)
            .expect("entering")
            .expect("an answer")
    };
    assert_eq!(ask(), 200);
    fleet.set_healthy("green", false);
    assert_eq!(ask(), 503);
    fleet.set_healthy("green", true);
    assert_eq!(ask(), 200);
    let begun = Instant::now();
    drop(fleet);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "servers stop at once"
    );
}
