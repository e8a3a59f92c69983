//! Why the kernel refused, and what to do about it.

use std::fs;
use std::io;
use std::path::Path;

use aya::programs::{ProgramError, loaded_programs};

use crate::config::XdpMode;
use crate::exit::{self, Documented};
use crate::host::{self, Interface};

/// An XDP program could not be attached.
pub(super) fn xdp(interface: &Interface, mode: XdpMode, error: io::Error) -> anyhow::Error {
    let name = &interface.name;
    let driver = host::driver(name);
    let driver = driver.as_deref().unwrap_or("unknown");
    let advice = match (error.raw_os_error(), mode) {
        (Some(libc::EOPNOTSUPP), XdpMode::Native) => {
            "the driver has no native XDP. Set xdp = \"generic\" under [agent] to run in the kernel's \
             receive path (any driver, less speed), or use another NIC"
                .into()
        }
        (Some(libc::EBUSY | libc::EEXIST), _) => match interface.xdp.first() {
            Some((_, id)) => return foreign(interface, *id),
            None => "another XDP program is attached; `ip link show` names it".into(),
        },
        (Some(libc::EPERM | libc::EACCES), _) => {
            "not permitted: run as root, or with CAP_BPF and CAP_NET_ADMIN".into()
        }
        (Some(libc::ENODEV), _) => "the interface has gone".into(),
        (Some(libc::EINVAL | libc::E2BIG | libc::ERANGE), XdpMode::Native) => format!(
            "the driver can't run it with the interface as it is: an MTU of {} may be too large, \
             LRO or too few queues are other causes (dmesg says more). Lower the MTU, or set \
             xdp = \"generic\" under [agent]",
            interface.mtu
        ),
        _ => "the kernel's log (dmesg) may say more".into(),
    };
    let what = format!("{name} (driver {driver}): XDP can't be attached in {mode} mode: {advice}");
    anyhow::Error::new(error).context(what)
}

/// A tc program could not be attached to this hook.
pub(super) fn tc(interface: &Interface, hook: &str, error: io::Error) -> anyhow::Error {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "not permitted: run as root, or with CAP_BPF and CAP_NET_ADMIN"
        }
        Some(libc::ENODEV) => "the interface has gone",
        Some(libc::EINVAL) => "the kernel has no tcx links (Linux 6.6 with CONFIG_NET_XGRESS)",
        _ => "the kernel's log (dmesg) may say more",
    };
    let name = &interface.name;
    anyhow::Error::new(error).context(format!(
        "{name}: the program can't be attached to {hook}: {advice}"
    ))
}

/// A program could not be attached to a hook of a cgroup.
pub(super) fn cgroup(cgroup: &Path, hook: &str, error: io::Error) -> anyhow::Error {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "not permitted: run as root or with CAP_NET_ADMIN, or somebody has attached a program to this \
             cgroup or one above it that allows no other beside it"
        }
        Some(libc::E2BIG) => "64 programs are on this hook already, which is the most there can be",
        Some(libc::EBADF) => "not a directory of a cgroup v2 hierarchy",
        Some(libc::EINVAL) => "the kernel has no such hook (CONFIG_CGROUP_BPF)",
        _ => "the kernel's log (dmesg) may say more",
    };
    let place = cgroup.display();
    anyhow::Error::new(error).context(format!(
        "{place}: the program for {hook} can't be attached: {advice}"
    ))
}

/// Somebody else's XDP program is there.
pub(super) fn foreign(interface: &Interface, id: u32) -> anyhow::Error {
    let name = &interface.name;
    let program = program_name(id).unwrap_or_else(|| "without a name".into());
    let what = format!(
        "{name}: another XDP program is attached, {program} (id {id}), and Switcher replaces nobody's. \
         `bpftool prog show id {id}` tells more; whoever attached it has to remove it, or as a last \
         resort `ip link set dev {name} xdp off`"
    );
    let page = exit::FOREIGN_PROGRAM;
    Documented { what, page }.into()
}

/// There is no such interface, among these.
pub(super) fn missing(name: &str, known: &[Interface]) -> anyhow::Error {
    let known: Vec<&str> = known.iter().map(|it| it.name.as_str()).collect();
    let known = known.join(", ");
    let what = format!("interface {name}: there is none of that name; this host has {known}");
    let page = exit::NO_INTERFACE;
    Documented { what, page }.into()
}

/// The name of a loaded program.
pub(crate) fn program_name(id: u32) -> Option<String> {
    let mut all = loaded_programs().filter_map(Result::ok);
    let program = all.find(|program| program.id() == id)?;
    Some(program.name_as_str()?.to_owned())
}

/// The verifier, or what comes before it, refused a program. Its full log goes to `log`.
pub(super) fn load(program: &str, error: ProgramError, log: &Path) -> anyhow::Error {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return anyhow::Error::new(error).context(format!("program {program} can't be loaded"));
    };
    if verifier_log.to_string().trim().is_empty() && io_error.raw_os_error() == Some(libc::EPERM) {
        return anyhow::Error::new(io_error).context(format!(
            "program {program} can't be loaded: not permitted. Run as root, or with CAP_BPF, \
             CAP_NET_ADMIN and CAP_PERFMON"
        ));
    }
    let full = verifier_log.to_string();
    let kept = match fs::write(log, &full) {
        Ok(()) => format!("full log: {}", log.display()),
        Err(error) => format!(
            "the full log could not be kept in {}: {error}",
            log.display()
        ),
    };
    let telling = telling(&full).join("\n  ");
    anyhow::Error::new(io_error).context(format!(
        "the kernel ({}) refuses program {program}. This is a bug in Switcher or a kernel it was not \
         tried on; please report it with the log.\n  {telling}\n{kept}",
        host::Kernel::running()
    ))
}

/// The last lines of a verifier log, without its statistics.
fn telling(log: &str) -> Vec<&str> {
    let statistics = [
        "processed ",
        "verification time",
        "stack depth",
        "peak_states",
    ];
    let mut lines: Vec<&str> = log
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !statistics.iter().any(|s| line.starts_with(s)))
        .rev()
        .take(6)
        .collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::super::attach::usable;
    use super::super::pins::Pins;
    use super::*;
    use crate::exit::Failure;
    use crate::host::XdpAttached;

    #[test]
    fn the_telling_lines_are_the_last_but_the_statistics() {
        let log = "func#0\n1: r0 = 0\n2: r1 = *(u8 *)(r2 +3)\nR2 invalid mem access 'scalar'\n\
                   verification time 12 usec\nprocessed 3 insns (limit 1000000)\n";
        assert_eq!(telling(log).last(), Some(&"R2 invalid mem access 'scalar'"));
    }

    #[test]
    fn another_program_and_no_interface_have_their_pages() {
        let page = |error: anyhow::Error| {
            let failure = Failure::from(error.context("eth0"));
            failure.page()
        };
        let mut interface = Interface {
            name: "eth0".into(),
            ..Interface::default()
        };
        let gone = missing("eth1", &[interface.clone()]);
        assert!(gone.to_string().ends_with("this host has eth0"), "{gone}");
        assert_eq!(page(gone), Some(exit::NO_INTERFACE));
        let pins = Pins::new(Path::new("/nowhere"));
        let gone = usable(&pins, "no-such-one", XdpMode::Native).expect_err("is not there");
        assert_eq!(page(gone), Some(exit::NO_INTERFACE));
        interface.xdp = vec![(XdpAttached::Native, u32::MAX)];
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        let foreign = xdp(&interface, XdpMode::Native, busy);
        assert_eq!(page(foreign), Some(exit::FOREIGN_PROGRAM));
    }

    #[test]
    fn a_driver_without_native_xdp_is_told_what_to_set() {
        let interface = Interface {
            name: "lo".into(),
            ..Interface::default()
        };
        let error = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        let text = xdp(&interface, XdpMode::Native, error).to_string();
        assert!(
            text.contains("lo (driver") && text.contains("native mode"),
            "{text}"
        );
        assert!(text.contains("xdp = \"generic\""), "{text}");
    }
}
