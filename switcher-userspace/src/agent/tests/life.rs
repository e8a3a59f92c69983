use switcher_common::word::Phase;

use super::stand::{Kernel, probed, routed};
use super::*;
use crate::agent::Verb;
use crate::api::model::ChangeRequest;
use crate::exit::Exit;
use crate::release::{End, Kind};

#[tokio::test]
async fn the_first_start_makes_initial_live() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let status = stand.status().await;
    assert_eq!(
        (status.live.as_str(), status.previous.as_deref()),
        ("blue", None)
    );
    assert_eq!((status.phase.as_str(), status.revision), ("idle", 0));
    assert_eq!(status.by, "the configuration");
    assert_eq!(status.colours["green"].role, "staging");
    assert_eq!(status.colours["blue"].healthy, Some(true), "nobody asks");
    assert!(!status.rollback.eligible);
    assert_eq!(
        stand.kernel.lock().state().addresses.len(),
        3,
        "a service, two endpoints"
    );
}

#[tokio::test]
async fn a_flip_is_answered_when_it_has_settled_and_ends_when_nothing_is_left() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let (blue, green) = (stand.kernel.endpoint(8001), stand.kernel.endpoint(8002));
    stand.kernel.set_flows(&[(blue, 12), (green, 3)]);

    let answer = stand.flip().await.expect("flips");
    assert_eq!(
        (answer.from.as_str(), answer.to.as_str()),
        ("blue", "green")
    );
    assert_eq!(
        (answer.kind, answer.result, answer.revision),
        (Kind::Flip, End::Switched, 1)
    );
    assert!(answer.store_to_settled_us.is_some() && !answer.unchanged);
    let word = stand.kernel.word();
    assert_eq!(
        (word.phase(), word.current()),
        (Phase::Draining, 1),
        "sockets need no learning"
    );

    let status = stand.status().await;
    assert_eq!(
        (status.live.as_str(), status.previous.as_deref()),
        ("green", Some("blue"))
    );
    assert_eq!(
        (status.phase.as_str(), status.by.as_str()),
        ("draining", "tester")
    );
    assert_eq!(status.colours["blue"].flows, Some(12));
    assert_eq!(
        status.window.and_then(|window| window.flows_on_old),
        Some(12)
    );
    let next = status.next.expect("a deadline");
    assert_eq!(
        next.what,
        "drain deadline: 12 connections left would be reset"
    );
    assert_eq!(
        status.cutover.map(|it| Some(it.id)),
        Some(answer.id.clone())
    );
    assert!(status.rollback.eligible);

    stand.kernel.set_flows(&[(green, 5)]);
    let status = stand.phase("idle").await;
    assert!(status.window.is_none() && status.cutover.is_none());
    assert_eq!(stand.kernel.word().phase(), Phase::Steady);
    let id = answer.id.expect("an id");
    let record = stand.agent.ask(move |runner| runner.cutover(&id)).await;
    let record = record.expect("answers").expect("is recorded");
    assert_eq!((record.result, record.leftovers), (Some(End::Succeeded), 0));
    assert_eq!(
        (record.actor.as_str(), record.reason.as_deref()),
        ("tester", Some("test"))
    );
    assert!(record.stored <= record.settled && record.settled <= record.ended);
}

#[tokio::test]
async fn tags_need_arming_learning_and_a_flow_map() {
    let stand = Stand::new(&routed());
    let blue = stand.kernel.endpoint(8001);
    stand.kernel.set_flows(&[(blue, 1)]);
    let flip = stand.flip();
    let look = async {
        let status = stand.phase("preparing").await;
        let (word, windows) = (stand.kernel.word(), stand.kernel.lock().windows.clone());
        (status, word, windows)
    };
    let (answer, (status, word, windows)) = tokio::join!(flip, look);
    answer.expect("flips");
    assert_eq!(status.window.map(|it| it.phase).as_deref(), Some("arming"));
    assert_eq!(
        status.next.map(|it| it.what).as_deref(),
        Some("new connections go to green")
    );
    assert_eq!((word.phase(), word.current()), (Phase::Arming, 0));
    assert_eq!(windows.get(&0), Some(&crate::config::DEFAULT_FLOWS));
    assert_eq!(stand.kernel.word().phase(), Phase::Open);
    for _ in 0..100 {
        if stand.kernel.word().phase() == Phase::Draining {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(
        stand.kernel.word().phase(),
        Phase::Draining,
        "after learning"
    );
    stand.kernel.set_flows(&[]);
    stand.phase("idle").await;
    assert!(stand.kernel.lock().windows.is_empty());
}

#[tokio::test]
async fn abort_wins_while_it_arms() {
    let stand = Stand::new(&routed().replace("arm = \"50ms\"", "arm = \"10s\""));
    let flip = stand.flip();
    let abort = async {
        stand.phase("preparing").await;
        stand.order(Verb::Abort, ChangeRequest::default()).await
    };
    let (flip, abort) = tokio::join!(flip, abort);
    assert_eq!(flip.expect_err("was stopped").exit, Exit::Precondition);
    let abort = abort.expect("stops it");
    assert_eq!((abort.result, abort.to.as_str()), (End::Aborted, "blue"));
    let status = stand.status().await;
    assert_eq!(
        (status.phase.as_str(), status.live.as_str()),
        ("idle", "blue")
    );
    assert!(stand.kernel.lock().windows.is_empty());
}

#[tokio::test]
async fn a_target_that_is_down_is_refused_unless_forced() {
    let stand = Stand::new(&probed());
    let failure = stand.flip().await.expect_err("nobody listens there");
    assert_eq!(failure.exit, Exit::Unhealthy);
    assert_eq!(failure.tried, "flip shop");
    assert!(
        failure.blockers[0].starts_with("web 127.0.0.1:2: "),
        "{failure}"
    );
    let forced = ChangeRequest {
        force: true,
        ..ChangeRequest::default()
    };
    let answer = stand.order(Verb::Flip, forced).await.expect("is forced");
    assert!(answer.forced);
}

#[tokio::test]
async fn a_dry_run_says_all_and_does_nothing() {
    let stand = Stand::new(&routed());
    let word = stand.kernel.word();
    let dry = ChangeRequest {
        dry_run: true,
        ..ChangeRequest::default()
    };
    let answer = stand
        .order(Verb::Flip, dry.clone())
        .await
        .expect("would work");
    assert!(answer.dry_run && answer.id.is_none());
    assert_eq!((answer.to.as_str(), answer.revision), ("green", 1));
    let all = answer.steps.join("\n");
    for part in [
        "record the intent",
        "healthy",
        "wait 50ms",
        "new flows go to slot 1",
        "20s",
    ] {
        assert!(all.contains(part), "{part} in:\n{all}");
    }
    let refused = ChangeRequest {
        to: Some("red".into()),
        ..dry
    };
    let failure = stand
        .order(Verb::Flip, refused)
        .await
        .expect_err("would not");
    assert_eq!(failure.exit, Exit::NotFound);
    assert_eq!(
        (stand.kernel.word(), stand.status().await.revision),
        (word, 0)
    );
}

#[tokio::test]
async fn a_hard_rollback_moves_everything_at_once() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    stand.kernel.set_flows(&[(stand.kernel.endpoint(8001), 12)]);
    stand.flip().await.expect("flips");
    let hard = ChangeRequest {
        hard: true,
        ..ChangeRequest::default()
    };
    let answer = stand.order(Verb::Rollback, hard).await.expect("rolls back");
    assert_eq!((answer.to.as_str(), answer.revision), ("blue", 2));
    let (word, floor) = (
        stand.kernel.word(),
        stand.kernel.lock().udp_floors.get(&0).copied(),
    );
    assert_eq!((word.phase(), floor), (Phase::Steady, Some(word.epoch())));
    let history = stand
        .agent
        .ask(|runner| runner.history(Some("shop"), 10))
        .await;
    let results = history
        .expect("answers")
        .expect("reads")
        .into_iter()
        .map(|it| it.result);
    let expected = [Some(End::Succeeded), Some(End::RolledBack)];
    assert_eq!(results.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let text = config(&[8001], &[8002]);
    let stand = Stand::new(&text);
    let blue = stand.kernel.endpoint(8001);
    stand.kernel.set_flows(&[(blue, 1)]);
    let id = stand.flip().await.expect("flips").id;
    let stand = stand.restart(&text);
    let status = stand.status().await;
    assert_eq!((status.live.as_str(), status.revision), ("green", 1));
    assert_eq!(
        (status.phase.as_str(), status.by.as_str()),
        ("draining", "tester")
    );
    assert_eq!(status.cutover.map(|it| Some(it.id)), Some(id));
    stand.kernel.set_flows(&[]);
    stand.phase("idle").await;
}

#[tokio::test]
async fn after_a_boot_the_record_is_the_truth() {
    let text = config(&[8001], &[8002]);
    let stand = Stand::new(&text);
    stand.flip().await.expect("flips");
    let (_gone, directory) = stand.stop();
    let stand = Stand::with(Kernel::default(), directory, &text);
    let status = stand.status().await;
    assert_eq!(
        (status.live.as_str(), status.previous.as_deref()),
        ("green", Some("blue"))
    );
    assert_eq!((status.phase.as_str(), status.revision), ("idle", 1));
}

#[tokio::test]
async fn a_lost_record_leaves_the_kernel_in_charge() {
    let text = config(&[8001], &[8002]);
    let stand = Stand::new(&text);
    stand.flip().await.expect("flips");
    let (kernel, _gone) = stand.stop();
    let stand = Stand::with(
        kernel,
        tempfile::TempDir::new().expect("a directory"),
        &text,
    );
    assert_eq!(stand.status().await.live, "green");
}

#[tokio::test]
async fn a_switch_behind_the_agents_back_is_adopted() {
    let text = config(&[8001], &[8002]);
    let stand = Stand::new(&text);
    let (kernel, directory) = stand.stop();
    kernel.store(kernel.word().force(1));
    let stand = Stand::with(kernel, directory, &text);
    let status = stand.status().await;
    assert_eq!((status.live.as_str(), status.revision), ("green", 1));

    stand.kernel.store(stand.kernel.word().switch_to(0));
    stand
        .agent
        .ask(crate::agent::Runner::look)
        .await
        .expect("looks");
    let status = stand.status().await;
    assert_eq!(
        (status.live.as_str(), status.phase.as_str()),
        ("blue", "draining")
    );
    let history = stand.agent.ask(|runner| runner.history(None, 10)).await;
    let kinds = history
        .expect("answers")
        .expect("reads")
        .into_iter()
        .map(|it| it.kind);
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        [Kind::Emergency, Kind::Emergency]
    );
}

#[tokio::test]
async fn new_endpoints_of_the_live_colour_come_by_a_window() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let old = stand.kernel.endpoint(8001);
    stand.kernel.set_flows(&[(old, 4)]);
    let text = config(&[8003], &[8002]);
    let answer = apply(&stand, &text).await.expect("applies");
    assert!(
        answer.applied && answer.unfinished == ["shop"],
        "{answer:?}"
    );
    let status = stand.status().await;
    assert_eq!((status.live.as_str(), status.revision), ("blue", 0));
    assert_eq!(status.cutover.map(|it| it.kind), Some(Kind::Update));
    assert_eq!(
        status.window.and_then(|window| window.flows_on_old),
        Some(4)
    );
    assert_eq!(status.colours["blue"].endpoints[0].address, "10.0.0.1:8003");

    stand.kernel.set_flows(&[(stand.kernel.endpoint(8003), 9)]);
    stand.phase("idle").await;
    stand
        .agent
        .ask(crate::agent::Runner::look)
        .await
        .expect("looks");
    let left = stand.kernel.lock().state().endpoints.contains_key(&old);
    assert!(!left, "what was replaced is freed");
    let again = apply(&stand, &text).await.expect("applies");
    assert_eq!(again.changes, [""; 0]);
}

#[tokio::test]
async fn a_configuration_waits_for_a_window() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    stand.kernel.set_flows(&[(stand.kernel.endpoint(8001), 4)]);
    stand.flip().await.expect("flips");
    let failure = apply(&stand, &config(&[8001], &[8004]))
        .await
        .expect_err("the window is open");
    assert_eq!(failure.exit, Exit::Precondition);

    // A restarted agent serves what is there, and catches up.
    let stand = stand.restart(&config(&[8001], &[8004]));
    assert_eq!(stand.status().await.live, "green");
    let pending = async || {
        let status = stand.agent.ask(|runner| runner.status(None)).await;
        status.expect("answers").expect("says").agent.pending
    };
    assert!(pending().await.is_some());
    stand.kernel.set_flows(&[]);
    stand.phase("idle").await;
    stand
        .agent
        .ask(crate::agent::Runner::look)
        .await
        .expect("looks");
    assert_eq!(pending().await, None);
    assert_eq!(
        stand.status().await.colours["green"].endpoints[0].address,
        "10.0.0.1:8004"
    );
}

#[tokio::test]
async fn what_cannot_be_applied_is_said() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let failure = apply(&stand, "[agent]\nnonsense = 1")
        .await
        .expect_err("is invalid");
    assert_eq!(failure.exit, Exit::Usage);
    assert!(!failure.blockers.is_empty());
    let other = config(&[8001], &[8002]).replace("eth0", "eth1");
    let failure = apply(&stand, &other).await.expect_err("needs a restart");
    assert!(failure.why.contains("agent.interfaces"), "{failure}");
}

#[tokio::test]
async fn a_full_disk_blocks_flips_and_not_rollbacks() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    stand.flip().await.expect("flips");
    stand
        .agent
        .ask(|runner| runner.journal.fill())
        .await
        .expect("fills");
    let failure = stand.flip().await.expect_err("can't be recorded");
    assert!(failure.why.contains("record"), "{failure}");
    assert_eq!(stand.status().await.live, "green");
    let back = stand
        .order(Verb::Rollback, ChangeRequest::default())
        .await
        .expect("goes back");
    assert_eq!(back.to, "blue");
    assert_eq!(stand.kernel.word().current(), 0);
}

#[tokio::test]
async fn what_the_kernel_shows_counts_and_not_what_was_stored() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let other = stand.kernel.word();
    stand.kernel.store_after(other);
    let failure = stand.flip().await.expect_err("blue is live");
    assert_eq!(failure.exit, Exit::RolledBack, "{failure}");
    let status = stand.status().await;
    assert_eq!((status.live.as_str(), stand.kernel.word()), ("blue", other));
    stand.phase("idle").await;
    let history = stand
        .agent
        .ask(|runner| runner.history(Some("shop"), 9))
        .await;
    let history = history.expect("answers").expect("reads");
    let told: Vec<_> = history.iter().map(|it| (it.kind, it.result)).collect();
    let expected = [
        (Kind::Emergency, Some(End::Succeeded)),
        (Kind::Flip, Some(End::RolledBack)),
    ];
    assert_eq!(told, expected);
    stand.flip().await.expect("flips");
    assert_eq!(stand.status().await.live, "green");
}
