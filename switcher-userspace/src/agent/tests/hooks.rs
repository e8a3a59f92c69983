//! Hooks of a running agent: programs and receivers that are real.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::receiver::{Receiver, Request};
use super::*;
use crate::agent::Verb;
use crate::api::model::{ChangeRequest, GroupStatus};
use crate::exit::Exit;
use crate::journal::{Called, CutoverRecord, HookRecord, Who};
use crate::release::End;

#[tokio::test]
async fn programs_hear_what_happens_and_their_words_are_kept() {
    let home = home();
    let log = home.path().join("log");
    let script = format!(
        "echo \"$SWITCHER_EVENT $SWITCHER_GROUP $SWITCHER_FROM $SWITCHER_TO [$SWITCHER_VERSION] \
         $SWITCHER_ACTOR $SWITCHER_REASON\" | tee -a {}",
        log.display()
    );
    let moments = ["stage", "pre-flip", "post-flip", "rolled-back", "drained"];
    let hooks: String = moments.iter().map(|on| exec(on, &script, "")).collect();
    let stand = Stand::new(&with(&hooks));
    stage(&stand, "v2").await;
    lines(&log, 1).await;
    let flip = stand.flip().await.expect("flips");
    lines(&log, 4).await;
    let back = stand.order(Verb::Rollback, ChangeRequest::default()).await;
    let back = back.expect("goes back");
    let log = lines(&log, 6).await;
    let expected = [
        "stage shop blue green [v2] tester test",
        "pre-flip shop blue green [v2] tester test",
        "post-flip shop blue green [v2] tester test",
        "drained shop blue green [v2] tester test",
        "rolled-back shop green blue [] tester test",
        "drained shop green blue [] tester test",
    ];
    assert_eq!(log, expected);
    let recorded = hooks_of(&stand, flip.id.as_deref()).await;
    let names: Vec<&str> = recorded.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["pre-flip-2", "post-flip-3", "drained-5"]);
    for hook in &recorded {
        assert_eq!(
            (hook.outcome, hook.attempts),
            (Some(Called::Passed), 1),
            "{hook:?}"
        );
        assert!(hook.ended.is_some_and(|ended| ended >= hook.started));
    }
    assert_eq!(recorded[0].said.as_deref(), Some(expected[1]));
    let recorded = hooks_of(&stand, back.id.as_deref()).await;
    assert_eq!(recorded.len(), 2);
}

#[tokio::test]
async fn one_that_fails_before_a_flip_refuses_it_and_says_why() {
    let hooks = exec("pre-flip", "exit 0", "")
        + &exec(
            "pre-flip",
            "echo no such page; exit 3",
            "name = \"smoke\"\nretries = 1\n",
        )
        + &exec("pre-flip", "exit 0", "name = \"never\"\n");
    let stand = Stand::new(&with(&hooks));
    let dry = ChangeRequest {
        dry_run: true,
        ..ChangeRequest::default()
    };
    let foreseen = stand.order(Verb::Flip, dry).await.expect("is foreseen");
    assert!(
        foreseen
            .steps
            .contains(&"call the pre-flip hooks".to_owned()),
        "{foreseen:?}"
    );
    let refused = stand.flip().await.expect_err("is refused");
    assert_eq!(refused.exit, Exit::Refused);
    assert_eq!(
        refused.blockers,
        ["hook smoke: it failed; exit code 3: no such page"]
    );
    assert_eq!(stand.status().await.live, "blue");
    let newest = newest(&stand).await;
    assert_eq!(newest.result, Some(End::Aborted));
    let recorded = hooks_of(&stand, Some(&newest.id)).await;
    let came: Vec<_> = recorded
        .iter()
        .map(|it| (it.outcome, it.attempts))
        .collect();
    let expected = [
        (Some(Called::Passed), 1),
        (Some(Called::Failed), 2),
        (Some(Called::Stopped), 0),
    ];
    assert_eq!(came, expected);

    let ignored = with(&hooks.replace("retries = 1\n", "on_failure = \"ignore\"\n"));
    apply(&stand, &ignored).await.expect("applies");
    stand.flip().await.expect("flips");
}

#[tokio::test]
async fn one_that_fails_after_a_flip_undoes_it() {
    let stand = Stand::new(&with(&exec(
        "post-flip",
        "echo slow; exit 1",
        "name = \"load\"\n",
    )));
    let undone = stand.flip().await.expect_err("is undone");
    assert_eq!(undone.exit, Exit::RolledBack, "{undone}");
    assert_eq!(stand.status().await.live, "blue");
    let back = newest(&stand).await;
    assert_eq!(back.actor, "agent");
    let why = format!(
        "hooks after {}: hook load: it failed; exit code 1: slow",
        &back.id[..20]
    );
    assert_eq!(back.reason.as_deref(), Some(why.as_str()));
    stand.phase("idle").await;
    let forced = ChangeRequest {
        force: true,
        ..ChangeRequest::default()
    };
    stand.order(Verb::Flip, forced).await.expect("is forced");
    stand.phase("idle").await;
    assert_eq!(stand.status().await.live, "green");
}

#[tokio::test]
async fn a_rollback_waits_for_no_hook_and_ends_it_with_its_children() {
    let home = home();
    let file = home.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; wait", file.display());
    let stand = Stand::new(&with(&exec("post-flip", &script, "timeout = \"10m\"\n")));
    let flip = {
        let agent = stand.agent.clone();
        tokio::spawn(async move { order(&agent, Verb::Flip).await })
    };
    let pid = lines(&file, 1).await.remove(0);
    assert_eq!(stand.status().await.live, "green");
    let begun = Instant::now();
    let back = stand.order(Verb::Rollback, ChangeRequest::default()).await;
    back.expect("goes back");
    assert!(begun.elapsed() < Duration::from_secs(60));
    let undone = flip.await.expect("ends").expect_err("is undone");
    assert_eq!(undone.exit, Exit::RolledBack);
    gone(&pid).await;
}

#[tokio::test]
async fn a_restart_decides_again_what_was_not_decided() {
    let home = home();
    let (log, go) = (home.path().join("log"), home.path().join("go"));
    let script = format!(
        "echo $SWITCHER_CUTOVER >> {}; while [ ! -e {} ]; do sleep 0.02; done; exit 1",
        log.display(),
        go.display()
    );
    let text = with(&exec("post-flip", &script, ""));
    let stand = Stand::new(&text);
    let _asked = {
        let agent = stand.agent.clone();
        tokio::spawn(async move { order(&agent, Verb::Flip).await })
    };
    lines(&log, 1).await;
    let stand = stand.restart(&text);
    let called = lines(&log, 2).await;
    assert_eq!(called[0], called[1], "for the same flip");
    assert_eq!(stand.status().await.live, "green");
    std::fs::write(&go, "").expect("writes");
    for _ in 0..500 {
        if stand.status().await.live == "blue" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let recorded = hooks_of(&stand, Some(&called[0])).await;
    let came: Vec<_> = recorded.iter().map(|it| it.outcome).collect();
    assert_eq!(came, [Some(Called::Interrupted), Some(Called::Failed)]);
    assert_eq!(stand.status().await.live, "blue", "it was undone");
}

#[tokio::test]
async fn a_restart_calls_again_who_is_only_told() {
    let home = home();
    let (log, go) = (home.path().join("log"), home.path().join("go"));
    let script = format!(
        "echo $SWITCHER_FROM >> {}; while [ ! -e {} ]; do sleep 0.02; done",
        log.display(),
        go.display()
    );
    let text = with(&exec("drained", &script, ""));
    let stand = Stand::new(&text);
    let flip = stand.flip().await.expect("flips");
    stand.phase("idle").await;
    assert_eq!(lines(&log, 1).await, ["blue"]);
    let stand = stand.restart(&text);
    assert_eq!(lines(&log, 2).await, ["blue", "blue"]);
    std::fs::write(&go, "").expect("writes");
    let mut recorded = Vec::new();
    for _ in 0..500 {
        recorded = hooks_of(&stand, flip.id.as_deref()).await;
        if recorded[0].outcome.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let came: Vec<_> = recorded.iter().map(|it| it.outcome).collect();
    assert_eq!(came, [Some(Called::Passed)]);
    let (kernel, directory) = stand.stop();
    let stand = Stand::with(kernel, directory, &text);
    stand.status().await;
    assert_eq!(lines(&log, 2).await.len(), 2, "once is enough");
}

#[tokio::test]
async fn events_arrive_in_order_also_after_a_restart() {
    let mut receiver = Receiver::start(503).await;
    let text = with(&web("event", &receiver, "name = \"ci\"\n"));
    let stand = Stand::new(&text);
    stage(&stand, "v2").await;
    stand.flip().await.expect("nobody waits for receivers");
    stand.phase("idle").await;
    let refused = receiver.next().await;
    assert_eq!(refused.body["event"], "staged");
    let stand = stand.restart(&text);
    receiver.answer(204);
    let mut told: Vec<(String, String)> = Vec::new();
    while told.last().is_none_or(|(event, _)| event != "succeeded") {
        let Request { headers, body } = receiver.next().await;
        let word = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        assert!(
            headers.contains(&format!("x-switcher-delivery: {}", word("id"))),
            "{headers}"
        );
        told.push((word("event"), word("id")));
    }
    // The first may be told again: its refusal was on its way when the answer changed.
    let again = told[0].clone();
    told.retain(|it| *it != again);
    assert_eq!(again.0, "staged");
    assert_eq!(again.1, refused.body["id"], "it is the same event");
    let events: Vec<&str> = told.iter().map(|(event, _)| event.as_str()).collect();
    assert_eq!(events, ["started", "switched", "drained", "succeeded"]);
    drop(stand);
}

#[tokio::test]
async fn a_failure_is_told() {
    let mut receiver = Receiver::start(204).await;
    let bad = exec(
        "stage",
        "echo no room; exit 3",
        "name = \"copy\"\nretries = 0\n",
    );
    let text = with(&(bad + &web("event", &receiver, "")));
    let stand = Stand::new(&text);
    stage(&stand, "v2").await;
    assert_eq!(receiver.next().await.body["event"], "staged");
    let told = receiver.next().await.body;
    assert_eq!(told["event"], "hook-failed", "{told}");
    let expected = "shop: hook copy (stage): it failed; exit code 3: no room";
    assert_eq!(told["message"], expected);
    assert_eq!(
        (&told["to"], &told["version"]),
        (&"green".into(), &"v2".into())
    );
    assert_eq!(stand.status().await.phase, "idle", "traffic is as it was");
}

#[tokio::test]
async fn three_colours_drain_one_by_one() {
    let home = home();
    let log = home.path().join("log");
    let script = format!("echo $SWITCHER_CUTOVER $SWITCHER_FROM >> {}", log.display());
    let text = with(&exec("drained", &script, "")).replace(
        "green = [\"10.0.0.1:8002\"]",
        "green = [\"10.0.0.1:8002\"]\nred = [\"10.0.0.1:8003\"]",
    );
    let stand = Stand::new(&text);
    let (blue, green) = (stand.kernel.endpoint(8001), stand.kernel.endpoint(8002));
    stand.kernel.set_flows(&[(blue, 5), (green, 2)]);
    let mut ids = Vec::new();
    for colour in ["green", "red"] {
        let to = ChangeRequest {
            to: Some(colour.into()),
            ..ChangeRequest::default()
        };
        let flip = stand.order(Verb::Flip, to).await.expect("flips");
        ids.push(flip.id.expect("an id"));
    }
    let left = |status: &GroupStatus| status.window.clone().expect("is open").left;
    let both = [("blue".to_owned(), Some(5)), ("green".to_owned(), Some(2))];
    let status = stand.status().await;
    assert_eq!(left(&status), both.into(), "{status:?}");
    stand.kernel.set_flows(&[(blue, 5)]);
    assert_eq!(lines(&log, 1).await, [format!("{} green", ids[1])]);
    for _ in 0..500 {
        let called = hooks_of(&stand, Some(&ids[1])).await;
        if called[0].outcome.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Another agent knows who has drained.
    let stand = stand.restart(&text);
    let status = stand.status().await;
    assert_eq!(left(&status), [("blue".to_owned(), Some(5))].into());
    stand.kernel.set_flows(&[]);
    stand.phase("idle").await;
    let expected = [format!("{} green", ids[1]), format!("{} blue", ids[0])];
    assert_eq!(lines(&log, 2).await, expected);
    for id in ids {
        let record = stand.agent.ask(move |runner| runner.cutover(&id)).await;
        let record = record.expect("answers").expect("is recorded");
        assert!(record.receipt.drained.is_some(), "{record:?}");
        assert_eq!(record.hooks.len(), 1, "{record:?}");
    }
}

#[tokio::test]
async fn a_dead_receiver_keeps_nobody_waiting_and_gives_up_with_its_hook() {
    let text = with(&format!(
        "[[groups.shop.hooks]]\non = \"event\"\nurl = \"http://127.0.0.1:1/\"\n{}",
        exec("event", "exit 0", "name = \"second\"\n")
    ));
    let stand = Stand::new(&text);
    for _ in 0..3 {
        stand.flip().await.expect("flips");
        stand.phase("idle").await;
    }
    let waiting = async |hook: &'static str| {
        let asked = stand
            .agent
            .ask(move |it| it.journal.waiting_out("shop", hook));
        asked.await.expect("answers").expect("reads").0
    };
    assert_eq!(waiting("event-1").await, 12, "four of each flip");
    let status = stand.status().await;
    let lane = status.outbox.iter().find(|it| it.hook == "event-1");
    let lane = lane.expect("is listed");
    assert!(
        lane.waiting == 12 && lane.failures > 0 && lane.since.is_some(),
        "{lane:?}"
    );
    assert!(
        lane.reason
            .as_ref()
            .is_some_and(|it| it.contains("refused")),
        "{lane:?}"
    );
    for _ in 0..500 {
        if waiting("second").await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(waiting("second").await, 0);
    apply(&stand, &with("")).await.expect("applies");
    assert_eq!(waiting("event-1").await, 0);
}

#[tokio::test]
async fn requests_go_over_tls_to_whom_the_file_vouches_for_and_are_signed() {
    let home = home();
    let (ca, key) = (home.path().join("ca.pem"), home.path().join("key"));
    std::fs::write(&key, "s3cret\n").expect("writes");
    let mut receiver = Receiver::start_tls(&ca).await;
    let more = format!("ca_file = {ca:?}\nsecret_file = {key:?}\nformat = \"cloudevents\"\n");
    let stand = Stand::new(&with(&web("pre-flip", &receiver, &more)));
    stand.flip().await.expect("flips");
    let Request { headers, body } = receiver.next().await;
    assert!(
        headers.contains("content-type: application/cloudevents+json"),
        "{headers}"
    );
    assert_eq!(
        (&body["specversion"], &body["type"]),
        (&"1.0".into(), &"switcher.pre-flip".into())
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret");
    let tag = ring::hmac::sign(&key, body.to_string().as_bytes());
    let hex: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let signed = format!("x-switcher-signature-256: sha256={hex}");
    assert!(headers.contains(&signed), "{headers}");
    stand.phase("idle").await;

    let strange = with(&web("pre-flip", &receiver, "retries = 0\n"));
    apply(&stand, &strange).await.expect("applies");
    let refused = stand.flip().await.expect_err("nobody vouches for it");
    assert!(refused.blockers[0].contains("TLS"), "{refused}");
}

#[tokio::test]
async fn flaggers_rollback_goes_back_if_it_passes() {
    let mut receiver = Receiver::start(403).await;
    let more = "format = \"flagger\"\nmetadata = { cmd = \"gate\" }\n";
    let hooks = web(
        "confirm-rollout",
        &receiver,
        &format!("{more}retries = 1\n"),
    );
    let text = with(&(hooks + &web("rollback", &receiver, more)));
    let stand = Stand::new(&text);
    let refused = stand.flip().await.expect_err("is refused");
    assert_eq!(
        refused.blockers,
        ["hook confirm-rollout-1: it failed; HTTP 403"]
    );
    let asked = receiver.next().await.body;
    assert_eq!(
        (&asked["name"], &asked["phase"], &asked["metadata"]["cmd"]),
        (&"shop".into(), &"Progressing".into(), &"gate".into())
    );

    // Accepted before, asked to go back after.
    receiver.answer(202);
    let undone = stand.flip().await.expect_err("is undone");
    assert_eq!(undone.exit, Exit::RolledBack, "{undone}");
    let back = newest(&stand).await;
    let why = back.reason.unwrap_or_default();
    assert!(
        why.ends_with("hook rollback-2: it asks to roll back; HTTP 202"),
        "{why}"
    );
    assert_eq!(stand.status().await.live, "blue");
    receiver.answer(204);
    stand.phase("idle").await;
    let refused = stand.flip().await.expect_err("Flagger takes 200 to 202");
    assert_eq!(
        refused.blockers,
        ["hook confirm-rollout-1: it failed; HTTP 204"]
    );
}

#[tokio::test]
async fn a_hook_that_hangs_before_a_flip_keeps_no_other_group_waiting() {
    let receiver = Receiver::silent().await;
    let text = with(&web("pre-flip", &receiver, "timeout = \"10m\"\n"));
    let other = "\n[groups.other]\ninitial = \"blue\"\nhealth = { kind = \"none\" }\n\
        [groups.other.services.web]\nvip = \"10.0.0.1:81/tcp\"\nforward = \"local\"\n\
        endpoints.blue = [\"10.0.0.1:8101\"]\nendpoints.green = [\"10.0.0.1:8102\"]\n";
    let stand = Stand::new(&(text + other));
    let flip = {
        let agent = stand.agent.clone();
        tokio::spawn(async move { order(&agent, Verb::Flip).await })
    };
    stand.phase("preparing").await;
    let who = Who {
        actor: "tester".into(),
        reason: None,
    };
    let asked = stand::asked("other", Verb::Flip, who);
    let other = stand
        .agent
        .ask_later(move |runner, reply| runner.order(asked, reply))
        .await;
    other.expect("answers").expect("flips");
    assert_eq!(stand.status().await.phase, "preparing");
    let stopped = stand.order(Verb::Abort, ChangeRequest::default()).await;
    stopped.expect("stops it");
    let aborted = flip.await.expect("ends").expect_err("is stopped");
    assert_eq!(aborted.exit, Exit::Precondition);
    let newest = hooks_of(&stand, Some(&of_shop(&stand).await)).await;
    assert_eq!(newest[0].outcome, Some(Called::Stopped));
    drop(stand);
}

async fn of_shop(stand: &Stand) -> String {
    let history = stand
        .agent
        .ask(|runner| runner.history(Some("shop"), 1))
        .await;
    history.expect("answers").expect("reads").remove(0).id
}

async fn order(
    agent: &crate::agent::Handle,
    verb: Verb,
) -> Result<crate::api::model::ChangeAnswer, Failure> {
    let who = Who {
        actor: "tester".into(),
        reason: None,
    };
    let asked = stand::asked("shop", verb, who);
    agent
        .ask_later(move |runner, reply| runner.order(asked, reply))
        .await?
}

async fn stage(stand: &Stand, version: &str) {
    let request = ChangeRequest {
        version: Some(version.into()),
        ..ChangeRequest::default()
    };
    let who = Who {
        actor: "tester".into(),
        reason: Some("test".into()),
    };
    let asked = crate::agent::Asked {
        request,
        ..stand::asked("shop", Verb::Stage, who)
    };
    let noted = stand.agent.ask(move |runner| runner.note(&asked)).await;
    noted.expect("answers").expect("is noted");
}

async fn hooks_of(stand: &Stand, id: Option<&str>) -> Vec<HookRecord> {
    let id = id.expect("an id").to_owned();
    let hooks = stand
        .agent
        .ask(move |runner| runner.journal.hooks(&id))
        .await;
    hooks.expect("answers").expect("reads")
}

async fn newest(stand: &Stand) -> CutoverRecord {
    let history = stand.agent.ask(|runner| runner.history(None, 1)).await;
    history.expect("answers").expect("reads").remove(0)
}

/// Waits until a file has so many lines.
async fn lines(file: &Path, count: usize) -> Vec<String> {
    let mut text = String::new();
    for _ in 0..1500 {
        text = std::fs::read_to_string(file).unwrap_or_default();
        if text.lines().count() >= count && text.ends_with('\n') {
            return text.lines().map(str::to_owned).collect();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{}: {text}", file.display());
}

/// Waits until a process has gone.
async fn gone(pid: &str) {
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    for _ in 0..500 {
        if state().is_empty() || state().contains(") Z") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it goes on: {}", state());
}

fn with(hooks: &str) -> String {
    format!("{}\n{hooks}", config(&[8001], &[8002]))
}

fn exec(on: &str, script: &str, more: &str) -> String {
    let argv = Value::from(vec!["/bin/sh", "-c", script]);
    format!("[[groups.shop.hooks]]\non = \"{on}\"\nexec = {argv}\n{more}")
}

fn web(on: &str, receiver: &Receiver, more: &str) -> String {
    let url = receiver.url();
    format!("[[groups.shop.hooks]]\non = \"{on}\"\nurl = \"{url}\"\n{more}")
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}
