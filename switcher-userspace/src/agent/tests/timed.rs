//! Switches that undo themselves or are set for an instant, and pauses: the kernel here has no clock, so
//! what is seen is the agent's half.

use std::time::Duration;

use switcher_common::abi::Times;
use switcher_common::word::{Phase, flags};

use super::stand::routed;
use super::*;
use crate::agent::{Asked, Verb};
use crate::api::model::{ChangeAnswer, ChangeRequest, PauseAnswer};
use crate::cli::WaitCondition;
use crate::exit::{Exit, Failure};
use crate::journal::{CutoverRecord, Who};
use crate::release::{End, Kind};

fn confirm_within(text: &str) -> ChangeRequest {
    ChangeRequest {
        confirm_within: Some(text.into()),
        ..ChangeRequest::default()
    }
}

async fn record(stand: &Stand, id: Option<String>) -> CutoverRecord {
    let id = id.expect("an id");
    let record = stand.agent.ask(move |runner| runner.cutover(&id)).await;
    record.expect("answers").expect("is recorded")
}

async fn newest(stand: &Stand) -> CutoverRecord {
    let history = stand.agent.ask(|runner| runner.history(None, 1)).await;
    history.expect("answers").expect("reads").remove(0)
}

#[tokio::test]
async fn what_is_confirmed_stays() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let flip = stand.order(Verb::Flip, confirm_within("10s")).await;
    let flip = flip.expect("flips");
    assert!(flip.confirm_by.is_some(), "{flip:?}");
    let status = stand.status().await;
    assert_eq!(
        (status.phase.as_str(), status.live.as_str()),
        ("confirming", "green")
    );
    let next = status.next.expect("a deadline");
    assert_eq!(next.what, "blue is live again, unless this is confirmed");
    assert!(stand.kernel.word().has(flags::TIMED));

    let refused = stand.flip().await.map(|answer| answer.to);
    let refused = refused.expect_err("a person is waited for");
    assert_eq!(refused.exit, Exit::WaitingForPerson, "{refused}");

    let by = flip.confirm_by;
    let longer = ChangeRequest {
        duration: Some("20s".into()),
        ..ChangeRequest::default()
    };
    let extended = stand.order(Verb::Extend, longer).await.expect("extends");
    assert!(
        extended.confirm_by > by && extended.id == flip.id,
        "{extended:?}"
    );

    let confirmed = stand.order(Verb::Confirm, ChangeRequest::default()).await;
    assert_eq!(confirmed.expect("confirms").confirm_by, None);
    assert!(!stand.kernel.word().has(flags::TIMED));
    stand.phase("idle").await;
    let record = record(&stand, flip.id).await;
    assert_eq!(record.result, Some(End::Succeeded));
    assert!(
        record.confirmed.is_some() && record.confirm_by > by,
        "{record:?}"
    );
}

#[tokio::test]
async fn what_is_not_confirmed_is_rolled_back_and_whoever_waits_hears_of_it() {
    for text in [config(&[8001], &[8002]), routed()] {
        let stand = Stand::new(&text);
        let flip = stand.order(Verb::Flip, confirm_within("1s")).await;
        let id = flip.expect("flips").id;
        let cutover = id.clone();
        let drained = move |runner: &mut crate::agent::Runner| {
            runner.met("shop", &WaitCondition::Drained, cutover.as_deref())
        };
        let met = stand.agent.ask(drained.clone()).await.expect("answers");
        assert!(matches!(met, Ok(crate::agent::Met::Waits(_))), "{met:?}");
        tokio::time::sleep(Duration::from_millis(1050)).await;
        let status = stand.phase("idle").await;
        assert_eq!((status.live.as_str(), status.revision), ("blue", 2));
        let word = stand.kernel.word();
        assert_eq!(
            (word.phase(), word.has(flags::TIMED)),
            (Phase::Steady, false)
        );
        let failure = stand.agent.ask(drained).await.expect("answers");
        assert_eq!(failure.map_err(|it| it.exit), Err(Exit::RolledBack));
        assert_eq!(
            record(&stand, id.clone()).await.result,
            Some(End::RolledBack)
        );
        let back = newest(&stand).await;
        assert_eq!(
            (back.kind, back.actor.as_str()),
            (Kind::Rollback, "the kernel")
        );
        assert_eq!(back.id, format!("{}-back", id.unwrap_or_default()));
        assert_eq!(back.reason.as_deref(), Some("it was not confirmed"));
    }
}

#[tokio::test]
async fn an_agent_that_comes_too_late_records_what_has_happened() {
    let text = routed();
    let stand = Stand::new(&text);
    let flip = stand.order(Verb::Flip, confirm_within("1s")).await;
    let id = flip.expect("flips").id;
    let (kernel, directory) = stand.stop();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(kernel.word().current(), 1, "this kernel has no clock");
    let stand = Stand::with(kernel, directory, &text);
    let status = stand.status().await;
    assert_eq!((status.live.as_str(), status.revision), ("blue", 2));
    assert_eq!(record(&stand, id).await.result, Some(End::RolledBack));
    assert_eq!(newest(&stand).await.actor, "the kernel");
    stand.phase("idle").await;
}

#[tokio::test]
async fn a_host_that_went_down_unconfirmed_comes_up_as_before() {
    let text = config(&[8001], &[8002]);
    let stand = Stand::new(&text);
    let flip = stand.order(Verb::Flip, confirm_within("10m")).await;
    let id = flip.expect("flips").id;
    let (_gone, directory) = stand.stop();
    let stand = Stand::with(stand::Kernel::default(), directory, &text);
    let status = stand.status().await;
    assert_eq!(
        (status.live.as_str(), status.phase.as_str()),
        ("blue", "idle")
    );
    assert_eq!(record(&stand, id).await.result, Some(End::RolledBack));
}

#[tokio::test]
async fn groups_may_want_every_flip_confirmed() {
    let within = "initial = \"blue\"\nconfirm_within = \"10s\"";
    let text = config(&[8001], &[8002]).replace("initial = \"blue\"", within);
    let stand = Stand::new(&text);
    assert!(stand.flip().await.expect("flips").confirm_by.is_some());
    let back = stand.order(Verb::Abort, ChangeRequest::default()).await;
    assert_eq!(back.expect("rolls back").kind, Kind::Rollback);
    stand.phase("idle").await;
    let no_confirm = ChangeRequest {
        no_confirm: true,
        ..ChangeRequest::default()
    };
    let flip = stand.order(Verb::Flip, no_confirm).await.expect("flips");
    assert_eq!(flip.confirm_by, None);
    assert!(!stand.kernel.word().has(flags::TIMED));
}

#[tokio::test]
async fn a_switch_is_set_for_an_instant() {
    let stand = Stand::new(&routed());
    let at = |text: &str| ChangeRequest {
        at: Some(text.into()),
        ..ChangeRequest::default()
    };
    let dry = ChangeRequest {
        dry_run: true,
        ..at("+5m")
    };
    let dry = stand.order(Verb::Flip, dry).await.expect("would");
    let steps = dry.steps.join("\n");
    assert!(
        dry.result == End::Scheduled && steps.contains("the kernel sends"),
        "{steps}"
    );
    let soon = stand.order(Verb::Flip, at("+10ms")).await;
    assert_eq!(
        soon.map_err(|it| it.exit),
        Err(Exit::Precondition),
        "arming takes 50 ms"
    );
    let odd = stand.order(Verb::Flip, at("noon")).await;
    assert_eq!(odd.map_err(|it| it.exit), Err(Exit::Usage));

    let set = stand.order(Verb::Flip, at("+400ms")).await.expect("is set");
    assert_eq!(set.result, End::Scheduled);
    let status = stand.status().await;
    assert_eq!(
        (status.phase.as_str(), status.live.as_str()),
        ("preparing", "blue")
    );
    let times = stand.kernel.lock().times.get(&0).copied().expect("times");
    assert_eq!(times.activate_at - times.arm_at, 50_000_000);
    assert_eq!(times.revert_at, Times::NEVER);
    let status = stand.phase("draining").await;
    assert_eq!(status.live, "green");
    assert!(!stand.kernel.word().has(flags::TIMED));

    stand.phase("idle").await;
    let set = stand.order(Verb::Flip, at("+10m")).await.expect("is set");
    let stopped = stand.order(Verb::Abort, ChangeRequest::default()).await;
    assert_eq!(stopped.expect("stops").result, End::Aborted);
    let status = stand.status().await;
    assert_eq!(
        (status.phase.as_str(), status.live.as_str()),
        ("idle", "green")
    );
    assert_eq!(record(&stand, set.id).await.result, Some(End::Aborted));
    assert_eq!(stand.kernel.word().phase(), Phase::Steady);
}

#[tokio::test]
async fn a_pause_ends_by_itself_or_by_order() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let pause = |text: &str| ChangeRequest {
        duration: Some(text.into()),
        ..ChangeRequest::default()
    };
    let held = hold(&stand, Verb::Pause, pause("200ms"))
        .await
        .expect("holds");
    assert!(held.paused_until.is_some() && !held.unchanged);
    let status = stand.status().await;
    assert_eq!(status.phase, "paused");
    assert_eq!(
        status.next.map(|it| it.what).as_deref(),
        Some("new connections are let in again")
    );
    assert!(stand.kernel.word().has(flags::PAUSED));
    stand.phase("idle").await;
    assert!(!stand.kernel.word().has(flags::PAUSED));

    let _held = hold(&stand, Verb::Pause, pause("1m")).await.expect("holds");
    let flip: Result<ChangeAnswer, Failure> = stand.flip().await;
    flip.expect("flips while it is paused");
    assert!(stand.kernel.word().has(flags::PAUSED));
    let resumed = hold(&stand, Verb::Resume, ChangeRequest::default()).await;
    assert_eq!(resumed.expect("resumes").paused_until, None);
    let resumed = hold(&stand, Verb::Resume, ChangeRequest::default()).await;
    assert!(resumed.expect("again").unchanged);

    let exit = |answer: Result<PauseAnswer, Failure>| answer.map_err(|it| it.exit);
    let long = exit(hold(&stand, Verb::Pause, pause("1h")).await);
    assert_eq!(long, Err(Exit::Usage), "nobody waits that long");
    let missing = exit(hold(&stand, Verb::Pause, ChangeRequest::default()).await);
    assert_eq!(missing, Err(Exit::Usage));
    let stale = ChangeRequest {
        if_revision: Some(7),
        ..pause("1s")
    };
    assert_eq!(
        exit(hold(&stand, Verb::Pause, stale).await),
        Err(Exit::Precondition)
    );
}

async fn hold(stand: &Stand, verb: Verb, request: ChangeRequest) -> Result<PauseAnswer, Failure> {
    let who = Who {
        actor: "tester".into(),
        reason: None,
    };
    let asked = Asked {
        group: "shop".into(),
        verb,
        request,
        who,
    };
    stand.agent.ask(move |runner| runner.pause(&asked)).await?
}
