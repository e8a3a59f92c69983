//! What the host has. Looking changes nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs that tests, demo and bench start, and the Debian package of each.
const PROGRAMS: [(&str, &str); 14] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ethtool", "ethtool"),
    ("curl", "curl"),
    ("iperf3", "iperf3"),
    ("wrk", "wrk"),
    ("nsenter", "util-linux"),
    ("bpftool", "bpftool"),
    ("systemd-analyze", "systemd"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("chromium", "chromium"),
    ("certutil", "libnss3-tools"),
    ("openssl", "openssl"),
    ("faketime", "faketime"),
];
/// What makes Python environments for the tests of recipes.
const PYTHON: &str = "python3-venv";

/// Where tools of this project are installed.
pub(crate) const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools");

/// Where the distribution's compiler keeps its library source.
const DISTRIBUTION_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/core/Cargo.toml";

/// Findings about the host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Have {
    /// Running as root.
    pub(crate) root: bool,
    /// `apt-get` is here.
    pub(crate) apt: bool,
    /// apt knows what it could install.
    pub(crate) lists: bool,
    /// Those of the packages asked about that apt could install.
    pub(crate) offered: Vec<String>,
    /// rustup, by which build scripts call the compiler.
    pub(crate) rustup: bool,
    /// The compiler that build scripts would choose.
    pub(crate) compiler: Option<Compiler>,
    /// LLVM of a distribution compiler with library source, linked into rustup or not.
    pub(crate) distribution_llvm: Option<u32>,
    /// bpf-linker, if it runs.
    pub(crate) linker: Option<Linker>,
    /// LLVM versions that a linker can be built against.
    pub(crate) llvm_libraries: Vec<u32>,
    /// Packages of missing programs.
    pub(crate) missing_programs: Vec<&'static str>,
    /// A BPF file system at /sys/fs/bpf.
    pub(crate) bpffs: bool,
    /// cargo-deb, which makes the Debian package, at [`cargo_deb`].
    pub(crate) cargo_deb: bool,
}

/// A Rust toolchain with library source.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compiler {
    /// As rustup calls it.
    pub(crate) name: String,
    /// Its LLVM's major version.
    pub(crate) llvm: u32,
}

/// An installed bpf-linker.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Linker {
    /// Major and minor version.
    pub(crate) version: (u32, u32),
    /// Major version of the LLVM library that it loads; unknown if it carries its own.
    pub(crate) llvm: Option<u32>,
}

impl Have {
    /// Looks at this host.
    pub(crate) fn look() -> Self {
        let apt = in_path("apt-get").is_some();
        let compiler = compiler();
        let linker = linker();
        // apt takes half a second to answer; on a complete host nobody wants to know.
        let ask_apt = apt
            && !compiler
                .as_ref()
                .is_some_and(|compiler| super::next::fits(linker.as_ref(), compiler.llvm));
        Self {
            root: is_root(),
            apt,
            lists: apt && has_lists(),
            offered: if ask_apt { offered() } else { Vec::new() },
            rustup: in_path("rustup").is_some(),
            compiler,
            distribution_llvm: distribution_llvm(),
            linker,
            llvm_libraries: super::next::LLVM
                .filter(|major| {
                    Path::new(&format!("/usr/lib/llvm-{major}/bin/llvm-config")).exists()
                })
                .collect(),
            missing_programs: missing_programs(),
            bpffs: mounts().contains(" /sys/fs/bpf bpf "),
            cargo_deb: cargo_deb().is_file(),
        }
    }

    /// Whether packages can be installed.
    pub(crate) fn can_install(&self) -> bool {
        self.root && self.apt
    }

    /// Why something cannot be installed here.
    pub(crate) fn obstacle(&self) -> &'static str {
        match (self.root, self.apt) {
            (_, false) => "it only knows Debian's apt-get, and there is none",
            (false, true) => "it is not running as root",
            (true, true) => "not everything is a package of this distribution",
        }
    }
}

/// Where cargo-deb is, or shall be: a tool of this project alone.
pub(crate) fn cargo_deb() -> PathBuf {
    Path::new(TOOLS).join("bin/cargo-deb")
}

/// Where libraries of Debian's packages are that are unpacked somewhere, as `LD_LIBRARY_PATH` has it.
pub(crate) fn libraries(unpacked: &Path) -> String {
    let place = |it| {
        format!(
            "{}/{it}/{}-linux-gnu",
            unpacked.display(),
            std::env::consts::ARCH
        )
    };
    ["usr/lib", "lib"].map(place).join(":")
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn has_lists() -> bool {
    std::fs::read_dir("/var/lib/apt/lists").is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
        })
    })
}

fn offered() -> Vec<String> {
    let llvm = super::next::LLVM.map(super::next::llvm_package);
    let asked = std::iter::once(super::next::DISTRIBUTION_COMPILER[0].to_owned()).chain(llvm);
    candidates(&output(Command::new("apt-cache").arg("policy").args(asked)))
}

/// The packages that `apt-cache policy` names a candidate for.
pub(crate) fn candidates(policy: &str) -> Vec<String> {
    let mut package = "";
    let mut found = Vec::new();
    for line in policy.lines() {
        match line.trim().strip_prefix("Candidate: ") {
            Some("(none)") => {}
            Some(_version) => found.push(package.to_owned()),
            None if !line.starts_with(' ') => package = line.trim_end_matches(':'),
            None => {}
        }
    }
    found
}

fn compiler() -> Option<Compiler> {
    let name = switcher_toolchain::find()?;
    let version = output(Command::new("rustup").args(["run", name, "rustc", "-vV"]));
    Some(Compiler {
        name: name.to_owned(),
        llvm: rustc_llvm(&version)?,
    })
}

fn distribution_llvm() -> Option<u32> {
    if !Path::new(DISTRIBUTION_SOURCE).exists() {
        return None;
    }
    rustc_llvm(&output(Command::new("/usr/bin/rustc").arg("-vV")))
}

/// From `LLVM version: 22.1.8`.
fn rustc_llvm(version: &str) -> Option<u32> {
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    llvm.split('.').next()?.parse().ok()
}

fn linker() -> Option<Linker> {
    let version = linker_version(&output(Command::new("bpf-linker").arg("--version")))?;
    let libraries = in_path("bpf-linker").map(|path| output(Command::new("ldd").arg(path)));
    Some(Linker {
        version,
        llvm: libraries.as_deref().and_then(linked_llvm),
    })
}

/// From `bpf-linker 0.13.0`.
fn linker_version(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim().strip_prefix("bpf-linker ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// From `libLLVM.so.22.1 => /usr/lib/...`.
fn linked_llvm(libraries: &str) -> Option<u32> {
    let (_before, after) = libraries.split_once("libLLVM.so.")?;
    after.split(['.', ' ']).next()?.parse().ok()
}

fn missing_programs() -> Vec<&'static str> {
    let mut packages: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|(program, _package)| in_path(program).is_none())
        .map(|(_program, package)| package)
        .collect();
    packages.dedup();
    // A module that Debian has in a package of its own.
    if !runs(Command::new("python3").args(["-c", "import ensurepip"])) {
        packages.push(PYTHON);
    }
    packages
}

fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Also where root's programs are, which others have no path to.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mounts").unwrap_or_default()
}

/// What `command` prints; nothing if it cannot run, which is all that looking needs to know.
fn output(command: &mut Command) -> String {
    command
        .env("LC_ALL", "C")
        .env("RUSTUP_AUTO_INSTALL", "0")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_what_apt_could_install() {
        let policy = "llvm-21-dev:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n\
                      rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n     \
                      1.96.0+dfsg1-1~deb12u2 500\n        500 http://deb.debian.org/debian-security main\n";
        assert_eq!(candidates(policy), ["rustc-web"]);
    }

    #[test]
    fn versions_are_read_from_what_programs_say() {
        assert_eq!(
            rustc_llvm("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n"),
            Some(22)
        );
        assert_eq!(rustc_llvm(""), None);
        assert_eq!(linker_version("bpf-linker 0.13.0\n"), Some((0, 13)));
        assert_eq!(linker_version("error: no such command"), None);
        assert_eq!(
            linked_llvm("\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x7f)"),
            Some(22)
        );
        assert_eq!(linked_llvm("\tstatically linked\n"), None);
    }
}
