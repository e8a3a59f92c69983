//! Which Rust compiler builds the kernel object, shared by `cargo xtask setup` and the build scripts.
//!
//! A BPF target has no prebuilt `core`, so the compiler must come with its library source. Two are
//! known to work: rustup's nightly with `rust-src`, and Debian's `rustc-web` with `rust-web-src`, which
//! `setup` links into rustup as [`DISTRIBUTION`].

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
pub use aya_build::Package;
use aya_build::Toolchain;
use object::build::elf;
use object::elf::SHT_STRTAB;

/// The rustup name that `cargo xtask setup` gives to the distribution's compiler.
pub const DISTRIBUTION: &str = "switcher-bpf";

/// rustup's own compiler that can build for BPF, if its `rust-src` component is installed.
pub const NIGHTLY: &str = "nightly";

/// In order of preference: a link only exists where `setup` or a person decided for it.
const CANDIDATES: [&str; 2] = [DISTRIBUTION, NIGHTLY];

/// The rustup toolchain that can build for BPF on this host, if one can.
pub fn find() -> Option<&'static str> {
    CANDIDATES.into_iter().find(|name| has_library_source(name))
}

/// Builds `package`'s binaries for BPF and copies them to the build script's `OUT_DIR`.
///
/// For build scripts only: it sets variables for the compiler that it starts.
///
/// # Errors
/// When no toolchain is found or the compiler refuses the source.
pub fn build(package: Package<'_>) -> anyhow::Result<()> {
    let name = find().context(
        "no Rust toolchain here can build the kernel object: run `cargo xtask setup`, which installs one or says how",
    )?;
    let out_dir = std::env::var_os("OUT_DIR").context("OUT_DIR is not set: not a build script")?;
    share_build_directory(Path::new(&out_dir)).context("sharing what is built for BPF")?;
    // Incremental compilation, should the environment ask for it, cuts the object into pieces that are not inlined:
    // then functions need more stack than there is.
    for (name, value) in [("RUSTC_BOOTSTRAP", "1"), ("CARGO_INCREMENTAL", "0")] {
        // SAFETY: build scripts call this first thing in `main`, before any other thread exists.
        unsafe { std::env::set_var(name, value) };
    }
    aya_build::build_ebpf([package], Toolchain::Custom(name))
        .with_context(|| format!("building the kernel object with rustup toolchain `{name}`"))?;
    for built in std::fs::read_dir(&out_dir)? {
        let path = built?.path();
        if path.is_file() {
            lighten(&path).with_context(|| format!("lightening {}", path.display()))?;
        }
    }
    Ok(())
}

/// Takes DWARF out of an object, which is most of it: what the kernel wants to know of its source is BTF.
fn lighten(path: &Path) -> anyhow::Result<()> {
    let whole = std::fs::read(path)?;
    let mut object = elf::Builder::read(&*whole)?;
    let mut lost = Vec::new();
    for section in &mut object.sections {
        let name = section.name.to_string();
        let of = name.strip_prefix(".rel").unwrap_or(&name);
        if of.starts_with(".debug_") {
            section.delete = true;
            lost.push(section.id());
        }
    }
    if lost.is_empty() {
        return Ok(());
    }
    for symbol in &mut object.symbols {
        symbol.delete |= symbol.section.is_some_and(|it| lost.contains(&it));
    }
    // LLVM has one table for names of symbols and sections, which is the symbols' here.
    let names = object.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = elf::SectionData::SectionString;
    let mut light = Vec::new();
    object.write(&mut light)?;
    Ok(std::fs::write(path, light)?)
}

/// Lets all build scripts of a target directory use one directory for BPF.
///
/// `build`, `test`, `clippy` and `doc` each give a build script an `OUT_DIR` of its own; without this each
/// would compile `core` and the kernel object again.
fn share_build_directory(out_dir: &Path) -> std::io::Result<()> {
    // TARGET/debug/build/PACKAGE-HASH/out
    let Some(target) = out_dir.ancestors().nth(4) else {
        return Ok(());
    };
    let shared = target.join("bpf");
    std::fs::create_dir_all(&shared)?;
    // Where aya-build puts its `--target-dir`.
    let private = out_dir.join("aya-build");
    if private.is_symlink() {
        return Ok(());
    }
    if private.exists() {
        std::fs::remove_dir_all(&private)?;
    }
    std::os::unix::fs::symlink(&shared, &private)
}

fn has_library_source(name: &str) -> bool {
    let Ok(output) = Command::new("rustup")
        .args(["run", name, "rustc", "--print", "sysroot"])
        .env_remove("RUSTC")
        // Looking must not download a toolchain.
        .env("RUSTUP_AUTO_INSTALL", "0")
        .output()
    else {
        return false;
    };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success()
        && sysroot
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .exists()
}
