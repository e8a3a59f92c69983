//! A virtual machine: booted, listened to, ended.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Begins lines of the guest's that are meant for us.
const MARK: &str = "guest: ";
/// How long KVM may take to bring up a kernel, which takes it a second or two.
const PROBE: Duration = Duration::from_secs(10);
/// Processors that QEMU may promise a guest. The first is the best; some hosts refuse its registers.
const PROCESSORS: [&str; 2] = ["host", "max,pmu=off,-arch-capabilities"];
/// Lines of a console that is not understood which are repeated.
const TAIL: usize = 15;

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// The processor, which QEMU promises the guest by this name.
    Kvm(&'static str),
    /// QEMU.
    Emulation,
}

/// A machine to be.
pub(crate) struct Machine<'a> {
    /// What is booted.
    pub(crate) kernel: &'a Path,
    /// Its first file system.
    pub(crate) image: &'a Path,
    /// Who executes it.
    pub(crate) accelerator: Accelerator,
}

impl Machine<'_> {
    /// Runs it to its end. Hands what the guest says to `say`; returns how many of its runs failed.
    ///
    /// # Errors
    /// When it does not come up, breaks, or takes longer than `most`.
    pub(crate) fn boot(&self, most: Duration, mut say: impl FnMut(&str)) -> anyhow::Result<usize> {
        let mut running = Running::start(self.command())?;
        let deadline = Instant::now() + most;
        loop {
            let line = match running.line(deadline) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("not done after {most:?}{}", running.tail())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("it ended early{}", running.tail()),
            };
            let Some(said) = line
                .split_once(MARK)
                .map(|(_console, said)| said.trim_end())
            else {
                continue;
            };
            match said.split_once(' ') {
                Some(("say", text)) => say(text),
                Some(("up", text)) => say(&format!("up, {text}")),
                Some(("end", text)) => {
                    let failed = text.trim_end_matches(" failed").parse();
                    return failed.context("a number of failures");
                }
                _ => bail!("the guest is {said}"),
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        let (accelerator, processor) = match self.accelerator {
            Accelerator::Kvm(processor) => ("kvm", processor),
            Accelerator::Emulation => ("tcg,thread=multi", "max"),
        };
        command
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
                "-serial",
                "stdio",
            ])
            .args([
                "-m",
                "2G",
                "-smp",
                "2",
                "-accel",
                accelerator,
                "-cpu",
                processor,
            ])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.image)
            .args(["-append", "console=ttyS0 quiet panic=-1 PATH=/bin"]);
        // Two network cards with one cable between them.
        for (number, name) in ["left", "right"].into_iter().enumerate() {
            command
                .args(["-netdev", &format!("hubport,hubid=0,id={name}")])
                .args([
                    "-device",
                    &format!("virtio-net-pci,netdev={name},mac=52:54:00:00:00:0{number},romfile="),
                ]);
        }
        command
    }
}

/// KVM, if it boots a kernel here, which only trying tells.
///
/// # Errors
/// Why not.
pub(crate) fn kvm(kernel: &Path, image: &Path) -> anyhow::Result<Accelerator> {
    std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .context("/dev/kvm can't be opened")?;
    let mut why = Vec::new();
    for processor in PROCESSORS {
        let accelerator = Accelerator::Kvm(processor);
        let machine = Machine {
            kernel,
            image,
            accelerator,
        };
        let begun = Instant::now();
        match machine.boot(PROBE, |_| {}) {
            Ok(_) => return Ok(accelerator),
            Err(error) => why.push(format!("with -cpu {processor}: {error:#}")),
        }
        // A kernel that hangs under one processor does so under all.
        if begun.elapsed() >= PROBE {
            break;
        }
    }
    let nested = Path::new("/sys/module/kvm_pvm").exists();
    let hint = if nested {
        "; the kernel's kvm_pvm runs only kernels that are made for it"
    } else {
        ""
    };
    bail!("KVM boots no stock kernel here: {}{hint}", why.join("; "))
}

/// A QEMU that goes with its handle.
struct Running {
    child: Child,
    lines: Receiver<String>,
    last: Vec<String>,
}

impl Running {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let (reader, writer) = std::io::pipe().context("making a pipe")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .context("starting qemu-system-x86_64")?;
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|size| size > 0)
            {
                if send
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    return;
                }
                line.clear();
            }
        });
        Ok(Self {
            child,
            lines,
            last: Vec::new(),
        })
    }

    fn line(&mut self, deadline: Instant) -> Result<String, RecvTimeoutError> {
        let line = self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))?;
        self.last.push(line.trim_end().to_owned());
        if self.last.len() > TAIL {
            self.last.remove(0);
        }
        Ok(line)
    }

    /// What the console said last.
    fn tail(&self) -> String {
        match self.last.is_empty() {
            true => String::new(),
            false => format!("; its last words were:\n{}", self.last.join("\n")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
