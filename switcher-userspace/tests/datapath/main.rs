//! The data path against the running kernel: load, attach, pin, adopt, refuse, let go.
//!
//! Every test has a network namespace of its own, with a pair of virtual interfaces in it, and pins of its
//! own. Without root each is skipped, which it says.

mod client;
mod lab;
mod links;
mod masquerade;
mod restart;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use switcher::cli::MadeUpPacket;
use switcher::config::{Protocol, XdpMode};
use switcher::datapath::attach::tc::Tc;
use switcher::datapath::detach::{Detached, detach};
use switcher::datapath::emergency::emergency;
use switcher::datapath::kernel::KernelDatapath;
use switcher::datapath::pinned::Pinned;
use switcher::datapath::pins::Pins;
use switcher::datapath::tracing::Tracer;
use switcher::datapath::{Change, Datapath, Hold};
use switcher::exit::Exit;
use switcher::explain::explain;
use switcher::host::{self, XdpAttached};
use switcher::reconcile::{Want, plan};
use switcher_common::abi::trace::TraceFilter;
use switcher_common::abi::{Counters, MAX_ENDPOINTS, map};
use switcher_common::word::Word;

use client::{Client, serve};
use lab::{DEVICE, Lab, ip};

/// How it stands with the first interface.
fn hold(datapath: &KernelDatapath) -> Hold {
    datapath.attachments()[0].hold
}

#[test]
fn attaches_in_all_modes_and_pins() {
    for (mode, seen) in [
        (XdpMode::Native, Some(XdpAttached::Native)),
        (XdpMode::Generic, Some(XdpAttached::Generic)),
        (XdpMode::Tc, None),
    ] {
        let Some(lab) = Lab::new("modes") else { return };
        let datapath = lab.open(mode);
        let attachment = &datapath.attachments()[0];
        assert!(attachment.hold == Hold::Attached && attachment.xdp == mode.name());
        assert_eq!(lab.seen(), seen);
        let egress = match lab::has_tcx() {
            true => lab.pins().egress(DEVICE),
            false => lab.pins().clsact(DEVICE),
        };
        let incoming = match (mode, lab::has_tcx()) {
            (XdpMode::Native | XdpMode::Generic, _) => lab.pins().xdp(DEVICE),
            (XdpMode::Tc, true) => lab.pins().ingress(DEVICE),
            (XdpMode::Tc, false) => lab.pins().clsact_ingress(DEVICE),
        };
        assert!(incoming.exists() && egress.exists());
        drop(datapath);
        assert!(incoming.exists(), "traffic does not need the agent");
        assert_eq!(lab.seen(), seen);
        let done = detach(&lab.bpffs, true).expect("nothing is in the way");
        assert_eq!(done.interfaces, [DEVICE]);
        assert_eq!(lab.seen(), None);
    }
}

#[test]
fn the_next_agent_adopts() {
    let Some(lab) = Lab::new("adopt") else { return };
    let mut first = lab.open(XdpMode::Native);
    let (seed, program) = (first.seed(), lab.xdp().1);
    assert_ne!(seed, 0);
    let want = lab.want();
    apply(&mut first, &want);
    let before = first.have().expect("maps can be read");
    drop(first);

    let second = lab.open(XdpMode::Native);
    assert_eq!(second.seed(), seed);
    assert_eq!(lab.xdp().1, program, "the same program goes on");
    let have = second.have().expect("maps can be read");
    assert_eq!(have, before);
    assert!(plan(&have, &want, seed).expect("a plan").is_empty());
}

#[test]
fn the_mode_can_be_changed() {
    let Some(lab) = Lab::new("mode-change") else {
        return;
    };
    for (mode, seen) in [
        (XdpMode::Generic, Some(XdpAttached::Generic)),
        (XdpMode::Tc, None),
        (XdpMode::Native, Some(XdpAttached::Native)),
    ] {
        assert_eq!(hold(&lab.open(mode)), Hold::Attached);
        assert_eq!(lab.seen(), seen);
        assert_eq!(lab.pins().xdp(DEVICE).exists(), seen.is_some());
        assert_ne!(lab.ingress(DEVICE).exists(), seen.is_some());
    }
}

#[test]
fn an_interface_that_came_back_is_attached_afresh() {
    let Some(lab) = Lab::new("recreated") else {
        return;
    };
    for mode in [XdpMode::Native, XdpMode::Generic, XdpMode::Tc] {
        let mut datapath = lab.open(mode);
        ip(&["link", "del", DEVICE]);
        assert_eq!(hold(&datapath), Hold::Absent);
        // The next agent waits for it as well.
        drop(datapath);
        datapath = lab.open(mode);
        assert_eq!(hold(&datapath), Hold::Absent);
        lab.add_device();
        assert_eq!(hold(&datapath), Hold::Recreated);
        datapath.attach_again(DEVICE).expect("it is free");
        assert_eq!(hold(&datapath), Hold::Attached);
        fs::remove_file(lab.egress(DEVICE)).expect("it was pinned");
        assert_eq!(hold(&datapath), Hold::Detached);
        drop(datapath);
        assert_eq!(hold(&lab.open(mode)), Hold::Attached);
    }
}

#[test]
fn removed_pins_are_missed() {
    let Some(lab) = Lab::new("unpinned") else {
        return;
    };
    let datapath = lab.open(XdpMode::Native);
    assert!(datapath.is_pinned());
    fs::remove_dir_all(lab.pins().root()).expect("they are ours");
    assert!(!datapath.is_pinned());
    drop(datapath);
    let next = lab.open(XdpMode::Native);
    assert!(next.is_pinned());
    fs::remove_file(lab.pins().map(map::STEERING)).expect("it was pinned");
    assert!(!next.is_pinned());
}

/// They belong to the interface and go on without pins; the next agent's take their place.
#[test]
fn filters_without_pins_are_replaced() {
    let Some(lab) = Lab::new("unpinned-filters") else {
        return;
    };
    let config = lab.config(XdpMode::Tc);
    let open = || KernelDatapath::open_with(&config, 0, Tc::Clsact);
    drop(open().expect("clsact is everywhere"));
    let before = lab.show_filters("ingress");
    fs::remove_dir_all(lab.pins().root()).expect("they are ours");
    assert_eq!(lab.show_filters("ingress"), before);
    let datapath = open().expect("nobody is in the way");
    assert_eq!(hold(&datapath), Hold::Attached);
    assert_ne!(lab.show_filters("ingress"), before);
    assert_eq!(["egress", "ingress"].map(|hook| lab.filters(hook)), [1; 2]);
}

#[test]
fn what_is_not_configured_any_more_is_detached() {
    let Some(lab) = Lab::new("fewer") else { return };
    let mut config = lab.config(XdpMode::Generic);
    config.interfaces.push(lab::interface("sw1", XdpMode::Tc));
    drop(KernelDatapath::open(&config, 0).expect("both are there"));
    assert_eq!(lab.pins().interfaces(), ["sw0", "sw1"]);
    config.interfaces.remove(0);
    drop(KernelDatapath::open(&config, 0).expect("one is there"));
    assert_eq!(lab.pins().interfaces(), ["sw1"]);
    let freed = host::interface(DEVICE).expect("a list");
    assert!(freed.expect("it is there").xdp.is_empty());
}

#[test]
fn somebody_elses_program_is_named() {
    let Some(lab) = Lab::new("foreign") else {
        return;
    };
    let other = Lab::with_pins("foreign-other", &lab);
    let _holder = other.open(XdpMode::Generic);
    let text = lab.refusal(XdpMode::Generic);
    assert!(
        text.contains("sw0: another XDP program is attached, switcher_ingre"),
        "{text}"
    );
    assert!(text.contains(&format!("id {}", lab.xdp().1)), "{text}");
    assert!(lab.pins().interfaces().is_empty());
}

#[test]
fn a_driver_without_native_xdp_is_no_reason_to_fall_back() {
    let Some(lab) = Lab::new("no-native") else {
        return;
    };
    ip(&["link", "add", "bridge0", "type", "bridge"]);
    let mut config = lab.config(XdpMode::Native);
    config.interfaces = vec![lab::interface("bridge0", XdpMode::Native)];
    let Err(error) = KernelDatapath::open(&config, 0) else {
        panic!("bridges have no native XDP");
    };
    let text = format!("{error:#}");
    assert!(text.contains("bridge0 (driver bridge)"), "{text}");
    assert!(text.contains("xdp = \"generic\""), "{text}");
    assert!(lab.pins().interfaces().is_empty());
}

#[test]
fn a_mode_that_is_refused_leaves_the_old_one() {
    let Some(lab) = Lab::new("mode-refused") else {
        return;
    };
    ip(&["link", "add", "bridge0", "type", "bridge"]);
    let mut config = lab.config(XdpMode::Generic);
    for old in [XdpMode::Generic, XdpMode::Tc] {
        config.interfaces = vec![lab::interface("bridge0", old)];
        drop(KernelDatapath::open(&config, 0).expect("it goes everywhere"));
        config.interfaces = vec![lab::interface("bridge0", XdpMode::Native)];
        let Err(error) = KernelDatapath::open(&config, 0) else {
            panic!("bridges have no native XDP");
        };
        let text = format!("{error:#}");
        assert!(text.contains(&format!("still attached as {old}")), "{text}");
        let bridge = host::interface("bridge0").expect("a list");
        let bridge = bridge.expect("it is there");
        let seen = bridge.xdp.first().map(|(mode, _)| *mode);
        let generic = old == XdpMode::Generic;
        assert_eq!(seen, generic.then_some(XdpAttached::Generic));
        assert_eq!(lab.pins().xdp("bridge0").exists(), generic);
        assert_ne!(lab.ingress("bridge0").exists(), generic);
    }
}

#[test]
fn a_missing_interface_is_told_with_those_there_are() {
    let Some(lab) = Lab::new("missing") else {
        return;
    };
    let mut config = lab.config(XdpMode::Native);
    config.interfaces = vec![lab::interface("eth7", XdpMode::Native)];
    let Err(error) = KernelDatapath::open(&config, 0) else {
        panic!("there is no eth7");
    };
    let text = format!("{error:#}");
    assert!(text.contains("eth7") && text.contains("sw0"), "{text}");
}

#[test]
fn one_agent_a_host() {
    let Some(lab) = Lab::new("two") else { return };
    let first = lab.open(XdpMode::Generic);
    let text = lab.refusal(XdpMode::Generic);
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    drop(first);
    drop(lab.open(XdpMode::Generic));
}

#[test]
fn another_version_of_the_maps_is_not_touched() {
    let Some(lab) = Lab::new("version") else {
        return;
    };
    let other = lab.bpffs.join("v999/links");
    fs::create_dir_all(other.join("eth0-xdp")).expect("a directory");
    let text = lab.refusal(XdpMode::Generic);
    assert!(
        text.contains("v999") && text.contains("another version"),
        "{text}"
    );
}

#[test]
fn a_stored_word_is_what_programs_read() {
    let Some(lab) = Lab::new("word") else { return };
    let mut datapath = lab.open(XdpMode::Generic);
    let word = Word(0x1234_5678_9abc_def0);
    datapath.store(3, word);
    assert_eq!(datapath.word(3), word);
    let pinned = aya::maps::MapData::from_pin(lab.pins().map(map::STEERING)).expect("it is pinned");
    let map = aya::maps::Map::from_map_data(pinned).expect("an array");
    let words: aya::maps::Array<_, u64> = map.try_into().expect("of words");
    assert_eq!(words.get(&3, 0).expect("by the system call"), word.0);
    let reader = Pinned::open(&lab.bpffs).expect("no lock is needed");
    assert_eq!(reader.word(3), word);
    datapath.settle().expect("a grace period passes");
}

#[test]
fn windows_open_and_close() {
    let Some(lab) = Lab::new("window") else {
        return;
    };
    let mut datapath = lab.open(XdpMode::Generic);
    apply(&mut datapath, &lab.want());
    datapath.open_window(0, 4096).expect("there is memory");
    datapath.open_window(0, 4096).expect("twice is once");
    assert!(datapath.flow_map_used(0).expect("it can be read").abs() < f64::EPSILON);
    assert_eq!(
        datapath
            .flows(0, Duration::from_secs(120))
            .expect("they can be read"),
        switcher::datapath::Flows::default()
    );
    datapath.close_window(0).expect("it closes");
    datapath.close_window(0).expect("twice is once");
    assert!(
        datapath
            .reasons()
            .expect("they can be read")
            .iter()
            .all(|(_, n)| *n == 0)
    );
    let cells = [0, 1, 9, 5000, MAX_ENDPOINTS - 1];
    let counters = datapath.counters(&cells).expect("they can be read");
    assert_eq!(counters, [Counters::default(); 5]);
}

#[test]
fn what_was_planned_is_what_is_there() {
    let Some(lab) = Lab::new("reconcile") else {
        return;
    };
    let mut datapath = lab.open(XdpMode::Generic);
    let mut want = lab.want();
    apply(&mut datapath, &want);
    for (step, change) in [("green", 8300), ("green", 8301), ("blue", 8302)] {
        let shop = want.groups.get_mut("shop").expect("it is there");
        for service in shop.services.values_mut() {
            let endpoints = service.endpoints.get_mut(step).expect("it is there");
            endpoints[0].address.set_port(change);
        }
        apply(&mut datapath, &want);
    }
    apply(&mut datapath, &Want::default());
    let have = datapath.have().expect("maps can be read");
    // Which id comes next outlives what had the ones before.
    let nothing = switcher::datapath::Have {
        last_endpoint: have.last_endpoint,
        ..Default::default()
    };
    assert_eq!(have, nothing);
    assert_ne!(have.last_endpoint, 0);
}

#[test]
fn packets_are_met_by_clsact_where_there_is_no_tcx() {
    let Some(lab) = Lab::new("clsact") else {
        return;
    };
    let config = lab.config(XdpMode::Tc);
    let filters = || ["egress", "ingress"].map(|hook| lab.filters(hook));
    for _ in 0..2 {
        let open = KernelDatapath::open_with(&config, 0, Tc::Clsact);
        let datapath = open.expect("clsact is everywhere");
        assert_eq!(hold(&datapath), Hold::Attached);
        drop(datapath);
        assert_eq!(filters(), [1; 2], "they stay, one on each hook");
    }
    let shown = || ["egress", "ingress"].map(|hook| lab.show_filters(hook));
    let plain = shown();
    let (all, log) = (TraceFilter::default(), config.state_dir.join("log"));
    let tracer = Tracer::start(lab.pins(), &config.masquerade, log, &all);
    let tracer = tracer.expect("nobody traces here");
    let traced = shown();
    assert!(traced.iter().zip(&plain).all(|(now, before)| now != before));
    assert_eq!(filters(), [1; 2], "others, one on each hook");
    drop(tracer);
    assert_eq!(shown(), plain, "the same as before");
    let open = KernelDatapath::open_with(&config, 0, Tc::Clsact);
    let mut datapath = open.expect("once more");
    let remove = ["qdisc", "del", "dev", DEVICE, "clsact"];
    let removed = Command::new("tc").args(remove).status();
    assert!(removed.expect("tc is there").success());
    assert_eq!(
        hold(&datapath),
        Hold::Detached,
        "the pins alone are nothing"
    );
    datapath.attach_again(DEVICE).expect("nobody is in the way");
    assert_eq!((hold(&datapath), filters()), (Hold::Attached, [1; 2]));
    drop(datapath);
    drop(lab.open(XdpMode::Tc));
    let left = usize::from(!lab::has_tcx());
    assert_eq!(filters(), [left; 2], "tcx takes over where there is one");
}

#[test]
fn a_file_system_for_pins_is_mounted() {
    let Some(lab) = Lab::new("mount") else { return };
    unshare(CloneFlags::CLONE_NEWNS).expect("root may");
    let none: Option<&str> = None;
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(none, "/", none, private, none).expect("root may");
    let place = tempfile::tempdir().expect("a directory");
    let mut config = lab.config(XdpMode::Generic);
    config.bpffs = place.path().join("pins");
    drop(KernelDatapath::open(&config, 0).expect("it is mounted"));
    assert!(Pins::new(&config.bpffs).exist());
    // Lazily: a process that another test starts holds our descriptors until it executes.
    let lazily = nix::mount::MntFlags::MNT_DETACH;
    nix::mount::umount2(&config.bpffs, lazily).expect("it was mounted");
}

#[test]
fn clients_follow_an_emergency_and_lose_nothing_to_a_refused_detach() {
    let Some(lab) = Lab::new("emergency") else {
        return;
    };
    let client = Client::beyond_the_wire();
    let mut datapath = lab.open(XdpMode::Native);
    apply(&mut datapath, &lab.want());
    for (port, name) in [(90, "blue"), (100, "green"), (101, "green")] {
        serve(port, name);
    }
    assert_eq!(client.asks(80), "blue");
    assert_eq!(client.asks(81), "green", "the preview");
    let kept = client.stays(80);

    let unknown = emergency(&lab.bpffs, "shop", "red").expect_err("there is no red");
    assert_eq!(unknown.exit, Exit::NotFound);
    assert!(unknown.advice.contains("blue, green"), "{unknown}");
    let done = emergency(&lab.bpffs, "shop", "green").expect("green is ready");
    assert_eq!((&*done.from, &*done.to), ("blue", "green"));
    assert_eq!(client.asks(80), "green");
    let endpoints = datapath.have().expect("maps can be read").endpoints;
    let mut blues = endpoints
        .iter()
        .filter(|(_, blue)| blue.port.number() == 90);
    let (blue, _) = blues.next().expect("blue is there");
    let flows = datapath.flows(0, Duration::from_secs(60));
    assert_eq!(
        flows.expect("a count").by_endpoint.get(blue),
        Some(&1),
        "the kept one"
    );
    assert_eq!(kept.ends_with("more"), "blue\nmore\n");
    let again = emergency(&lab.bpffs, "shop", "green").expect("it is live");
    assert_eq!(again.from, "green");

    let refused = detach(&lab.bpffs, false).expect_err("green is rewritten");
    assert_eq!(refused.exit, Exit::Refused);
    assert_eq!(client.asks(80), "green");
    drop(datapath);
    let done = detach(&lab.bpffs, true).expect("by force");
    assert_eq!(
        (done.interfaces, done.maps),
        (vec![DEVICE.to_owned()], true)
    );
    assert!(!lab.bpffs.exists());
    assert_eq!(client.asks(80), "", "nobody listens at the VIP");
    assert_eq!(detach(&lab.bpffs, false), Ok(Detached::default()));
}

#[test]
fn what_is_given_up_is_reset_and_nothing_else() {
    let Some(lab) = Lab::new("reset") else { return };
    let client = Client::beyond_the_wire();
    let mut datapath = lab.open(XdpMode::Native);
    apply(&mut datapath, &lab.want());
    for (port, name) in [(90, "blue"), (100, "green"), (101, "green")] {
        serve(port, name);
    }
    let (given_up, direct) = (client.stays(80), client.stays(90));
    let forced = datapath.word(0).force(1);
    datapath.store(0, forced);
    datapath.settle().expect("a grace period");
    let live = client.stays(80);
    assert_eq!(datapath.end_connections(0).expect("it can"), 1);
    assert_eq!(
        given_up.ends_with("more"),
        "blue\n\n",
        "nobody answers any more"
    );
    assert_eq!(
        direct.ends_with("more"),
        "blue\nmore\n",
        "it did not come by the VIP"
    );
    assert_eq!(live.ends_with("more"), "green\nmore\n");
    assert_eq!(datapath.end_connections(0).expect("it can"), 0);
}

#[test]
fn detach_waits_for_the_agent_to_stop() {
    let Some(lab) = Lab::new("detach-agent") else {
        return;
    };
    let datapath = lab.open(XdpMode::Generic);
    let refused = detach(&lab.bpffs, false).expect_err("an agent runs");
    assert_eq!(refused.exit, Exit::Precondition);
    drop(datapath);
    detach(&lab.bpffs, false).expect("nothing is live");
}

#[test]
fn explanations_agree_with_what_clients_see() {
    let Some(lab) = Lab::new("explain") else {
        return;
    };
    let mut datapath = lab.open(XdpMode::Generic);
    apply(&mut datapath, &lab.want());
    let asked = |protocol, port| MadeUpPacket {
        protocol,
        source: SocketAddr::from(([10, 0, 0, 2], 40000)),
        destination: SocketAddr::from(([10, 0, 0, 1], port)),
        syn: false,
    };
    let pinned = Pinned::open(&lab.bpffs).expect("it is pinned");
    let explained = |protocol, port| {
        let found = explain(&pinned, Some("shop"), &asked(protocol, port)).expect("it is there");
        found
            .endpoint
            .map(|chosen| (chosen.colour, chosen.address.port()))
    };
    assert_eq!(explained(Protocol::Tcp, 80), Some(("blue".into(), 90)));
    assert_eq!(explained(Protocol::Udp, 5300), Some(("blue".into(), 5310)));
    assert_eq!(explained(Protocol::Udp, 80), None);
    assert_eq!(
        datapath
            .flows(0, Duration::MAX)
            .expect("a count")
            .by_endpoint,
        BTreeMap::new()
    );
    let unknown = explain(&pinned, Some("shoes"), &asked(Protocol::Tcp, 80));
    assert_eq!(unknown.expect_err("there is none").exit, Exit::NotFound);
}

/// Plans until there is nothing left, carrying out switches as one store.
fn apply(datapath: &mut KernelDatapath, want: &Want) {
    for _ in 0..4 {
        let have = datapath.have().expect("maps can be read");
        let plan = plan(&have, want, datapath.seed()).expect("nothing is in the way");
        if plan.is_empty() {
            return;
        }
        for change in &plan.changes {
            if let Change::Switch { group, slot } = change {
                let word = switcher::datapath::refilled(datapath.word(*group), *slot);
                datapath.store(*group, word);
                datapath.store(*group, word.settle());
            } else {
                datapath.apply(change).expect("the kernel agrees");
            }
        }
    }
    panic!("never done");
}
