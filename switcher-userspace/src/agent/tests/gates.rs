//! What keeps flips from being made: said at once, kept over restarts; and flips that nobody orders.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::stand::{Kernel, probed_at};
use super::*;
use crate::agent::{Asked, Verb};
use crate::api::model::{ChangeRequest, GroupStatus, NoteAnswer};
use crate::exit::Exit;
use crate::release::End;

#[tokio::test]
async fn one_refusal_lists_policy_and_health_and_outlives_agent_and_host() {
    let live = listen();
    let text = with(&probed_at(&[port(&live)], &[1]), GATES);
    let stand = Stand::new(&text);
    until(&stand, |it| it.colours["green"].healthy == Some(false)).await;
    let silent = note(&stand, Verb::Freeze, ChangeRequest::default(), None).await;
    assert_eq!(silent.expect_err("why?").exit, Exit::Usage);
    let frozen = note(&stand, Verb::Freeze, lasting("1h"), Some("audit")).await;
    let frozen = frozen.expect("freezes").frozen.expect("is frozen");
    assert!(frozen.reason == "audit" && frozen.until.is_some());

    let expected = ["freeze: \"audit\"", "gate qa: closed", "web 127.0.0.1:1: "];
    let refused = stand.flip().await.expect_err("is refused");
    assert_eq!(refused.exit, Exit::Refused);
    assert_begin(&refused.blockers, &expected);
    let dry = ChangeRequest {
        dry_run: true,
        ..ChangeRequest::default()
    };
    let foreseen = stand.order(Verb::Flip, dry).await.expect_err("likewise");
    assert_begin(&foreseen.blockers, &expected);
    let status = stand.status().await;
    assert_begin(&status.blockers, &expected);
    assert!(!status.gates["qa"].open && status.gates["ops"].open);
    let history = stand.agent.ask(|runner| runner.history(None, 10)).await;
    let history = history.expect("answers").expect("reads");
    assert_eq!(history, [], "nothing was begun");

    let (_old, directory) = stand.restart(&text).stop();
    let stand = Stand::with(Kernel::default(), directory, &text);
    until(&stand, |it| it.colours["green"].healthy == Some(false)).await;
    let refused = stand.flip().await.expect_err("is refused");
    assert_begin(&refused.blockers, &expected);
    let unknown = note(&stand, Verb::Gate, gate("dev", true), None).await;
    let unknown = unknown.expect_err("there is none");
    assert_eq!(unknown.exit, Exit::NotFound);
    assert!(unknown.advice.contains("ops, qa"), "{unknown}");
}

#[tokio::test]
async fn gates_are_opened_for_one_flip() {
    let text = with(&config(&[8001], &[8002]), GATES);
    let stand = Stand::new(&text);
    stand.flip().await.expect_err("qa is closed");
    let opened = note(&stand, Verb::Gate, gate("qa", true), None).await;
    let opened = opened.expect("opens").gates["qa"].clone();
    assert!(opened.open && opened.until.is_some());
    assert_eq!(opened.by.as_deref(), Some("anna"));
    let stand = stand.restart(&text);
    assert!(
        stand.status().await.gates["qa"].open,
        "also after a restart"
    );
    stand.flip().await.expect("flips");
    stand.phase("idle").await;
    let stand = stand.restart(&text);
    assert!(!stand.status().await.gates["qa"].open, "it was used");
    let back = stand.order(Verb::Rollback, ChangeRequest::default()).await;
    back.expect("asks nobody");
    stand.phase("idle").await;
    let opened = note(&stand, Verb::Gate, gate("qa", true), None).await;
    opened.expect("opens");
    let spent = stand.flip().await.expect_err("two switches in an hour");
    assert_begin(&spent.blockers, &["flap budget: 2 of 2"]);
    let stand = stand.restart(&text);
    let spent = stand.flip().await.expect_err("they are remembered");
    assert_begin(&spent.blockers, &["flap budget: 2 of 2"]);

    let loose = text.replace("switches = 2", "switches = 3");
    let answer = apply(&stand, &loose).await.expect("applies");
    assert!(
        answer.summary[0].contains("flap_budget 2 within 1h -> 3"),
        "{answer:?}"
    );
    stand.flip().await.expect("there is one more");
}

#[tokio::test]
async fn endpoints_have_to_have_been_healthy_for_some_time() {
    let (live, next) = (listen(), listen());
    let text = probed_at(&[port(&live)], &[port(&next)]);
    let text = text.replace("fall = 1", "fall = 1\nmin_healthy = \"700ms\"");
    let begun = Instant::now();
    let stand = Stand::new(&text);
    let dry = ChangeRequest {
        dry_run: true,
        ..ChangeRequest::default()
    };
    until(&stand, |it| it.colours["green"].healthy == Some(true)).await;
    if begun.elapsed() < Duration::from_millis(300) {
        let young = stand.order(Verb::Flip, dry).await.expect_err("is young");
        assert!(young.blockers[0].contains("has to be for 700ms"), "{young}");
    }
    stand.flip().await.expect("waits until it is");
    assert!(begun.elapsed() >= Duration::from_millis(700));
}

#[tokio::test]
async fn a_staged_release_goes_live_by_itself() {
    let (live, next) = (listen(), listen());
    let text = probed_at(&[port(&live)], &[port(&next)]);
    let text = with(&text, "automatic_after = \"200ms\"");
    let stand = Stand::new(&text);
    until(&stand, |it| it.colours["green"].healthy == Some(true)).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(stand.status().await.live, "blue", "nothing was staged");
    let staged = note(&stand, Verb::Stage, release("v2"), None).await;
    staged.expect("takes");
    until(&stand, |it| it.live == "green" && it.phase == "idle").await;
    let history = stand.agent.ask(|runner| runner.history(None, 10)).await;
    let history = history.expect("answers").expect("reads");
    assert_eq!((history.len(), history[0].actor.as_str()), (1, "agent"));
    let why = "green (v2) has passed its checks for 200ms";
    assert_eq!(history[0].reason.as_deref(), Some(why));
    let back = stand.order(Verb::Rollback, ChangeRequest::default()).await;
    back.expect("rolls back");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(stand.status().await.live, "blue", "and it stays so");
}

#[tokio::test]
async fn what_somebody_stops_does_not_begin_again() {
    let (live, next) = (listen(), listen());
    let text = probed_at(&[port(&live)], &[port(&next)]);
    let text = text.replace("fall = 1", "fall = 1\nmin_healthy = \"10m\"");
    let text = with(&text, "automatic_after = \"50ms\"");
    let stand = Stand::new(&text);
    let staged = note(&stand, Verb::Stage, release("v2"), None).await;
    staged.expect("takes");
    until(&stand, |it| it.phase == "preparing").await;
    let abort = stand.order(Verb::Abort, ChangeRequest::default()).await;
    assert_eq!(abort.expect("stops").result, End::Aborted);
    let stand = stand.restart(&text);
    until(&stand, |it| it.colours["green"].healthy == Some(true)).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(stand.status().await.phase, "idle");
    }
    let staged = note(&stand, Verb::Stage, release("v3"), None).await;
    staged.expect("takes");
    until(&stand, |it| it.phase == "preparing").await;
}

#[tokio::test]
async fn a_program_speaks_for_each_colour() {
    let check = "exec = [\"/bin/sh\", \"-c\", \"[ $SWITCHER_COLOUR = blue ] || { echo no database; exit 4; }\"]";
    let text =
        probed_at(&[1], &[2]).replace("kind = \"tcp\"", &format!("kind = \"exec\"\n{check}"));
    let text = text.replace("timeout = \"200ms\"", "timeout = \"60s\"");
    let stand = Stand::new(&text);
    until(&stand, |it| {
        let healthy = |colour: &str| it.colours[colour].healthy;
        (healthy("blue"), healthy("green")) == (Some(true), Some(false))
    })
    .await;
    let refused = stand.flip().await.expect_err("green says no");
    assert_eq!(refused.exit, Exit::Unhealthy);
    let why = "web 127.0.0.1:2: /bin/sh: exit code 4: no database";
    assert_eq!(refused.blockers, [why]);
    let text = text.replace("= blue ]", "!= blue ]");
    apply(&stand, &text).await.expect("applies");
    until(&stand, |it| it.colours["green"].healthy == Some(true)).await;
    stand.flip().await.expect("green says yes");
}

const GATES: &str = "flap_budget = { switches = 2, within = \"1h\" }
gates.qa = { expires = \"1h\" }
gates.ops = { default = \"open\" }";

/// With more keys of the group.
fn with(text: &str, keys: &str) -> String {
    let initial = "initial = \"blue\"\n";
    text.replace(initial, &format!("{initial}{keys}\n"))
}

fn listen() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).expect("listens")
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("is bound").port()
}

fn gate(name: &str, open: bool) -> ChangeRequest {
    ChangeRequest {
        gate: Some(name.into()),
        open: Some(open),
        ..ChangeRequest::default()
    }
}

fn lasting(time: &str) -> ChangeRequest {
    ChangeRequest {
        duration: Some(time.into()),
        ..ChangeRequest::default()
    }
}

fn release(version: &str) -> ChangeRequest {
    ChangeRequest {
        version: Some(version.into()),
        ..ChangeRequest::default()
    }
}

async fn note(
    stand: &Stand,
    verb: Verb,
    request: ChangeRequest,
    reason: Option<&str>,
) -> Result<NoteAnswer, Failure> {
    let asked = Asked {
        group: "shop".into(),
        verb,
        request,
        who: Who {
            actor: "anna".into(),
            reason: reason.map(Into::into),
        },
    };
    stand.agent.ask(move |runner| runner.note(&asked)).await?
}

/// That each begins so, in this order, and there are no more.
fn assert_begin(blockers: &[String], expected: &[&str]) {
    assert_eq!(blockers.len(), expected.len(), "{blockers:?}");
    for (blocker, expected) in blockers.iter().zip(expected) {
        assert!(blocker.starts_with(expected), "{blocker:?} {expected:?}");
    }
}

async fn until(stand: &Stand, holds: impl Fn(&GroupStatus) -> bool) {
    for _ in 0..1000 {
        if holds(&stand.status().await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {:?}", stand.status().await);
}
