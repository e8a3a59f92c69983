//! The data path against the running kernel: load, attach, pin, adopt, refuse, let go.
//!
//! Every test has a network namespace of its own, with a pair of virtual interfaces in it, and pins of its
//! own. Without root each is skipped, which it says.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use nix::sched::{CloneFlags, unshare};
use switcher::config::{AgentConfig, XdpMode};
use switcher::datapath::attach::Egress;
use switcher::datapath::kernel::KernelDatapath;
use switcher::datapath::pinned::Pinned;
use switcher::datapath::pins::Pins;
use switcher::datapath::{Change, Datapath};
use switcher::host::{self, XdpAttached};
use switcher::reconcile::{Want, WantEndpoint, WantGroup, WantService, plan};
use switcher_common::abi::{TCP, UDP, endpoint_flags, map, service_flags};
use switcher_common::word::Word;

const DEVICE: &str = "sw0";

#[test]
fn attaches_in_both_modes_and_pins() {
    for (mode, seen) in [
        (XdpMode::Native, XdpAttached::Native),
        (XdpMode::Generic, XdpAttached::Generic),
    ] {
        let Some(lab) = Lab::new("modes") else { return };
        let datapath = lab.open(mode);
        assert!(datapath.attachments()[0].attached);
        assert_eq!(lab.xdp().0, seen);
        assert!(lab.pins().xdp(DEVICE).exists() && lab.pins().egress(DEVICE).exists());
        drop(datapath);
        assert_eq!(lab.xdp().0, seen, "traffic does not need the agent");
    }
}

#[test]
fn the_next_agent_adopts_and_replaces() {
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
    assert_ne!(lab.xdp().1, program, "the program was replaced");
    let have = second.have().expect("maps can be read");
    assert_eq!(have, before);
    assert!(plan(&have, &want, seed).expect("a plan").is_empty());
}

#[test]
fn the_mode_can_be_changed() {
    let Some(lab) = Lab::new("mode-change") else {
        return;
    };
    drop(lab.open(XdpMode::Generic));
    drop(lab.open(XdpMode::Native));
    assert_eq!(lab.xdp().0, XdpAttached::Native);
}

#[test]
fn an_interface_that_came_back_is_attached_afresh() {
    let Some(lab) = Lab::new("recreated") else {
        return;
    };
    let datapath = lab.open(XdpMode::Native);
    ip(&["link", "del", DEVICE]);
    lab.add_device();
    assert!(!datapath.attachments()[0].attached);
    drop(datapath);
    assert!(lab.open(XdpMode::Native).attachments()[0].attached);
}

#[test]
fn what_is_not_configured_any_more_is_detached() {
    let Some(lab) = Lab::new("fewer") else { return };
    let mut config = lab.config(XdpMode::Generic);
    config.interfaces.push("sw1".into());
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
    config.interfaces = vec!["bridge0".into()];
    let Err(error) = KernelDatapath::open(&config, 0) else {
        panic!("bridges have no native XDP");
    };
    let text = format!("{error:#}");
    assert!(text.contains("bridge0 (driver bridge)"), "{text}");
    assert!(text.contains("xdp = \"generic\""), "{text}");
    assert!(lab.pins().interfaces().is_empty());
}

#[test]
fn a_missing_interface_is_told_with_those_there_are() {
    let Some(lab) = Lab::new("missing") else {
        return;
    };
    let mut config = lab.config(XdpMode::Native);
    config.interfaces = vec!["eth7".into()];
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
    std::fs::create_dir_all(other.join("eth0-xdp")).expect("a directory");
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
            .flows(0, std::time::Duration::from_secs(120))
            .expect("they can be read"),
        BTreeMap::new()
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
    assert_eq!(datapath.counters(0).expect("they can be read").packets, 0);
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
    assert_eq!(have, switcher::datapath::Have::default());
}

#[test]
fn replies_are_met_by_clsact_where_there_is_no_tcx() {
    let Some(lab) = Lab::new("clsact") else {
        return;
    };
    let config = lab.config(XdpMode::Generic);
    for _ in 0..2 {
        let open = KernelDatapath::open_with(&config, 0, Egress::Clsact);
        let datapath = open.expect("clsact is everywhere");
        assert!(datapath.attachments()[0].attached);
        drop(datapath);
        assert_eq!(lab.filters(), 1, "it stays, and there is one");
    }
    drop(lab.open(XdpMode::Generic));
    assert_eq!(lab.filters(), 0, "tcx has taken over");
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
    nix::mount::umount(&config.bpffs).expect("it was mounted");
}

/// A network namespace for the calling thread, two interfaces, and a place for pins.
struct Lab {
    bpffs: PathBuf,
    state: tempfile::TempDir,
}

impl Lab {
    /// Nothing without root: the reason is printed.
    fn new(name: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: {name} needs root");
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNET).expect("root may");
        let lab = Self::pinned_at(name);
        lab.add_device();
        Some(lab)
    }

    /// Other pins in the same network namespace.
    fn with_pins(name: &str, _beside: &Self) -> Self {
        Self::pinned_at(name)
    }

    fn pinned_at(name: &str) -> Self {
        mount_once();
        let name = format!("switcher-test-{}-{name}", std::process::id());
        Self {
            bpffs: Path::new("/sys/fs/bpf").join(name),
            state: tempfile::tempdir().expect("a directory"),
        }
    }

    fn add_device(&self) {
        ip(&["link", "add", DEVICE, "type", "veth", "peer", "name", "sw1"]);
        ip(&["addr", "add", "10.0.0.1/24", "dev", DEVICE]);
        ip(&["link", "set", DEVICE, "up"]);
    }

    fn config(&self, xdp: XdpMode) -> AgentConfig {
        AgentConfig {
            interfaces: vec![DEVICE.into()],
            xdp,
            socket: self.state.path().join("socket"),
            state_dir: self.state.path().into(),
            bpffs: self.bpffs.clone(),
            flows: 4096,
        }
    }

    fn open(&self, xdp: XdpMode) -> KernelDatapath {
        KernelDatapath::open(&self.config(xdp), 0).expect("nothing is in the way")
    }

    fn refusal(&self, xdp: XdpMode) -> String {
        match KernelDatapath::open(&self.config(xdp), 0) {
            Ok(_) => panic!("this should have been refused"),
            Err(error) => format!("{error:#}"),
        }
    }

    fn pins(&self) -> Pins {
        Pins::new(&self.bpffs)
    }

    fn xdp(&self) -> (XdpAttached, u32) {
        let interface = host::interface(DEVICE)
            .expect("a list")
            .expect("it is there");
        *interface.xdp.first().expect("a program is attached")
    }

    /// Filters on the egress hook.
    fn filters(&self) -> usize {
        let show = ["filter", "show", "dev", DEVICE, "egress"];
        let output = Command::new("tc").args(show).output().expect("tc is there");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains("handle")).count()
    }

    fn want(&self) -> Want {
        let at = |port| SocketAddr::new(IpAddr::from([10, 0, 0, 1]), port);
        let endpoint = |port| WantEndpoint {
            address: at(port),
            weight: 1,
            flags: endpoint_flags::PRESENT,
        };
        let service = |vip: u16, protocol, flags| WantService {
            vip: at(vip),
            protocol,
            flags: service_flags::PRESENT | flags,
            preview: Some(at(vip + 1)),
            endpoints: BTreeMap::from([
                ("blue".into(), vec![endpoint(vip + 10)]),
                ("green".into(), vec![endpoint(vip + 20), endpoint(vip + 21)]),
            ]),
        };
        let services = [
            ("web", service(80, TCP, service_flags::SOCKETS)),
            ("dns", service(5300, UDP, 0)),
        ];
        let shop = WantGroup {
            initial: "blue".into(),
            colours: vec!["blue".into(), "green".into()],
            services: services
                .map(|(name, service)| (name.into(), service))
                .into(),
        };
        Want {
            groups: [("shop".into(), shop)].into(),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for interface in self.pins().interfaces() {
            let pins = self.pins();
            for pin in [
                pins.xdp(&interface),
                pins.egress(&interface),
                pins.clsact(&interface),
            ] {
                let _absent = std::fs::remove_file(pin);
            }
        }
        let _absent = std::fs::remove_dir_all(&self.bpffs);
    }
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

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status();
    assert!(status.expect("ip is there").success(), "ip {arguments:?}");
}

/// Tests run at once, and each would mount one over the other's.
fn mount_once() {
    static MOUNT: Once = Once::new();
    MOUNT.call_once(|| {
        let usual = Path::new("/sys/fs/bpf");
        if !switcher::datapath::pins::is_bpffs(usual) {
            let none: Option<&str> = None;
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(Some("bpf"), usual, Some("bpf"), flags, none).expect("root may");
        }
    });
}
