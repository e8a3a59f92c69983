//! What somebody else changes is found and repaired, so often and no oftener.

use std::time::{Duration, Instant};

use switcher_common::abi::{Endpoint, endpoint_flags};

use super::*;
use crate::agent::{Ended, Runner, Verb};
use crate::api::model::{ChangeRequest, DifferenceKind, Drift};
use crate::datapath::{Attachment, Change, Hold};
use crate::exit::Exit;

#[tokio::test]
async fn all_agree_after_switches_canaries_and_restarts() {
    let text = config(&[8001, 8003], &[8002]);
    let stand = Stand::new(&text);
    agree(&stand).await;
    stand.flip().await.expect("flips");
    let busy = drift(&stand).await;
    assert_eq!(busy.not_compared.as_deref(), Some("group shop is draining"));
    assert_eq!(busy.differences, []);
    until_calm(&stand).await;
    agree(&stand).await;
    let canary = ChangeRequest {
        to: Some("blue".into()),
        percent: Some(5),
        ..ChangeRequest::default()
    };
    stand.order(Verb::Canary, canary).await.expect("steps");
    until_calm(&stand).await;
    agree(&stand).await;
    let stand = stand.restart(&text);
    until_calm(&stand).await;
    agree(&stand).await;
}

#[tokio::test]
async fn all_agree_after_a_deadline_that_took_flows() {
    let text = config(&[8001], &[8002]).replacen("20s", "300ms", 1);
    let stand = Stand::new(&text);
    stand.kernel.set_flows(&[(stand.kernel.endpoint(8001), 3)]);
    let answer = stand.flip().await.expect("flips");
    until_calm(&stand).await;
    let id = answer.id.expect("an id");
    let record = stand.agent.ask(move |runner| runner.cutover(&id)).await;
    assert_eq!(record.expect("answers").expect("is recorded").leftovers, 3);
    agree(&stand).await;
}

#[tokio::test]
async fn a_lost_endpoint_is_found_and_put_back_three_times() {
    let stand = quiet(&config(&[8001], &[8002])).await;
    for round in 0..4 {
        let found = lose(&stand, 8002);
        let drifted = drift(&stand).await;
        assert_eq!(
            kinds(&drifted),
            [DifferenceKind::Kernel; 2],
            "it, and its table"
        );
        let lost = &drifted.differences[0];
        assert!(lost.what.contains("10.0.0.1:8002"), "{lost:?}");
        assert_eq!(drifted.repairs_left, 3_usize.saturating_sub(round));
        compare(&stand).await;
        let back = stand
            .kernel
            .lock()
            .state()
            .endpoints
            .values()
            .copied()
            .any(|it| it == found);
        assert_eq!(back, round < 3, "{round}");
        let status = stand.status().await;
        let phase = if back { "idle" } else { "degraded" };
        assert_eq!(status.phase, phase, "{:?}", status.degraded);
    }
    assert_eq!(stand.status().await.live, "blue");
    apply(&stand, &config(&[8001], &[8002]))
        .await
        .expect("applies");
}

#[tokio::test]
async fn programs_that_were_taken_off_are_put_back_three_times() {
    let text = config(&[8001], &[8002]);
    let stand = quiet(&text).await;
    let hold = || stand.kernel.lock().attachments[0].hold;
    for round in 0..4 {
        attached(&stand, Hold::Detached);
        assert_eq!(kinds(&drift(&stand).await), [DifferenceKind::Program]);
        compare(&stand).await;
        assert_eq!(hold() == Hold::Attached, round < 3, "{round}");
    }
    apply(&stand, &text).await.expect("applies");
    assert_eq!(hold(), Hold::Attached);
    // Who takes an interface away does not mean the programs.
    for _ in 0..2 {
        attached(&stand, Hold::Absent);
        look(&stand).await;
        assert_eq!(kinds(&drift(&stand).await), [DifferenceKind::Interface]);
        attached(&stand, Hold::Recreated);
        look(&stand).await;
        assert_eq!(hold(), Hold::Attached);
    }
}

#[tokio::test]
async fn an_agent_without_pins_ends() {
    let stand = quiet(&config(&[8001], &[8002])).await;
    stand.kernel.lock().unpinned = true;
    look(&stand).await;
    let gone = stand.agent.ask(Runner::drift).await;
    assert_eq!(gone.expect_err("it ends").exit, Exit::Unreachable);
    assert_eq!(stand.ended(), Ended::Bereft);
}

#[tokio::test]
async fn who_is_told_not_to_repair_says_so_and_leaves_it() {
    let text = config(&[8001], &[8002]).replace("[agent]\n", "[agent]\nrepair = false\n");
    let stand = quiet(&text).await;
    lose(&stand, 8002);
    compare(&stand).await;
    let drifted = drift(&stand).await;
    assert_eq!(kinds(&drifted), [DifferenceKind::Kernel; 2]);
    assert!(!drifted.repairs);
}

#[tokio::test]
async fn a_record_that_was_changed_is_written_again() {
    let stand = quiet(&config(&[8001], &[8002])).await;
    let changed = stand.agent.ask(|runner| {
        let mut record = runner
            .journal
            .group("shop")
            .expect("reads")
            .expect("is there");
        record.live = "green".into();
        runner.journal.put_group(&record, None).expect("records");
    });
    changed.await.expect("changes");
    assert_eq!(kinds(&drift(&stand).await), [DifferenceKind::Record]);
    compare(&stand).await;
    agree(&stand).await;
}

#[tokio::test]
async fn words_programs_and_files_are_told_apart() {
    let stand = quiet(&config(&[8001], &[8002])).await;
    let word = stand.kernel.word();
    stand.kernel.store(word.force(1));
    assert_eq!(kinds(&drift(&stand).await), [DifferenceKind::Word]);
    stand.kernel.store(word);
    let file = stand.directory.path().join("switcher.toml");
    std::fs::write(&file, config(&[8001], &[8004])).expect("writes");
    assert_eq!(kinds(&drift(&stand).await), [DifferenceKind::Config]);
    std::fs::write(&file, "[groups").expect("writes");
    let broken = drift(&stand).await;
    assert!(
        broken.differences[0].what.contains("`check` says why"),
        "{broken:?}"
    );
}

/// An agent that compares when it is told to.
async fn quiet(text: &str) -> Stand {
    let stand = Stand::new(text);
    let waits = |runner: &mut Runner| runner.comparisons.next = later();
    stand.agent.ask(waits).await.expect("waits");
    stand
}

/// How it stands with programs on the one interface.
fn attached(stand: &Stand, hold: Hold) {
    stand.kernel.lock().attachments = vec![Attachment {
        interface: "eth0".into(),
        xdp: "native".into(),
        hold,
    }];
}

async fn look(stand: &Stand) {
    stand.agent.ask(Runner::look).await.expect("looks");
}

/// Removes an endpoint behind the agent's back.
fn lose(stand: &Stand, port: u16) -> Endpoint {
    let id = stand.kernel.endpoint(port);
    let mut kernel = stand.kernel.lock();
    let found = kernel.state().endpoints[&id];
    assert!(found.has(endpoint_flags::PRESENT));
    let endpoint = Endpoint::default();
    kernel.change(&Change::SetEndpoint { id, endpoint });
    found
}

async fn drift(stand: &Stand) -> Drift {
    let drift = stand.agent.ask(Runner::drift).await;
    drift.expect("answers").expect("compares")
}

/// As it does every so often.
async fn compare(stand: &Stand) {
    let compared = stand.agent.ask(|runner| {
        runner.comparisons.next = Instant::now();
        runner.repair_drift();
        runner.comparisons.next = later();
    });
    compared.await.expect("compares");
}

/// Not by itself while a test looks.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

async fn agree(stand: &Stand) {
    let drift = drift(stand).await;
    assert_eq!(
        (&drift.differences[..], &drift.not_compared),
        (&[][..], &None)
    );
}

async fn until_calm(stand: &Stand) {
    for _ in 0..500 {
        if drift(stand).await.not_compared.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {:?}", drift(stand).await);
}

fn kinds(drift: &Drift) -> Vec<DifferenceKind> {
    drift.differences.iter().map(|it| it.kind).collect()
}
