//! A canary from the order to its end.

use std::collections::BTreeMap;

use super::*;
use crate::agent::Verb;
use crate::api::model::{ChangeAnswer, ChangeRequest};
use crate::exit::{Exit, Failure};
use crate::maglev;
use crate::release::{End, Kind};

/// After a change of blue's endpoints its former table is still there; no word says which of both is blue's.
#[tokio::test]
async fn a_canary_is_taken_back_to_the_table_that_the_configuration_has_made() {
    let both = config(&[8001, 8003], &[8002]);
    let heavy = both.replace(
        "\"10.0.0.1:8003\"",
        "{ address = \"10.0.0.1:8003\", weight = 3 }",
    );
    assert_ne!(heavy, both);
    // One less, one more, and another share.
    let one = config(&[8001], &[8002]);
    for (before, after) in [(&both, &one), (&one, &both), (&both, &heavy)] {
        let stand = Stand::new(before);
        let former = dealt(&stand);
        apply(&stand, after).await.expect("is taken");
        let blue = dealt(&stand);
        assert_ne!(blue, former);
        for live in ["green", "blue"] {
            assert_eq!(stand.flip().await.expect("flips").to, live);
        }
        assert_eq!(dealt(&stand), blue);
        for percent in [20, 40] {
            canary(&stand, percent).await.expect("steps");
        }
        let stand = stand.restart(after);
        let back = stand.order(Verb::Rollback, ChangeRequest::default()).await;
        back.expect("rolls back");
        assert_eq!(dealt(&stand), blue);
    }
}

#[tokio::test]
async fn a_canary_is_stepped_survives_a_restart_and_is_finished() {
    let text = config(&[8001, 8003], &[8002]);
    let stand = Stand::new(&text);
    let green = stand.kernel.endpoint(8002);
    let answer = canary(&stand, 5).await.expect("begins");
    assert_eq!((answer.kind, answer.percent), (Kind::Canary, Some(5)));
    assert_eq!(
        (answer.from.as_str(), answer.to.as_str()),
        ("blue", "green")
    );
    assert_eq!(dealt(&stand)[&green], 51, "of 1024");
    let status = stand.status().await;
    assert_eq!(
        (status.live.as_str(), status.phase.as_str()),
        ("blue", "holding")
    );
    assert_eq!(
        status.canary.map(|it| (it.colour, it.percent)),
        Some(("green".into(), 5))
    );
    assert_eq!(status.rollback.to.as_deref(), Some("blue"));

    let stand = stand.restart(&text);
    let status = stand.status().await;
    assert_eq!((status.phase.as_str(), status.revision), ("holding", 0));
    assert_eq!(dealt(&stand)[&green], 51);

    let before = table(&stand);
    canary(&stand, 25).await.expect("steps");
    assert_eq!(dealt(&stand)[&green], 256);
    let others = before
        .iter()
        .zip(table(&stand))
        .filter(|(was, is)| **was != *is && *is != green);
    assert_eq!(others.count(), 0, "what moves, moves to green");
    assert!(canary(&stand, 25).await.expect("is so").unchanged);

    let answer = stand.flip().await.expect("finishes");
    assert_eq!((answer.to.as_str(), answer.revision), ("green", 1));
    assert_eq!(dealt(&stand), BTreeMap::from([(green, 256)]));
    until_tidy(&stand).await;
    let status = stand.status().await;
    assert_eq!((status.phase.as_str(), status.canary), ("idle", None));
    let back = stand.order(Verb::Rollback, ChangeRequest::default()).await;
    assert_eq!(back.expect("rolls back").to, "blue");
}

#[tokio::test]
async fn abort_returns_all_new_connections() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let before = table(&stand);
    canary(&stand, 50).await.expect("begins");
    let answer = stand
        .order(Verb::Abort, ChangeRequest::default())
        .await
        .expect("ends it");
    assert_eq!(
        (answer.from.as_str(), answer.to.as_str()),
        ("green", "blue")
    );
    assert_eq!((answer.result, answer.revision), (End::Switched, 0));
    assert_eq!(table(&stand), before);
    until_tidy(&stand).await;
    let failure = stand.order(Verb::Abort, ChangeRequest::default()).await;
    assert_eq!(
        failure.expect_err("nothing is going on").exit,
        Exit::Precondition
    );
}

#[tokio::test]
async fn a_dry_run_fills_no_table() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let before = stand.kernel.lock().clone();
    let request = ChangeRequest {
        dry_run: true,
        ..request(5)
    };
    let answer = stand
        .order(Verb::Canary, request)
        .await
        .expect("would work");
    assert!(answer.dry_run && !answer.steps.is_empty());
    assert_eq!((answer.to.as_str(), answer.percent), ("green", Some(5)));
    assert_eq!(stand.kernel.lock().state(), before.state());
}

#[tokio::test]
async fn a_canary_and_a_way_back_exclude_each_other() {
    let default = "initial = \"blue\"\nconfirm_within = \"5m\"";
    let text = config(&[8001], &[8002]).replacen("initial = \"blue\"", default, 1);
    let stand = Stand::new(&text);
    let refused = async |verb, request| {
        let kernel = || stand.kernel.lock().state().clone();
        let before = kernel();
        let failure = stand.order(verb, request).await.expect_err("is refused");
        assert_eq!(kernel(), before, "and leaves nothing");
        failure
    };
    canary(&stand, 5).await.expect("begins");
    let failure = refused(Verb::Flip, ChangeRequest::default()).await;
    assert_eq!(failure.exit, Exit::Precondition);
    assert!(failure.advice.contains("--no-confirm"), "{failure}");
    let kept = ChangeRequest {
        no_confirm: true,
        ..ChangeRequest::default()
    };
    let answer = stand.order(Verb::Flip, kept).await.expect("finishes it");
    assert_eq!(answer.to, "green");
    until_tidy(&stand).await;

    let answer = stand.flip().await.expect("with the group's default");
    assert_eq!(answer.to, "blue");
    let failure = refused(Verb::Canary, request(5)).await;
    assert_eq!(failure.exit, Exit::WaitingForPerson);
    assert!(failure.advice.contains("`confirm`"), "{failure}");
    let confirmed = stand.order(Verb::Confirm, ChangeRequest::default()).await;
    confirmed.expect("is kept");
    canary(&stand, 5)
        .await
        .expect("in the same window or after it");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_leaves_nothing() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let slots = || stand.kernel.lock().state().groups[&0].slots.clone();
    let before = slots();
    for (to, percent, exit) in [
        (Some("green"), Some(100), Exit::Usage),
        (Some("green"), None, Exit::Usage),
        (None, Some(5), Exit::Usage),
        (Some("red"), Some(5), Exit::NotFound),
        (Some("blue"), Some(5), Exit::Precondition),
    ] {
        let request = ChangeRequest {
            to: to.map(Into::into),
            percent,
            ..ChangeRequest::default()
        };
        let failure = stand
            .order(Verb::Canary, request)
            .await
            .expect_err("is refused");
        assert_eq!(failure.exit, exit, "{to:?} {percent:?}: {failure}");
    }
    let stale = ChangeRequest {
        if_revision: Some(9),
        ..request(5)
    };
    let failure = stand
        .order(Verb::Canary, stale)
        .await
        .expect_err("is refused");
    assert_eq!(failure.exit, Exit::Precondition);
    assert_eq!(slots(), before);
}

#[tokio::test]
async fn a_configuration_goes_on_with_the_canary() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    canary(&stand, 50).await.expect("begins");
    stand.phase("holding").await;
    until_steady(&stand).await;
    apply(&stand, &config(&[8001, 8003], &[8002]))
        .await
        .expect("applies");
    let ids = [8001, 8002, 8003].map(|port| stand.kernel.endpoint(port));
    let counts = dealt(&stand);
    assert_eq!(counts[&ids[1]], 512, "green keeps its share");
    assert!(ids.iter().all(|id| counts[id] > 200), "{counts:?}");
    assert_eq!(stand.status().await.phase, "holding");
}

async fn canary(stand: &Stand, percent: u8) -> Result<ChangeAnswer, Failure> {
    stand.order(Verb::Canary, request(percent)).await
}

fn request(percent: u8) -> ChangeRequest {
    ChangeRequest {
        to: Some("green".into()),
        percent: Some(percent),
        ..ChangeRequest::default()
    }
}

fn table(stand: &Stand) -> Vec<u16> {
    let memory = stand.kernel.lock();
    let have = memory.state();
    let slot = have.groups[&0].word.current() as usize;
    have.tables[&have.services[&0].service.tables[slot].0].to_vec()
}

fn dealt(stand: &Stand) -> BTreeMap<u16, u64> {
    maglev::count(&table(stand))
}

async fn until_steady(stand: &Stand) {
    for _ in 0..300 {
        if stand.kernel.word().phase() == switcher_common::word::Phase::Steady {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the window stays open");
}

/// After grace periods, and a look of the agent.
async fn until_tidy(stand: &Stand) {
    until_steady(stand).await;
    for _ in 0..300 {
        let look = stand.agent.ask(crate::agent::Runner::look).await;
        look.expect("looks");
        if stand.kernel.lock().state().groups[&0].slots.len() == 2 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the canary's slots stay");
}

const STEPS: &str = "canary = { steps = [{ percent = 5, hold = \"300ms\" }, { percent = 50, hold = \"300ms\" }] }\n\
                     bake = { for = \"300ms\", sample = 20 }";

fn by_policy() -> ChangeRequest {
    ChangeRequest {
        to: Some("green".into()),
        policy: true,
        ..ChangeRequest::default()
    }
}

fn with_steps() -> String {
    let text = config(&[8001], &[8002]);
    text.replace(
        "initial = \"blue\"",
        &format!("initial = \"blue\"\n{STEPS}"),
    )
}

/// As whoever waits for the end of a canary by policy.
async fn baked(stand: &Stand, id: Option<String>) -> Result<crate::agent::Met, Failure> {
    let condition = crate::cli::WaitCondition::Baked;
    let met =
        move |runner: &mut crate::agent::Runner| runner.met("shop", &condition, id.as_deref());
    stand.agent.ask(met).await.expect("answers")
}

#[tokio::test]
async fn by_policy_it_goes_on_by_itself_also_in_another_agent() {
    let text = with_steps();
    let stand = Stand::new(&text);
    let begun = stand
        .order(Verb::Canary, by_policy())
        .await
        .expect("begins");
    assert_eq!(begun.percent, Some(5));
    let status = stand.status().await;
    assert!(status.canary.is_some_and(|it| it.policy));
    let next = status.next.expect("another step").what;
    assert_eq!(next, "green gets 50 % of new connections if it does well");
    let met = baked(&stand, begun.id.clone()).await;
    assert!(matches!(met, Ok(crate::agent::Met::NotYet(_))), "{met:?}");
    let stand = stand.restart(&text);
    let mut shares = std::collections::BTreeSet::new();
    for _ in 0..500 {
        let status = stand.status().await;
        shares.extend(status.canary.map(|it| it.percent));
        if status.live == "green" && status.phase == "idle" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(shares.contains(&50), "{shares:?}");
    assert_eq!(stand.status().await.live, "green");
    let met = baked(&stand, begun.id).await;
    assert_eq!(met, Ok(crate::agent::Met::Yes));
    let history = stand.agent.ask(|runner| runner.history(None, 10)).await;
    let history = history.expect("answers").expect("reads");
    let told: Vec<_> = history.iter().map(|it| (it.kind, &*it.actor)).collect();
    assert_eq!(
        told,
        [
            (Kind::Flip, "agent"),
            (Kind::Canary, "agent"),
            (Kind::Canary, "tester")
        ]
    );
    let reason = history[0].reason.as_deref();
    assert_eq!(reason, Some("it did well with 50 %"));
    let bake = history[0].receipt.bake.as_ref().expect("was watched");
    assert_eq!(bake.verdict, crate::release::Verdict::Passed);
}

#[tokio::test]
async fn by_policy_it_is_taken_back_if_it_does_badly() {
    let stand = Stand::new(&with_steps().replace("300ms", "20s"));
    let begun = stand
        .order(Verb::Canary, by_policy())
        .await
        .expect("begins");
    let id = stand.kernel.endpoint(8002);
    {
        let mut memory = stand.kernel.lock();
        let cell = memory.state().endpoints[&id].counter;
        let counters = switcher_common::abi::Counters {
            connections: 30,
            answers: 30,
            resets: 10,
            ..Default::default()
        };
        memory.counters.insert(cell, counters);
    }
    let status = stand.phase("idle").await;
    assert_eq!((status.live.as_str(), status.canary), ("blue", None));
    let met = baked(&stand, begun.id).await;
    assert_eq!(met.map_err(|it| it.exit), Err(Exit::RolledBack));
    let history = stand.agent.ask(|runner| runner.history(None, 1)).await;
    let back = history.expect("answers").expect("reads").remove(0);
    assert_eq!((back.kind, &*back.actor), (Kind::Rollback, "agent"));
    let reason = back.reason.unwrap_or_default();
    assert!(
        reason.starts_with("green did badly with 5 %: resets: 10 of 30"),
        "{reason}"
    );
}

#[tokio::test]
async fn without_a_policy_there_is_none() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let refused = stand.order(Verb::Canary, by_policy()).await;
    let refused = refused.expect_err("nothing is configured");
    assert_eq!(refused.exit, Exit::Usage);
    assert!(refused.advice.contains("steps"), "{refused}");
    let both = ChangeRequest {
        percent: Some(5),
        ..by_policy()
    };
    let refused = stand.order(Verb::Canary, both).await.expect_err("which?");
    assert_eq!(refused.exit, Exit::Usage);
}
