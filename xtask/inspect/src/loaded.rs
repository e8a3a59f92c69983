//! The same programs as this kernel's verifier and compiler see them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use aya::EbpfLoader;
use aya::programs::{Program, ProgramError, ProgramInfo};

use crate::states::{self, States};

/// What the kernel says of a loaded program.
#[derive(Debug)]
pub(crate) struct Loaded {
    name: String,
    /// Instructions that the verifier walked, over all paths; since Linux 5.16.
    verified: Option<u32>,
    /// What it has kept meanwhile.
    states: States,
    /// Instructions after the kernel's rewriting.
    translated: Option<u32>,
    /// Bytes of machine code, if `bpftool` is here to ask.
    machine_code: Option<u64>,
}

/// Loads every program, asks about it and lets it go.
pub(crate) fn programs(object: &[u8]) -> anyhow::Result<Vec<Loaded>> {
    let pins = Pins::new()?;
    let mut loaded = EbpfLoader::new()
        .default_map_pin_directory(&pins.0)
        .load(object)
        .context("creating the maps")?;
    let states = states::states(object, &loaded).context("asking for the verifier's log")?;
    let mut programs = loaded
        .programs_mut()
        .map(|(name, program)| {
            let states = states.get(name).context("it is not in the object")?;
            ask(name, program, *states).with_context(|| format!("loading `{name}`"))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// As Markdown.
pub(crate) fn table(programs: &[Loaded]) -> String {
    let mut table = String::from(
        "| program | verified instructions | states in all | at most at once | translated instructions | machine code bytes |\n\
         |---|---:|---:|---:|---:|---:|\n",
    );
    for Loaded {
        name,
        verified,
        states,
        translated,
        machine_code,
    } in programs
    {
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "| `{name}` | {} | {} | {} | {} | {} |",
            or_dash(*verified),
            states.total,
            states.peak,
            or_dash(*translated),
            or_dash(*machine_code)
        );
    }
    table
}

fn ask(name: &str, program: &mut Program, states: States) -> anyhow::Result<Loaded> {
    load(program)?;
    let info = program.info()?;
    Ok(Loaded {
        name: name.to_owned(),
        verified: info.verified_instruction_count(),
        states,
        // Instructions are 8 bytes.
        translated: info.size_translated().map(|bytes| bytes / 8),
        machine_code: machine_code(&info),
    })
}

fn load(program: &mut Program) -> anyhow::Result<()> {
    let loaded = match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        other => bail!(
            "nobody taught `inspect` about {:?} programs",
            other.prog_type()
        ),
    };
    loaded.map_err(shorten)
}

/// The verifier's last lines say why; the whole log is for the one who debugs it.
fn shorten(error: ProgramError) -> anyhow::Error {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return error.into();
    };
    let log = verifier_log.to_string();
    let lines: Vec<_> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(20)..].join("\n");
    anyhow::anyhow!("{io_error}; the verifier's last lines:\n{tail}")
}

fn machine_code(info: &ProgramInfo) -> Option<u64> {
    let id = info.id().to_string();
    let output = Command::new("bpftool")
        .args(["--json", "prog", "show", "id", &id])
        .output()
        .ok()?;
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    shown["bytes_jited"].as_u64()
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A place for maps that are pinned by name, away from a running agent's.
struct Pins(PathBuf);

impl Pins {
    fn new() -> anyhow::Result<Self> {
        let path = PathBuf::from(format!(
            "/sys/fs/bpf/switcher-inspect-{}",
            std::process::id()
        ));
        std::fs::create_dir(&path).with_context(|| {
            format!(
                "creating {} (loading needs root and a mounted BPF file system)",
                path.display()
            )
        })?;
        Ok(Self(path))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}; please do", self.0.display());
        }
    }
}
