//! Strangers on the same hooks: named where they are in the way, and never touched.

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::tc::{SchedClassifier, TcAttachType};
use aya::programs::{Xdp, XdpMode};
use switcher_harness::agent::binary;
use switcher_harness::config::Settings;
use switcher_harness::load::Connection;
use switcher_harness::topology::INTERFACE;
use switcher_harness::{Mode, Namespace, Stand, netns, privilege};

#[test]
fn an_xdp_program_is_named_and_left_alone() {
    run("an_xdp_program_is_named_and_left_alone", xdp);
}

#[test]
fn programs_on_the_egress_hook_are_neighbours() {
    run("programs_on_the_egress_hook_are_neighbours", egress);
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
        on_egress(&stand.topology.switch)?.is_empty(),
        "something is left"
    );

    program.detach(link)?;
    stand.agent.start().context("the way is free")?;
    reaches_blue(&stand)
}

fn egress() -> Result<()> {
    let mut stand = Stand::without_agent(Mode::Local, true, Settings::default(), &binary()?)?;
    let (mut before, mut after) = (Ebpf::load(OBJECT)?, Ebpf::load(OBJECT)?);
    let early = attach_last(&mut before, &stand.topology.switch)?;
    stand.agent.start()?;
    let late = attach_last(&mut after, &stand.topology.switch)?;
    let shown = on_egress(&stand.topology.switch)?;
    ensure!(shown.len() == 3, "{shown:?}");
    reaches_blue(&stand).context("though both end the chain")?;
    stand.agent.stop()?;
    let pins = stand.agent.place().bpffs().display().to_string();
    stand
        .agent
        .cli(&["detach", "--force", "--bpffs", &pins])?
        .expect(0)?;
    let shown = on_egress(&stand.topology.switch)?;
    ensure!(shown == [early, late], "{shown:?}, not {early} and {late}");
    Ok(())
}

/// Attaches a program that ends the chain; its id.
fn attach_last(object: &mut Ebpf, switch: &Namespace) -> Result<u32> {
    let program = object.program_mut("has_the_last_word");
    let program: &mut SchedClassifier = program.context("not there")?.try_into()?;
    program.load()?;
    switch.inside(|| program.attach(INTERFACE, TcAttachType::Egress))??;
    Ok(program.info()?.id())
}

/// Ids of the programs on the egress hook, in their order.
fn on_egress(switch: &Namespace) -> Result<Vec<u32>> {
    let query = || SchedClassifier::query_tcx(INTERFACE, TcAttachType::Egress);
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

fn run(name: &str, test: fn() -> Result<()>) {
    if !privilege::is_root(name) {
        return;
    }
    netns::sweep();
    test().unwrap_or_else(|error| panic!("{error:#}"));
}
