//! From what the host has to what to do next; no I/O.

use std::ops::RangeInclusive;

use super::have::{Have, Linker};
use super::step::Step;

/// What a task asks of the host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Need {
    /// Compiling everything.
    Build,
    /// That, and making packages.
    Package,
    /// All of that, and running what needs network namespaces, load and BPF.
    Run,
}

/// Versions of LLVM that bpf-linker has a feature for.
pub(crate) const LLVM: RangeInclusive<u32> = 21..=23;
/// The oldest bpf-linker known to build the kernel object; `setup` installs it exactly.
pub(crate) const LINKER: (u32, u32) = (0, 13);
/// Debian 12's security suite carries these for its browsers: a current compiler and its source.
pub(crate) const DISTRIBUTION_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The Debian package with what finds out which libraries a binary needs.
const SHARED_LIBRARIES: &str = "dpkg-dev";

/// The Debian package that a linker for LLVM `major` is built against.
pub(crate) fn llvm_package(major: u32) -> String {
    format!("llvm-{major}-dev")
}

/// What to do now. Some answers only come after these steps: look and ask again until there are none.
pub(crate) fn steps(have: &Have, need: Need) -> Vec<Step> {
    let mut packages = Vec::new();
    let mut steps = toolchain(have, &mut packages);
    if need != Need::Build && !have.cargo_deb {
        steps.push(Step::CargoDeb);
    }
    if need == Need::Package && have.missing_programs.contains(&SHARED_LIBRARIES) {
        packages.push(SHARED_LIBRARIES.to_owned());
    }
    if need == Need::Run {
        packages.extend(
            have.missing_programs
                .iter()
                .map(|package| (*package).to_owned()),
        );
        if !have.bpffs {
            steps.push(Step::Mount);
        }
    }
    if have.can_install() && !have.lists && needs_lists(&steps, &packages) {
        return vec![Step::Lists];
    }
    if !packages.is_empty() {
        steps.insert(0, Step::Packages(packages));
    }
    steps
}

/// Without lists, what apt could offer is unknown and its advice premature.
fn needs_lists(steps: &[Step], packages: &[String]) -> bool {
    !packages.is_empty() || steps.iter().any(|step| matches!(step, Step::Person(_)))
}

fn toolchain(have: &Have, packages: &mut Vec<String>) -> Vec<Step> {
    if !have.rustup {
        return vec![Step::Person(
            "rustup, by which the build finds a compiler for the kernel object: https://rustup.rs"
                .to_owned(),
        )];
    }
    match &have.compiler {
        Some(compiler) if fits(have.linker.as_ref(), compiler.llvm) => Vec::new(),
        Some(compiler) if can_build_linker(have, compiler.llvm) => {
            linker(have, compiler.llvm, packages)
        }
        // A compiler that no linker can be had for, such as a nightly newer than the distribution's LLVM.
        Some(compiler) if compiler.name == switcher_toolchain::DISTRIBUTION => {
            vec![Step::Person(linker_advice(compiler.llvm))]
        }
        found => distribution(have, packages).unwrap_or_else(|| {
            vec![Step::Person(
                found
                    .as_ref()
                    .map_or_else(compiler_advice, |compiler| linker_advice(compiler.llvm)),
            )]
        }),
    }
}

/// The distribution's compiler, if there is or could be one; its linker is the next round's business.
fn distribution(have: &Have, packages: &mut Vec<String>) -> Option<Vec<Step>> {
    if have.distribution_llvm.is_none() {
        if !offers(have, DISTRIBUTION_COMPILER[0]) {
            return None;
        }
        packages.extend(DISTRIBUTION_COMPILER.map(str::to_owned));
    }
    Some(vec![Step::Link])
}

fn linker(have: &Have, llvm: u32, packages: &mut Vec<String>) -> Vec<Step> {
    if !have.llvm_libraries.contains(&llvm) {
        packages.push(llvm_package(llvm));
        packages.push(format!("libpolly-{llvm}-dev"));
        packages.extend(["libzstd-dev", "zlib1g-dev"].map(str::to_owned));
    }
    vec![Step::Linker { llvm }]
}

/// LLVM reads what older versions wrote, not what newer ones did.
pub(super) fn fits(linker: Option<&Linker>, llvm: u32) -> bool {
    linker
        .is_some_and(|linker| linker.version >= LINKER && linker.llvm.is_none_or(|own| own >= llvm))
}

fn can_build_linker(have: &Have, llvm: u32) -> bool {
    LLVM.contains(&llvm)
        && (have.llvm_libraries.contains(&llvm) || offers(have, &llvm_package(llvm)))
}

fn offers(have: &Have, package: &str) -> bool {
    have.offered.iter().any(|offered| offered == package)
}

fn compiler_advice() -> String {
    "a Rust compiler with its library source: `rustup toolchain install nightly --component rust-src`; \
     then bpf-linker 0.13 for that compiler's LLVM, prebuilt from https://github.com/aya-rs/bpf-linker/releases, \
     into a directory of PATH"
        .to_owned()
}

fn linker_advice(llvm: u32) -> String {
    format!(
        "bpf-linker 0.13 or newer with LLVM {llvm} or newer, prebuilt from \
         https://github.com/aya-rs/bpf-linker/releases, into a directory of PATH"
    )
}

#[cfg(test)]
mod tests {
    use switcher_toolchain::{DISTRIBUTION, NIGHTLY};

    use super::super::have::Compiler;
    use super::*;

    /// Root on a fresh Debian 12 whose package lists are there.
    fn bare() -> Have {
        Have {
            root: true,
            apt: true,
            lists: true,
            rustup: true,
            offered: vec!["rustc-web".to_owned(), "llvm-22-dev".to_owned()],
            missing_programs: vec!["iproute2", "wrk"],
            cargo_deb: true,
            ..Have::default()
        }
    }

    fn with_compiler(name: &str, llvm: u32) -> Have {
        Have {
            compiler: Some(Compiler {
                name: name.to_owned(),
                llvm,
            }),
            ..bare()
        }
    }

    fn linker_with(llvm: Option<u32>) -> Option<Linker> {
        Some(Linker {
            version: LINKER,
            llvm,
        })
    }

    fn packages(names: &[&str]) -> Step {
        Step::Packages(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn asks_a_person(steps: &[Step]) -> bool {
        steps.iter().any(|step| matches!(step, Step::Person(_)))
    }

    #[test]
    fn without_package_lists_those_come_first() {
        let have = Have {
            lists: false,
            offered: Vec::new(),
            ..bare()
        };
        assert_eq!(steps(&have, Need::Run), [Step::Lists]);
    }

    #[test]
    fn a_bare_host_gets_the_distribution_compiler_and_all_programs() {
        assert_eq!(
            steps(&bare(), Need::Run),
            [
                packages(&["rustc-web", "cargo-web", "rust-web-src", "iproute2", "wrk"]),
                Step::Link,
                Step::Mount
            ]
        );
    }

    #[test]
    fn building_needs_no_programs_and_no_bpffs() {
        assert_eq!(
            steps(&bare(), Need::Build),
            [
                packages(&["rustc-web", "cargo-web", "rust-web-src"]),
                Step::Link
            ]
        );
    }

    #[test]
    fn the_linker_is_built_for_the_llvm_of_the_compiler() {
        assert_eq!(
            steps(&with_compiler(DISTRIBUTION, 22), Need::Build),
            [
                packages(&[
                    "llvm-22-dev",
                    "libpolly-22-dev",
                    "libzstd-dev",
                    "zlib1g-dev",
                ]),
                Step::Linker { llvm: 22 }
            ]
        );
        let have = Have {
            llvm_libraries: vec![22],
            ..with_compiler(NIGHTLY, 22)
        };
        assert_eq!(steps(&have, Need::Build), [Step::Linker { llvm: 22 }]);
    }

    #[test]
    fn an_installed_compiler_is_only_linked() {
        let have = Have {
            distribution_llvm: Some(22),
            ..bare()
        };
        assert_eq!(steps(&have, Need::Build), [Step::Link]);
    }

    #[test]
    fn a_linker_fits_unless_it_is_older_or_its_llvm_is() {
        let fits = |linker, llvm| {
            steps(
                &Have {
                    linker,
                    ..with_compiler(NIGHTLY, llvm)
                },
                Need::Build,
            )
            .is_empty()
        };
        assert!(fits(linker_with(Some(22)), 22));
        assert!(fits(linker_with(Some(23)), 22));
        assert!(fits(linker_with(None), 22));
        assert!(!fits(linker_with(Some(21)), 22));
        assert!(!fits(
            Some(Linker {
                version: (0, 12),
                llvm: None
            }),
            22
        ));
    }

    #[test]
    fn a_nightly_too_new_for_any_linker_gives_way_to_the_distribution() {
        let have = with_compiler(NIGHTLY, 24);
        assert_eq!(
            steps(&have, Need::Build),
            [
                packages(&["rustc-web", "cargo-web", "rust-web-src"]),
                Step::Link
            ]
        );
        assert!(asks_a_person(&steps(
            &Have {
                offered: Vec::new(),
                ..have
            },
            Need::Build
        )));
    }

    #[test]
    fn without_rustup_nothing_is_installed() {
        let have = Have {
            rustup: false,
            ..bare()
        };
        let steps = steps(&have, Need::Build);
        assert!(asks_a_person(&steps));
        assert!(
            !steps
                .iter()
                .any(|step| matches!(step, Step::Packages(_) | Step::Link))
        );
    }

    #[test]
    fn other_distributions_ask_a_person() {
        let have = Have {
            apt: false,
            lists: false,
            offered: Vec::new(),
            ..bare()
        };
        let steps = steps(&have, Need::Run);
        assert!(asks_a_person(&steps));
        assert!(!steps.iter().all(|step| step.possible(&have)));
    }

    #[test]
    fn packaging_needs_its_tools() {
        let have = Have {
            linker: linker_with(Some(22)),
            missing_programs: vec!["wrk", SHARED_LIBRARIES],
            cargo_deb: false,
            ..with_compiler(NIGHTLY, 22)
        };
        assert_eq!(steps(&have, Need::Build), []);
        assert_eq!(
            steps(&have, Need::Package),
            [packages(&[SHARED_LIBRARIES]), Step::CargoDeb]
        );
        assert_eq!(
            steps(&have, Need::Run),
            [
                packages(&["wrk", SHARED_LIBRARIES]),
                Step::CargoDeb,
                Step::Mount
            ]
        );
    }

    #[test]
    fn a_complete_host_has_nothing_to_do() {
        let have = Have {
            linker: linker_with(Some(22)),
            missing_programs: Vec::new(),
            bpffs: true,
            cargo_deb: true,
            // Nothing is to be installed, so nobody needs to be root.
            root: false,
            ..with_compiler(NIGHTLY, 22)
        };
        assert_eq!(steps(&have, Need::Run), []);
    }
}
