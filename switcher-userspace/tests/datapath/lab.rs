//! A network namespace with interfaces, and a place for pins.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use nix::sched::{CloneFlags, unshare};
use switcher::config::{AgentConfig, InterfaceConfig, XdpMode};
use switcher::datapath::kernel::KernelDatapath;
use switcher::datapath::pins::Pins;
use switcher::host::{self, XdpAttached};
use switcher::reconcile::{Standing, Want, WantEndpoint, WantGroup, WantService};
use switcher_common::abi::{TCP, UDP, endpoint_flags, service_flags};

pub(crate) const DEVICE: &str = "sw0";

/// A network namespace for the calling thread, two interfaces, and a place for pins.
pub(crate) struct Lab {
    pub(crate) bpffs: PathBuf,
    state: tempfile::TempDir,
}

impl Lab {
    /// Nothing without root: the reason is printed.
    pub(crate) fn new(name: &str) -> Option<Self> {
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
    pub(crate) fn with_pins(name: &str, _beside: &Self) -> Self {
        Self::pinned_at(name)
    }

    pub(crate) fn pinned_at(name: &str) -> Self {
        mount_once();
        let name = format!("switcher-test-{}-{name}", std::process::id());
        Self {
            bpffs: Path::new("/sys/fs/bpf").join(name),
            state: tempfile::tempdir().expect("a directory"),
        }
    }

    pub(crate) fn add_device(&self) {
        ip(&["link", "add", DEVICE, "type", "veth", "peer", "name", "sw1"]);
        ip(&["addr", "add", "10.0.0.1/24", "dev", DEVICE]);
        ip(&["link", "set", DEVICE, "up"]);
    }

    pub(crate) fn config(&self, xdp: XdpMode) -> AgentConfig {
        AgentConfig {
            interfaces: vec![interface(DEVICE, xdp)],
            socket: self.state.path().join("socket"),
            state_dir: self.state.path().into(),
            bpffs: self.bpffs.clone(),
            flows: 4096,
            listen: None,
            page: false,
            log: None,
            traces: None,
            local_clients: false,
            repair: true,
            cgroup: None,
            masquerade: switcher::config::Masquerade::default(),
            api: None,
            roles: None,
        }
    }

    pub(crate) fn open(&self, xdp: XdpMode) -> KernelDatapath {
        KernelDatapath::open(&self.config(xdp), 0).expect("nothing is in the way")
    }

    pub(crate) fn refusal(&self, xdp: XdpMode) -> String {
        match KernelDatapath::open(&self.config(xdp), 0) {
            Ok(_) => panic!("this should have been refused"),
            Err(error) => format!("{error:#}"),
        }
    }

    pub(crate) fn pins(&self) -> Pins {
        Pins::new(&self.bpffs)
    }

    /// Pin of what meets incoming packets at tc: a link, or a filter's program where there are no such links.
    pub(crate) fn ingress(&self, device: &str) -> PathBuf {
        match has_tcx() {
            true => self.pins().ingress(device),
            false => self.pins().clsact_ingress(device),
        }
    }

    /// The same of outgoing ones.
    pub(crate) fn egress(&self, device: &str) -> PathBuf {
        match has_tcx() {
            true => self.pins().egress(device),
            false => self.pins().clsact(device),
        }
    }

    pub(crate) fn xdp(&self) -> (XdpAttached, u32) {
        let interface = host::interface(DEVICE)
            .expect("a list")
            .expect("it is there");
        *interface.xdp.first().expect("a program is attached")
    }

    /// How an XDP program is attached, if there is one.
    pub(crate) fn seen(&self) -> Option<XdpAttached> {
        let interface = host::interface(DEVICE).expect("a list");
        let interface = interface.expect("it is there");
        interface.xdp.first().map(|(mode, _)| *mode)
    }

    /// Filters on a hook.
    pub(crate) fn filters(&self, hook: &str) -> usize {
        let text = self.show_filters(hook);
        text.lines().filter(|line| line.contains("handle")).count()
    }

    /// What `tc` says of them.
    pub(crate) fn show_filters(&self, hook: &str) -> String {
        let show = ["filter", "show", "dev", DEVICE, hook];
        let output = Command::new("tc").args(show).output().expect("tc is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn want(&self) -> Want {
        let at = |port| SocketAddr::new(IpAddr::from([10, 0, 0, 1]), port);
        let endpoint = |port| WantEndpoint {
            tunnel: Default::default(),
            address: at(port),
            weight: 1,
            flags: endpoint_flags::PRESENT,
            standing: Standing::Up,
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
            canary: None,
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
                pins.ingress(&interface),
                pins.clsact_ingress(&interface),
                pins.egress(&interface),
                pins.clsact(&interface),
            ] {
                let _absent = std::fs::remove_file(pin);
            }
        }
        let _absent = std::fs::remove_dir_all(&self.bpffs);
    }
}

pub(crate) fn interface(name: &str, xdp: XdpMode) -> InterfaceConfig {
    InterfaceConfig {
        name: name.into(),
        xdp,
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status();
    assert!(status.expect("ip is there").success(), "ip {arguments:?}");
}

/// Tests run at once, and each would mount one over the other's.
pub(crate) fn mount_once() {
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

/// Whether this kernel has tcx hooks: Linux 6.6.
pub(crate) fn has_tcx() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("it is there");
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(6))
}
