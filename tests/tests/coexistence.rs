//! Strangers on the same hooks: named where they are in the way, and never touched.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, ensure};
use aya::programs::tc::{SchedClassifier, TcAttachType};
use aya::programs::{CgroupSockAddr, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::libc;
use switcher_harness::agent::binary;
use switcher_harness::config::Settings;
use switcher_harness::load::Connection;
use switcher_harness::privilege::run;
use switcher_harness::topology::INTERFACE;
use switcher_harness::{Cgroup, Mode, Namespace, Stand};

#[test]
fn an_xdp_program_is_named_and_left_alone() {
    run("an_xdp_program_is_named_and_left_alone", xdp);
}

#[test]
fn programs_at_tc_are_neighbours() {
    run("programs_at_tc_are_neighbours", neighbours);
}

#[test]
fn a_cgroup_that_somebody_has_to_himself_is_told() {
    run("a_cgroup_that_somebody_has_to_himself_is_told", cgroup);
}

/// The object with the strangers.
const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/baseline"));

fn xdp() -> Result<()> {
    let mut stand = Stand::without_agent(Mode::Local, true, Settings::default(), &binary()?)?;
    let mut object = Ebpf::load(OBJECT)?;
    let program: &mut Xdp = object
        .program_mut("empty")
        .context("not there")?
        .try_into()?;
    program.load()?;
    let id = program.info()?.id();
    let link = stand
        .topology
        .switch
        .inside(|| program.attach(INTERFACE, XdpMode::Driver))??;
    let named = format!("another XDP program is attached, empty (id {id})");

    let refused = stand.agent.start().expect_err("it is in the way");
    ensure!(format!("{refused:#}").contains(&named), "{refused:#}");
    let config = stand.agent.place().config().display().to_string();
    let doctor = stand
        .agent
        .cli(&["doctor", "--config", &config])?
        .expect(1)?;
    ensure!(doctor.stdout.contains(&named), "{}", doctor.stdout);
    let link_shown = stand
        .topology
        .switch
        .ip(&format!("link show {INTERFACE}"))?;
    ensure!(link_shown.contains(&format!("xdp id {id}")), "{link_shown}");
    ensure!(
        on(TcAttachType::Egress, &stand.topology.switch)?.is_empty(),
        "something is left"
    );

    program.detach(link)?;
    stand.agent.start().context("the way is free")?;
    reaches_blue(&stand)
}

/// A stranger before and one after ours on each hook, and one at XDP that sees packets first.
fn neighbours() -> Result<()> {
    let settings = Settings {
        xdp: "tc",
        ..Settings::default()
    };
    let mut stand = Stand::without_agent(Mode::Local, true, settings, &binary()?)?;
    let (mut before, mut after) = (Ebpf::load(OBJECT)?, Ebpf::load(OBJECT)?);
    let early = attach_last(&mut before, &stand.topology.switch)?;
    let first: &mut Xdp = before
        .program_mut("empty")
        .context("not there")?
        .try_into()?;
    first.load()?;
    stand
        .topology
        .switch
        .inside(|| first.attach(INTERFACE, XdpMode::Driver))??;
    stand.agent.start()?;
    let late = attach_last(&mut after, &stand.topology.switch)?;
    for hook in HOOKS {
        let shown = on(hook, &stand.topology.switch)?;
        ensure!(shown.len() == 3, "{hook:?}: {shown:?}");
    }
    reaches_blue(&stand).context("though all end the chain")?;
    stand.agent.stop()?;
    let pins = stand.agent.place().bpffs().display().to_string();
    stand
        .agent
        .cli(&["detach", "--force", "--bpffs", &pins])?
        .expect(0)?;
    for hook in HOOKS {
        let shown = on(hook, &stand.topology.switch)?;
        let left = [early, late];
        ensure!(shown == left, "{hook:?}: {shown:?}, not {left:?}");
    }
    Ok(())
}

fn cgroup() -> Result<()> {
    let cgroup = Cgroup::new()?;
    let mut object = EbpfLoader::new().load(switcher::datapath::kernel::OBJECT)?;
    // Any program will do. It knows no namespace, so it does nothing.
    let program = object.program_mut("switcher_connect4");
    let program: &mut CgroupSockAddr = program.context("not there")?.try_into()?;
    program.load()?;
    let directory = File::open(cgroup.path())?;
    attach_alone(&directory, program)?;

    let mut stand = Stand::without_agent(Mode::Local, true, Settings::default(), &binary()?)?;
    let config = std::fs::read_to_string(stand.agent.place().config())?;
    let key = format!("[agent]\ncgroup = {:?}\n", cgroup.path());
    stand
        .agent
        .write_config(&config.replacen("[agent]\n", &key, 1))?;
    stand.agent.start()?;
    let clients = stand.agent.json(&["status"])?["local_clients"].clone();
    ensure!(clients["state"] == "refused", "{clients}");
    let reason = clients["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("connect4") && reason.contains("allows no other"),
        "{reason}"
    );
    reaches_blue(&stand)?;

    detach(&directory)?;
    stand.agent.stop()?;
    stand.agent.start()?;
    let clients = stand.agent.json(&["status"])?["local_clients"].clone();
    ensure!(clients["state"] == "on", "{clients}");
    Ok(())
}

/// By `BPF_PROG_ATTACH` without flags, which links do not know: nobody else may attach beside or below.
fn attach_alone(cgroup: &File, program: &CgroupSockAddr) -> Result<()> {
    const PROG_ATTACH: i32 = 8;
    let program = program.fd()?.as_fd().as_raw_fd();
    bpf(PROG_ATTACH, cgroup, program).context("attaching alone")
}

fn detach(cgroup: &File) -> Result<()> {
    const PROG_DETACH: i32 = 9;
    bpf(PROG_DETACH, cgroup, 0).context("detaching")
}

fn bpf(command: i32, cgroup: &File, program: i32) -> Result<()> {
    const CONNECT4: i32 = 10;
    // target_fd, attach_bpf_fd, attach_type, attach_flags
    let attributes = [cgroup.as_raw_fd(), program, CONNECT4, 0];
    let size = size_of_val(&attributes);
    // SAFETY: the attributes hold no pointers and outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size) };
    nix::errno::Errno::result(done)?;
    Ok(())
}

/// The hooks of tc.
const HOOKS: [TcAttachType; 2] = [TcAttachType::Ingress, TcAttachType::Egress];

/// Attaches a program that ends the chain to both hooks; its id.
fn attach_last(object: &mut Ebpf, switch: &Namespace) -> Result<u32> {
    let program = object.program_mut("has_the_last_word");
    let program: &mut SchedClassifier = program.context("not there")?.try_into()?;
    program.load()?;
    for hook in HOOKS {
        switch.inside(|| program.attach(INTERFACE, hook))??;
    }
    Ok(program.info()?.id())
}

/// Ids of the programs on a hook, in their order.
fn on(hook: TcAttachType, switch: &Namespace) -> Result<Vec<u32>> {
    let query = || SchedClassifier::query_tcx(INTERFACE, hook);
    let (_revision, programs) = switch.inside(query)??;
    Ok(programs
        .iter()
        .map(aya::programs::ProgramInfo::id)
        .collect())
}

fn reaches_blue(stand: &Stand) -> Result<()> {
    let web = stand.topology.web();
    let mut connection = stand.topology.client.inside(|| Connection::open(web))??;
    let colour = connection.colour()?;
    ensure!(colour == "blue", "{colour} answers, not blue");
    Ok(())
}
