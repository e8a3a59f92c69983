//! Flips that are made to be undone.

use std::net::TcpListener;
use std::time::Duration;

use super::stand::{Kernel, probed_at};
use super::*;
use crate::agent::Verb;
use crate::api::model::{ChangeAnswer, ChangeRequest};
use crate::exit::{Exit, Failure};
use crate::journal::{CutoverRecord, DrillVerdict};
use crate::release::Kind;

#[tokio::test]
async fn there_and_back_and_what_it_cost() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let begun = drill(&stand, "1s").await.expect("begins");
    assert_eq!((begun.kind, &*begun.to), (Kind::Flip, "green"));
    let status = stand.status().await;
    assert_eq!((&*status.phase, &*status.live), ("confirming", "green"));
    {
        let id = stand.kernel.endpoint(8002);
        let mut memory = stand.kernel.lock();
        let cell = memory.state().endpoints[&id].counter;
        let counters = switcher_common::abi::Counters {
            connections: 12,
            answers: 11,
            resets: 2,
            ..Default::default()
        };
        memory.counters.insert(cell, counters);
    }
    let record = reported(&stand, &begun).await;
    assert_eq!(stand.status().await.live, "blue");
    let drill = record.receipt.drill.expect("is a drill");
    assert_eq!(
        (drill.verdict, drill.interrupted),
        (DrillVerdict::Passed, false)
    );
    let lost = (drill.lost.connections, drill.lost.failed, drill.lost.resets);
    assert_eq!(lost, (12, 1, 2));
    assert!(drill.back.is_some() && drill.lost.dropped.is_empty());
    let history = stand.agent.ask(|runner| runner.history(None, 1)).await;
    let back = history.expect("answers").expect("reads").remove(0);
    assert_eq!(back.reason.as_deref(), Some("the drill is over"));
}

#[tokio::test]
async fn another_agent_reports_or_finds_it_over() {
    let text = config(&[8001], &[8002]);
    for wait in [Duration::ZERO, Duration::from_millis(600)] {
        let stand = Stand::new(&text);
        let begun = drill(&stand, "500ms").await.expect("begins");
        let (kernel, directory): (Kernel, _) = stand.stop();
        tokio::time::sleep(wait).await;
        let stand = Stand::with(kernel, directory, &text);
        let record = reported(&stand, &begun).await;
        let drill = record.receipt.drill.expect("is a drill");
        assert_eq!(
            (drill.verdict, drill.interrupted),
            (DrillVerdict::Passed, true)
        );
        assert_eq!(stand.status().await.live, "blue");
    }
}

#[tokio::test]
async fn it_ends_early_and_badly_when_checks_fail() {
    let (blue, green) = (listen(), listen());
    let stand = Stand::new(&probed_at(&[port(&blue)], &[port(&green)]));
    healthy(&stand).await;
    let begun = drill(&stand, "60s").await.expect("begins");
    drop(green);
    let record = reported(&stand, &begun).await;
    let drill = record.receipt.drill.expect("is a drill");
    assert_eq!(drill.verdict, DrillVerdict::Failed);
    assert!(drill.why[0].starts_with("web 127.0.0.1:"), "{drill:?}");
    assert_eq!(stand.status().await.live, "blue");
}

#[tokio::test]
async fn what_somebody_confirms_is_kept() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let begun = drill(&stand, "60s").await.expect("begins");
    let kept = stand.order(Verb::Confirm, ChangeRequest::default()).await;
    kept.expect("is kept");
    let ended = stand.order(Verb::Confirm, ChangeRequest::default()).await;
    ended.expect("no longer watched");
    let record = reported(&stand, &begun).await;
    let drill = record.receipt.drill.expect("is a drill");
    assert_eq!(drill.verdict, DrillVerdict::Kept);
    assert_eq!(stand.status().await.live, "green");
}

#[tokio::test]
async fn without_a_way_back_there_is_none() {
    let green = listen();
    let stand = Stand::new(&probed_at(&[1], &[port(&green)]));
    for _ in 0..500 {
        if stand.status().await.colours["blue"].healthy == Some(false) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = drill(&stand, "1s").await.expect_err("blue is dead");
    assert_eq!(refused.exit, Exit::Refused);
    assert!(
        refused.blockers[0].starts_with("web 127.0.0.1:1: "),
        "{refused}"
    );

    let stand = Stand::new(&config(&[8001], &[8002]));
    let forced = ChangeRequest {
        force: true,
        ..ChangeRequest::default()
    };
    let refused = stand.order(Verb::Drill, forced).await;
    assert_eq!(refused.expect_err("no such thing").exit, Exit::Usage);
    let blue = stand.kernel.endpoint(8001);
    stand.kernel.set_flows(&[(blue, 1)]);
    stand.flip().await.expect("flips");
    stand.phase("draining").await;
    let busy = drill(&stand, "1s").await.expect_err("something goes on");
    assert_eq!(busy.exit, Exit::Precondition);
}

async fn drill(stand: &Stand, time: &str) -> Result<ChangeAnswer, Failure> {
    let request = ChangeRequest {
        duration: Some(time.into()),
        ..ChangeRequest::default()
    };
    stand.order(Verb::Drill, request).await
}

async fn reported(stand: &Stand, of: &ChangeAnswer) -> CutoverRecord {
    let id = of.id.clone().expect("an id");
    for _ in 0..1000 {
        let id = id.clone();
        let record = stand.agent.ask(move |runner| runner.cutover(&id)).await;
        let record = record.expect("answers").expect("is recorded");
        let drill = record.receipt.drill.as_ref();
        if drill.is_some_and(|it| it.verdict != DrillVerdict::UnderWay) {
            return record;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no report: {:?}", stand.status().await);
}

async fn healthy(stand: &Stand) {
    for _ in 0..500 {
        let colours = stand.status().await.colours;
        if colours.values().all(|it| it.healthy == Some(true)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never healthy");
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("an address").port()
}
