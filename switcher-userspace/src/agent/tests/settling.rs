//! Grace periods that another thread waits for.

use std::time::Duration;

use switcher_common::word::Phase;

use super::stand::{asked, routed};
use super::*;
use crate::agent::Verb;
use crate::api::model::ChangeRequest;
use crate::cli::WaitCondition;
use crate::journal::CutoverRecord;
use crate::release::End;

/// So many groups, the first of which is the one of the other tests.
fn many(count: u16) -> String {
    let one = config(&[8001], &[8002]);
    let more = (1..count).map(|group| {
        let (_, text) = one.split_once("[groups.shop]").expect("a group");
        let ports = [(8001, "80/tcp"), (8002, "")];
        let text =
            format!("[groups.shop]{text}").replace("groups.shop", &format!("groups.g{group}"));
        let text = text.replace(":80/tcp", &format!(":{}/tcp", 100 + group));
        ports.iter().fold(text, |text, (port, _)| {
            text.replace(&format!(":{port}"), &format!(":{}", port + 10 * group))
        })
    });
    one.clone() + &more.collect::<String>()
}

fn tester() -> Who {
    Who {
        actor: "tester".into(),
        reason: None,
    }
}

/// Waits until the kernel's word says that the window is over.
async fn steady(stand: &Stand) {
    while stand.kernel.word().phase() != Phase::Steady {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn newest(stand: &Stand) -> CutoverRecord {
    let history = stand.agent.ask(|runner| runner.history(None, 1)).await;
    history.expect("answers").expect("reads").remove(0)
}

#[tokio::test]
async fn one_grace_period_is_enough_for_all_who_asked_before_it() {
    let stand = Stand::new(&many(9));
    let before = stand.kernel.lock().settled;
    let none = stand.kernel.no_grace();
    let names = (1..9).map(|group| format!("g{group}"));
    let names: Vec<String> = std::iter::once("shop".to_owned()).chain(names).collect();
    let mut flips = tokio::task::JoinSet::new();
    for name in &names {
        let (agent, order) = (stand.agent.clone(), asked(name, Verb::Flip, tester()));
        flips.spawn(async move {
            let flip = agent.ask_later(|runner, reply| runner.order(order, reply));
            flip.await
        });
    }
    // All are stored, and none is settled.
    loop {
        let status = stand.agent.ask(|runner| runner.status(None)).await;
        let groups = status.expect("answers").expect("has groups").groups;
        if groups.iter().all(|it| it.phase == "switching") {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(
        stand.kernel.word().current(),
        1,
        "new flows are there by now"
    );
    drop(none);
    for flip in flips.join_all().await {
        let flip = flip.expect("is answered").expect("flips");
        assert_eq!((flip.to.as_str(), flip.result), ("green", End::Switched));
    }
    // The first one's, and one for all that came while that was waited for.
    let took = stand.kernel.lock().settled - before;
    assert!(took <= 2, "{took} grace periods for nine groups");
}

#[tokio::test]
async fn whatever_comes_next_for_the_group_waits_itself() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let none = stand.kernel.no_grace();
    let back = async {
        stand.phase("switching").await;
        stand.order(Verb::Rollback, ChangeRequest::default()).await
    };
    let release = async {
        stand.phase("rolling-back").await;
        drop(none);
    };
    let (flip, back, ()) = tokio::join!(stand.flip(), back, release);
    let flip = flip.expect("flips");
    assert_eq!((flip.to.as_str(), flip.result), ("green", End::Switched));
    assert!(flip.store_to_settled_us.is_some(), "{flip:?}");
    assert_eq!(back.expect("goes back").to, "blue");
    assert_eq!(stand.status().await.live, "blue");
}

#[tokio::test]
async fn who_stops_settles_first() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let kernel = stand.kernel.clone();
    let none = kernel.no_grace();
    let stop = async {
        stand.phase("switching").await;
        stand.agent.stop();
    };
    let (flip, ()) = tokio::join!(stand.flip(), stop);
    assert_eq!(flip.expect("is answered").to, "green");
    let (same, directory) = stand.stop();
    let journal = crate::journal::Journal::open(directory.path()).expect("opens");
    let record = journal.history(None, 1).expect("reads").remove(0);
    assert_eq!(record.result, Some(End::Switched));
    assert!(record.settled.is_some(), "{record:?}");
    drop((none, same));
}

#[tokio::test]
async fn a_window_is_over_when_its_flow_map_is_gone() {
    let stand = Stand::new(&routed().replace("20s", "300ms"));
    let flip = stand.flip().await.expect("flips");
    let none = stand.kernel.no_grace();
    steady(&stand).await;
    // Nobody is told that it is over before it is.
    assert_eq!(stand.status().await.phase, "draining");
    assert!(!stand.kernel.lock().windows.is_empty());
    assert_eq!(newest(&stand).await.result, Some(End::Switched));
    let id = flip.id.clone();
    let met = move |runner: &mut crate::agent::Runner| {
        runner.met("shop", &WaitCondition::Drained, id.as_deref())
    };
    let met = stand.agent.ask(met).await.expect("answers").expect("can");
    assert!(matches!(met, crate::agent::Met::NotYet(_)), "{met:?}");
    drop(none);
    stand.phase("idle").await;
    assert!(stand.kernel.lock().windows.is_empty());
    assert_eq!(newest(&stand).await.result, Some(End::Succeeded));
}

#[tokio::test]
async fn a_new_flip_finds_the_window_closed() {
    let stand = Stand::new(&routed().replace("20s", "300ms"));
    stand.flip().await.expect("flips");
    let none = stand.kernel.no_grace();
    steady(&stand).await;
    let note = crate::agent::Asked {
        request: ChangeRequest {
            to: Some("blue".into()),
            version: Some("v2".into()),
            ..ChangeRequest::default()
        },
        ..asked("shop", Verb::Stage, tester())
    };
    let noted = stand.agent.ask(move |runner| runner.note(&note)).await;
    noted.expect("answers").expect("is taken");
    assert!(stand.kernel.lock().windows.is_empty());
    assert_eq!(newest(&stand).await.result, Some(End::Succeeded));
    drop(none);
}
