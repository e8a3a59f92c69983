//! Switches that are watched. The kernel here has counters that tests set.

use std::net::TcpListener;

use switcher_common::abi::Counters;

use super::stand::{probed, probed_at};
use super::*;
use crate::agent::Verb;
use crate::api::model::{ChangeAnswer, ChangeRequest, GroupStatus};
use crate::cli::WaitCondition;
use crate::exit::{Exit, Failure};
use crate::journal::{BakeRecord, CutoverRecord};
use crate::release::{End, Kind, Verdict};

const BAKE: &str = "bake = { for = \"10s\", resets = 10, failed = 5, sample = 20 }";

fn with(text: &str, line: &str) -> String {
    text.replace("initial = \"blue\"", &format!("initial = \"blue\"\n{line}"))
}

#[tokio::test]
async fn it_does_well_and_is_kept() {
    let text = with(&config(&[8001], &[8002]), "bake = \"400ms\"");
    let stand = Stand::new(&text);
    count(&stand, 8001, traffic(1000, 10));
    let flip = flip(&stand).await;
    assert!(flip.baked_at.is_some(), "{flip:?}");
    count(&stand, 8002, traffic(70, 1));
    let status = stand.status().await;
    assert_eq!((&*status.phase, &*status.live), ("baking", "green"));
    let next = status.next.expect("an end").what;
    assert!(next.starts_with("green has been watched"), "{next}");
    let refused = stand.order(Verb::Flip, to("blue")).await;
    assert_eq!(refused.expect_err("is watched").exit, Exit::Precondition);
    stand.phase("idle").await;
    let record = record(&stand, &flip).await;
    assert_eq!(record.result, Some(End::Succeeded));
    let bake = bake(&record);
    assert_eq!((bake.verdict, bake.for_ms), (Verdict::Passed, 400));
    assert_eq!((bake.before.connections, bake.before.resets), (1000, 10));
    assert_eq!((bake.seen.connections, bake.seen.resets), (70, 1));
    let unwatched = ChangeRequest {
        no_bake: true,
        ..to("blue")
    };
    let back = stand.order(Verb::Flip, unwatched).await.expect("flips");
    assert_eq!(back.baked_at, None);
}

#[tokio::test]
async fn it_resets_connections_or_does_not_answer_and_is_rolled_back() {
    let silent = Counters {
        answers: 20,
        ..traffic(24, 0)
    };
    for (seen, why) in [
        (traffic(30, 12), "resets: 12 of 30"),
        (silent, "failed handshakes: 4 of 24"),
    ] {
        let stand = Stand::new(&with(&config(&[8001], &[8002]), BAKE));
        count(&stand, 8001, traffic(1000, 10));
        let flip = flip(&stand).await;
        count(&stand, 8002, seen);
        let status = stand.phase("idle").await;
        assert_eq!(status.live, "blue");
        let undone = record(&stand, &flip).await;
        assert_eq!(undone.result, Some(End::RolledBack));
        let bake = bake(&undone);
        assert_eq!(bake.verdict, Verdict::RolledBack);
        assert!(bake.why[0].starts_with(why), "{bake:?}");
        let back = newest(&stand).await;
        assert_eq!((back.kind, &*back.actor), (Kind::Rollback, "agent"));
        let reason = back.reason.unwrap_or_default();
        assert!(reason.contains(why), "{reason}");
        for condition in [WaitCondition::Baked, WaitCondition::Drained] {
            let met = met(&stand, &flip, condition).await;
            assert_eq!(met.map_err(|it| it.exit), Err(Exit::RolledBack));
        }
    }
}

#[tokio::test]
async fn it_fails_its_checks_and_is_rolled_back_unless_that_is_no_better() {
    let (blue, green) = (listen(), listen());
    let text = with(&probed_at(&[port(&blue)], &[port(&green)]), BAKE);
    let stand = Stand::new(&text);
    healthy(&stand).await;
    let first = flip(&stand).await;
    drop(green);
    let status = stand.phase("idle").await;
    assert_eq!(status.live, "blue");
    let undone = record(&stand, &first).await;
    let why = bake(&undone).why[0].clone();
    assert!(why.starts_with("web 127.0.0.1:"), "{why}");
    assert_eq!(undone.result, Some(End::RolledBack));

    let (blue, green) = (listen(), listen());
    let text = with(&probed_at(&[port(&blue)], &[port(&green)]), BAKE);
    let stand = Stand::new(&text);
    healthy(&stand).await;
    let second = flip(&stand).await;
    drop(blue);
    for _ in 0..200 {
        if stand.status().await.colours["blue"].healthy == Some(false) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    drop(green);
    let status = stand.phase("degraded").await;
    assert_eq!(status.live, "green");
    let bake = status.cutover.and_then(|it| it.bake).expect("is watched");
    assert_eq!(bake.verdict, Verdict::Degraded);
    assert!(
        bake.why.iter().any(|it| it.starts_with("no way back: web")),
        "{bake:?}"
    );

    // Another agent goes on watching.
    let stand = stand.restart(&text);
    stand.phase("degraded").await;
    let kept = stand.order(Verb::Confirm, ChangeRequest::default()).await;
    assert_eq!(kept.expect("is kept").id, second.id);
    calm(&stand).await;
}

#[tokio::test]
async fn another_agent_goes_on_watching() {
    let text = with(&config(&[8001], &[8002]), BAKE);
    let stand = Stand::new(&text);
    let flip = flip(&stand).await;
    let stand = stand.restart(&text);
    assert_eq!(stand.status().await.phase, "baking");
    // What it knows of the colour begins with its first look.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    count(&stand, 8002, traffic(30, 12));
    stand.phase("idle").await;
    assert_eq!(record(&stand, &flip).await.result, Some(End::RolledBack));
}

#[tokio::test]
async fn forced_flips_are_not_watched() {
    let stand = Stand::new(&with(&probed(), BAKE));
    let forced = ChangeRequest {
        force: true,
        ..ChangeRequest::default()
    };
    let flip = stand.order(Verb::Flip, forced).await.expect("flips");
    assert_eq!(flip.baked_at, None);
    // Nobody answers there.
    let status = calm(&stand).await;
    assert_eq!(
        (status.live.as_str(), status.phase.as_str()),
        ("green", "degraded")
    );
    assert!(
        status.degraded[0].contains("no endpoint of green is healthy"),
        "{status:?}"
    );
}

/// Until nothing is going on.
async fn calm(stand: &Stand) -> GroupStatus {
    for _ in 0..500 {
        let status = stand.status().await;
        if status.cutover.is_none() {
            return status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it goes on: {:?}", stand.status().await);
}

async fn flip(stand: &Stand) -> ChangeAnswer {
    stand.flip().await.expect("flips")
}

fn to(colour: &str) -> ChangeRequest {
    ChangeRequest {
        to: Some(colour.into()),
        ..ChangeRequest::default()
    }
}

async fn record(stand: &Stand, of: &ChangeAnswer) -> CutoverRecord {
    let id = of.id.clone().expect("an id");
    let record = stand.agent.ask(move |runner| runner.cutover(&id)).await;
    record.expect("answers").expect("is recorded")
}

fn bake(record: &CutoverRecord) -> BakeRecord {
    record.receipt.bake.clone().expect("was watched")
}

async fn newest(stand: &Stand) -> CutoverRecord {
    let history = stand.agent.ask(|runner| runner.history(None, 1)).await;
    history.expect("answers").expect("reads").remove(0)
}

async fn met(
    stand: &Stand,
    of: &ChangeAnswer,
    condition: WaitCondition,
) -> Result<crate::agent::Met, Failure> {
    let id = of.id.clone();
    let met =
        move |runner: &mut crate::agent::Runner| runner.met("shop", &condition, id.as_deref());
    stand.agent.ask(met).await.expect("answers")
}

async fn healthy(stand: &Stand) {
    for _ in 0..500 {
        let colours = stand.status().await.colours;
        if colours.values().all(|it| it.healthy == Some(true)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("never healthy");
}

/// All of them answered.
fn traffic(connections: u64, resets: u64) -> Counters {
    Counters {
        packets: connections * 10,
        bytes: connections * 1000,
        connections,
        resets,
        answers: connections,
    }
}

/// What the data path has counted for the colour of an endpoint.
fn count(stand: &Stand, port: u16, counters: Counters) {
    let id = stand.kernel.endpoint(port);
    let mut memory = stand.kernel.lock();
    let cell = memory.state().endpoints[&id].counter;
    memory.counters.insert(cell, counters);
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("an address").port()
}

#[tokio::test]
async fn a_receipt_says_what_let_it_through_and_what_traffic_made_of_it() {
    let gates =
        "gates.qa = { default = \"open\" }\nflap_budget = { switches = 4, within = \"1h\" }";
    let stand = Stand::new(&with(&config(&[8001], &[8002]), gates));
    count(&stand, 8001, traffic(100, 1));
    let word = |stand: &Stand| Some(format!("{:#018x}", stand.kernel.word().0));
    let before = word(&stand);
    let first = flip(&stand).await;
    let after = word(&stand);
    let open = record(&stand, &first).await;
    assert_eq!(open.receipt.drained, None);
    count(&stand, 8001, traffic(101, 2));
    count(&stand, 8002, traffic(7, 0));
    stand.phase("idle").await;
    let over = record(&stand, &first).await.receipt;
    assert_eq!((over.word_before, over.word_after), (before, after));
    let gates = over.gates.iter();
    let gates = gates.map(|it| format!("{} {}: {}", it.passed, it.what, it.why));
    assert_eq!(
        gates.collect::<Vec<_>>(),
        [
            "true gate qa: nobody has closed it",
            "true flap budget: 0 of 4 switches within 1h were used up",
            "true health: nobody asks"
        ]
    );
    let connections = |colour: &str| {
        let traffic = over.traffic[colour];
        (traffic.before.connections, traffic.after.connections)
    };
    assert_eq!(connections("blue"), (100, 101));
    assert_eq!(connections("green"), (0, 7));
    assert_eq!(over.traffic["blue"].after.resets, 2);
    assert!(over.drained.is_some() && over.last_packet_to_old_at.is_some());

    let freeze = with(&config(&[8001], &[8002]), "freeze = \"audit\"");
    let stand = Stand::new(&freeze);
    let forced = ChangeRequest {
        force: true,
        ..ChangeRequest::default()
    };
    let forced = stand.order(Verb::Flip, forced).await.expect("flips");
    let gates = record(&stand, &forced).await.receipt.gates;
    assert!(
        !gates[0].passed && gates[0].what == "freeze",
        "it was skipped: {gates:?}"
    );
}
