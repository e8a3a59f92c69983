//! Kernel, capabilities, file systems.

use std::fs;
use std::path::Path;

use super::Check;
use crate::host::Kernel;

/// Capabilities by their number (include/uapi/linux/capability.h), and what each is for.
const CAPABILITIES: [(u32, &str); 4] = [
    (12, "CAP_NET_ADMIN"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

pub(super) fn checks() -> Vec<Check> {
    let kernel = Kernel::running();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let jit = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    vec![
        release(kernel).about("kernel"),
        egress(kernel),
        btf(Path::new("/sys/kernel/btf/vmlinux").exists()).about("kernel-types"),
        self::jit(jit.ok().as_deref()).about("jit"),
        capabilities(&status).about("capabilities"),
    ]
}

fn release(kernel: Kernel) -> Check {
    let found = format!("Linux {kernel}");
    if kernel >= Kernel::OLDEST {
        return Check::ok("kernel", found);
    }
    let advice = format!(
        "Linux {} is the oldest that Switcher works on",
        Kernel::OLDEST
    );
    Check::problem("kernel", found, &advice)
}

fn egress(kernel: Kernel) -> Check {
    let how = match kernel >= Kernel::TCX {
        true => "tcx links",
        false => "a clsact filter (tcx links come with Linux 6.6)",
    };
    Check::ok("replies", how)
}

fn btf(there: bool) -> Check {
    match there {
        true => Check::ok("kernel types (BTF)", "/sys/kernel/btf/vmlinux"),
        false => Check::problem(
            "kernel types (BTF)",
            "/sys/kernel/btf/vmlinux is missing",
            "a kernel built with CONFIG_DEBUG_INFO_BTF is needed; distribution kernels have it",
        ),
    }
}

fn jit(setting: Option<&str>) -> Check {
    const NAME: &str = "BPF compiler (JIT)";
    match setting.map(str::trim) {
        Some("0") => Check::problem(
            NAME,
            "off: programs are interpreted",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Some(_) => Check::ok(NAME, "on"),
        None => Check::unknown(
            NAME,
            "/proc/sys/net/core/bpf_jit_enable can't be read",
            "only root sees it, and only in the host's own network namespace",
        ),
    }
}

fn capabilities(status: &str) -> Check {
    const NAME: &str = "capabilities";
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(held) = line.and_then(|held| u64::from_str_radix(held.trim(), 16).ok()) else {
        return Check::unknown(NAME, "/proc/self/status can't be read", "");
    };
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(number, _)| held >> number & 1 == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        return Check::ok(NAME, "all that it takes");
    }
    Check::problem(
        NAME,
        format!("missing: {}", missing.join(", ")),
        "run the agent (and this) as root, or grant them",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn old_kernels_are_problems() {
        assert_eq!(release(Kernel(5, 15)).state, State::Problem);
        assert_eq!(release(Kernel(5, 18)).state, State::Ok);
        assert!(egress(Kernel(6, 1)).found.contains("clsact"));
    }

    #[test]
    fn capabilities_are_named_one_by_one() {
        let check = capabilities("Name:\tx\nCapEff:\t0000000000001000\n");
        assert_eq!(check.state, State::Problem);
        assert_eq!(check.found, "missing: CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF");
        assert_eq!(capabilities("CapEff:\t000001ffffffffff\n").state, State::Ok);
        assert_eq!(capabilities("").state, State::Unknown);
    }

    #[test]
    fn an_interpreter_is_a_problem() {
        assert_eq!(jit(Some("0\n")).state, State::Problem);
        assert_eq!(jit(Some("1\n")).state, State::Ok);
        assert_eq!(jit(None).state, State::Unknown);
    }
}
