//! Many flips a second, of many groups at once: how many there are, and what that takes of the agent.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use switcher_harness::agent::binary;
use switcher_harness::config::Settings;
use switcher_harness::topology::{COLOURS, VIP};
use switcher_harness::{Agent, Mode, Stand};

use crate::flip::{ask, resident};
use crate::report::Report;

/// What is flipped at once.
const GROUPS: u16 = 32;
/// The port of the first group's service.
const PORT: u16 = 20_000;
/// Flips a second, of all groups together, and what is said of them.
const ASKED: [(f64, &str); 3] = [
    (10.0, "10 flips a second asked, done"),
    (100.0, "100 flips a second asked, done"),
    (1000.0, "1,000 flips a second asked, done"),
];

pub(crate) fn measure(time: Duration, report: &mut Report) -> anyhow::Result<()> {
    let settings = Settings {
        arm: Duration::ZERO,
        health: "none",
        ..Settings::default()
    };
    let stand = Stand::new(Mode::Local, false, settings, &binary()?)?;
    let mut config = stand.settings.render(&stand.topology, stand.agent.place());
    config += &groups(&stand);
    stand.agent.write_config(&config)?;
    let file = stand.agent.place().config();
    let file = file.to_str().context("a path in UTF-8")?;
    stand.agent.cli(&["apply", file, "--quiet"])?.expect(0)?;
    for (rate, name) in ASKED {
        let before = worked(&stand.agent)?;
        let (done, seconds) = flips(stand.agent.place().socket().as_path(), rate, time)?;
        let cpu = 100.0 * (worked(&stand.agent)? - before) / seconds;
        report.figure(name, done / seconds, "/s", None);
        report.figure("  agent's CPU", cpu, "% of a core", None);
        report.figure("  agent's memory", resident(&stand.agent)?, "MiB", None);
    }
    Ok(())
}

/// Flips all groups in turn for so long, each by a client of its own that waits for one before it asks for the next. Says
/// how many there were, and how many seconds they took.
fn flips(socket: &Path, rate: f64, time: Duration) -> anyhow::Result<(f64, f64)> {
    let every = Duration::from_secs_f64(f64::from(GROUPS) / rate);
    let begun = Instant::now();
    let done = std::thread::scope(|scope| {
        let start = |group| scope.spawn(move || client(socket, group, every, begun + time));
        let clients: Vec<_> = (0..GROUPS).map(start).collect();
        let mut done = 0;
        for client in clients {
            let flips = client.join();
            done += flips.map_err(|_| anyhow::anyhow!("a client has panicked"))??;
        }
        anyhow::Ok(done)
    })?;
    Ok((f64::from(done), begun.elapsed().as_secs_f64()))
}

fn client(socket: &Path, group: u16, every: Duration, end: Instant) -> anyhow::Result<u32> {
    let mut connection = UnixStream::connect(socket)?;
    let mut done = 0;
    // Not all at once.
    let mut due = Instant::now() + every.mul_f64(f64::from(group) / f64::from(GROUPS));
    while due < end && Instant::now() < end {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        ask(
            &mut connection,
            "POST",
            &format!("/v1/groups/g{group}/flip"),
            "{}",
        )?;
        done += 1;
        due += every;
    }
    Ok(done)
}

/// Each with a service on this host.
fn groups(stand: &Stand) -> String {
    let [blue, green] = [0, 1].map(|place| stand.topology.endpoints(1)[place].web.ip());
    let mut text = String::new();
    for group in 0..GROUPS {
        let at = |ip, offset: u16| SocketAddr::new(ip, PORT + 100 * offset + group);
        let _ = writeln!(
            text,
            "[groups.g{group}]\ninitial = \"{}\"\n[groups.g{group}.health]\nkind = \"none\"\n\
             [groups.g{group}.services.web]\nvip = \"{}/tcp\"\nforward = \"local\"\n\
             endpoints.{} = [\"{}\"]\nendpoints.{} = [\"{}\"]",
            COLOURS[0],
            at(VIP.into(), 0),
            COLOURS[0],
            at(blue, 1),
            COLOURS[1],
            at(green, 2),
        );
    }
    text
}

/// Seconds of CPU that the agent has taken.
fn worked(agent: &Agent) -> anyhow::Result<f64> {
    let pid = agent.pid().context("the agent has gone")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit_once(')').context("a name")?.1;
    // `utime` and `stime` (proc_pid_stat(5)), the 12th and 13th after the name.
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.map(|it| it.parse().unwrap_or(0.0)).sum();
    let second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    Ok(ticks / second.context("no ticks a second")? as f64)
}
