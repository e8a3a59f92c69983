//! Who did what is recorded with what came of it.

use super::*;
use crate::agent::{Asked, Verb};
use crate::api::model::ChangeRequest;
use crate::journal::{AuditRecord, EntryKind, FILE, verify};

#[tokio::test]
async fn orders_refusals_and_what_happens_by_itself_are_recorded() {
    let text = config(&[8001], &[8002]);
    let stand = Stand::new(&text);
    stand.flip().await.expect("flips");
    stand.phase("idle").await;
    let dry = ChangeRequest {
        dry_run: true,
        ..ChangeRequest::default()
    };
    stand.order(Verb::Rollback, dry).await.expect("would");
    let stale = ChangeRequest {
        if_revision: Some(7),
        ..ChangeRequest::default()
    };
    stand
        .order(Verb::Rollback, stale)
        .await
        .expect_err("is stale");
    let freeze = Asked {
        group: "shop".into(),
        verb: Verb::Freeze,
        request: ChangeRequest::default(),
        who: Who {
            actor: "anna".into(),
            reason: Some("audit".into()),
        },
    };
    let frozen = stand.agent.ask(move |runner| runner.note(&freeze)).await;
    frozen.expect("answers").expect("freezes");
    stand.flip().await.expect_err("is frozen");
    let stand = stand.restart(&text);
    // Somebody switches without the agent, and the agent finds it.
    let word = stand.kernel.word();
    stand.kernel.store(word.force(0));
    stand
        .agent
        .ask(crate::agent::Runner::look)
        .await
        .expect("looks");
    stand.phase("idle").await;

    let records = audited(&stand).await;
    let said: Vec<(&str, &str, Option<u8>)> = records
        .iter()
        .map(|it| (&*it.entry.actor, &*it.entry.what, it.entry.exit))
        .collect();
    let expected = [
        ("tester", "flip blue -> green: preparing", None),
        ("tester", "flip blue -> green: switched", None),
        ("tester", "flip shop", Some(0)),
        ("tester", "flip blue -> green: blue has drained", None),
        ("tester", "flip blue -> green: succeeded", None),
        ("tester", "roll back shop", Some(4)),
        ("anna", "freeze shop", Some(0)),
        ("tester", "flip shop", Some(5)),
        (
            "somebody, without the agent",
            "emergency green -> blue: switched",
            None,
        ),
        (
            "somebody, without the agent",
            "emergency green -> blue: green has drained",
            None,
        ),
        (
            "somebody, without the agent",
            "emergency green -> blue: succeeded",
            None,
        ),
    ];
    assert_eq!(said, expected);
    let flip = &records[2].entry;
    assert_eq!(flip.reason.as_deref(), Some("test"));
    assert_eq!(flip.detail["old"]["live"], "blue");
    assert_eq!(flip.detail["new"]["live"], "green");
    assert_eq!(flip.cutover, records[0].entry.cutover);
    assert_eq!(records[0].entry.kind, EntryKind::CutOver);
    let refused = records[5].entry.why.as_deref().expect("says why");
    assert!(refused.contains("the revision is 1, not 7"), "{refused}");
    let frozen = &records[6].entry.detail;
    assert!(frozen["old"]["gates"]["frozen"].is_null());
    assert_eq!(frozen["new"]["gates"]["frozen"]["reason"], "audit");
    let verified = verify(&stand.directory.path().join(FILE)).expect("reads");
    assert_eq!((verified.records, verified.bad), (11, None));
}

#[tokio::test]
async fn without_room_for_a_record_rollback_works_and_the_chain_holds() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    stand.flip().await.expect("flips");
    stand.phase("idle").await;
    let before = audited(&stand).await;
    let full = stand.agent.ask(|runner| runner.journal.fill()).await;
    full.expect("is full");
    stand
        .order(Verb::Rollback, ChangeRequest::default())
        .await
        .expect("works");
    assert_eq!(stand.status().await.live, "blue");
    assert_eq!(audited(&stand).await, before);
    let stand = stand.restart(&config(&[8001], &[8002]));
    stand.phase("idle").await;
    assert!(
        audited(&stand).await.len() > before.len(),
        "what it missed is found"
    );
    let verified = verify(&stand.directory.path().join(FILE)).expect("reads");
    assert_eq!(verified.bad, None);
}

/// The oldest first.
async fn audited(stand: &Stand) -> Vec<AuditRecord> {
    let records = stand.agent.ask(|runner| runner.audited(None, 1000)).await;
    let mut records = records.expect("answers").expect("reads");
    records.reverse();
    records
}
