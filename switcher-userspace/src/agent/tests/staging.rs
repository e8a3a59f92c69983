//! What is said of colours is recorded, and outlives the agent and the host.

use super::stand::Kernel;
use super::*;
use crate::agent::{Asked, Verb};
use crate::api::model::{ChangeRequest, NoteAnswer};
use crate::exit::Exit;

#[tokio::test]
async fn three_colours_cycle_and_the_preview_follows() {
    let stand = Stand::new(&three());
    assert_eq!(previewed(&stand.kernel), 8002, "the next one");
    let staged = note(&stand, stage(Some("red"), "v2")).await.expect("takes");
    assert_eq!(
        (staged.colour.as_deref(), staged.role.as_deref()),
        (Some("red"), Some("staging"))
    );
    assert_eq!(previewed(&stand.kernel), 8003);
    let flip = stand.flip().await.expect("flips to what was staged");
    assert_eq!(flip.to, "red");
    stand.phase("idle").await;
    note(&stand, stage(Some("green"), "v3"))
        .await
        .expect("takes");
    stand.flip().await.expect("flips");
    let status = stand.phase("idle").await;
    let roles = ["blue", "green", "red"].map(|it| status.colours[it].role.as_str());
    assert_eq!(roles, ["retired", "live", "previous"]);
    assert_eq!(status.colours["red"].version.as_deref(), Some("v2"));
    assert_eq!(
        previewed(&stand.kernel),
        8003,
        "nothing waits: what was live before"
    );

    let staged = note(&stand, stage(None, "v4"))
        .await
        .expect("the retired one");
    assert_eq!(staged.colour.as_deref(), Some("blue"));
    let stand = stand.restart(&three());
    assert_eq!(stand.status().await.colours["blue"].role, "staging");
    assert_eq!(previewed(&stand.kernel), 8001);

    // The host was started again: nothing is left in its kernel.
    let (_old, directory) = stand.stop();
    let stand = Stand::with(Kernel::default(), directory, &three());
    let status = stand.status().await;
    assert_eq!(status.live, "green");
    assert_eq!(status.colours["blue"].role, "staging");
    assert_eq!(previewed(&stand.kernel), 8001, "what waits is previewed");
}

#[tokio::test]
async fn a_release_over_the_previous_one_gives_up_the_rollback() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    note(&stand, stage(None, "v2")).await.expect("takes");
    stand.flip().await.expect("flips");
    stand.phase("idle").await;
    assert!(stand.status().await.rollback.eligible);
    let dry = ChangeRequest {
        dry_run: true,
        ..stage(None, "v3")
    };
    let foreseen = note(&stand, dry).await.expect("would");
    assert!(foreseen.dry_run && foreseen.previous.is_none());
    assert!(stand.status().await.rollback.eligible, "nothing was done");

    let taken = note(&stand, stage(None, "v3")).await.expect("takes");
    assert_eq!(taken.warnings, ["there is no rollback to blue any more"]);
    let stand = stand.restart(&config(&[8001], &[8002]));
    let status = stand.status().await;
    assert_eq!((status.previous, status.rollback.eligible), (None, false));
    let why = "v3 has been put on blue, which was live before";
    assert_eq!(status.rollback.blockers, [why]);
    let refused = stand.order(Verb::Rollback, ChangeRequest::default()).await;
    let refused = refused.expect_err("is gone");
    assert_eq!((refused.exit, refused.why.as_str()), (Exit::Refused, why));
}

#[tokio::test]
async fn the_schema_is_kept_and_held_against_a_rollback() {
    let stand = Stand::new(&config(&[8001], &[8002]));
    let with = |to: &str, version: &str, range: &str| ChangeRequest {
        schema: Some(range.into()),
        ..stage(Some(to), version)
    };
    note(&stand, with("blue", "v1", "12..13"))
        .await
        .expect("takes");
    note(&stand, with("green", "v2", "13..14"))
        .await
        .expect("takes");
    note(&stand, applied(13, false)).await.expect("expands");
    stand.flip().await.expect("flips");
    stand.phase("idle").await;
    let refused = note(&stand, applied(14, false)).await.expect_err("closes");
    assert_eq!(refused.exit, Exit::Refused);
    assert!(refused.advice.contains("--close-rollback"), "{refused}");
    note(&stand, applied(14, true)).await.expect("is meant");

    let stand = stand.restart(&config(&[8001], &[8002]));
    let status = stand.status().await;
    assert_eq!(status.schema, Some(14));
    let misfit = "blue (v1) can live with schema 12..13, and 14 is applied";
    assert_eq!(status.rollback.blockers, [misfit]);
    let refused = stand.order(Verb::Rollback, ChangeRequest::default()).await;
    assert_eq!(refused.expect_err("is closed").why, misfit);
    let odd = note(&stand, with("blue", "v1", "14..13"))
        .await
        .expect_err("no range");
    assert_eq!(odd.exit, Exit::Usage);
    let empty = note(&stand, stage(None, " ")).await.expect_err("no name");
    assert_eq!(empty.exit, Exit::Usage);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_so() {
    let stand = Stand::new(&three());
    let full = stand.agent.ask(|runner| runner.journal.fill()).await;
    full.expect("is full");
    let refused = note(&stand, stage(Some("red"), "v2")).await;
    assert_eq!(refused.expect_err("no room").exit, Exit::Unexpected);
    assert_eq!(previewed(&stand.kernel), 8002);
    assert_eq!(stand.status().await.colours["red"].version, None);
}

fn three() -> String {
    config(&[8001], &[8002]) + "red = [\"10.0.0.1:8003\"]\n"
}

fn stage(to: Option<&str>, version: &str) -> ChangeRequest {
    ChangeRequest {
        to: to.map(Into::into),
        version: Some(version.into()),
        ..ChangeRequest::default()
    }
}

fn applied(applied: u64, close_rollback: bool) -> ChangeRequest {
    ChangeRequest {
        applied: Some(applied),
        close_rollback,
        ..ChangeRequest::default()
    }
}

async fn note(stand: &Stand, request: ChangeRequest) -> Result<NoteAnswer, Failure> {
    let verb = match request.applied {
        Some(_) => Verb::Schema,
        None => Verb::Stage,
    };
    let asked = Asked {
        group: "shop".into(),
        verb,
        request,
        who: Who::default(),
    };
    stand.agent.ask(move |runner| runner.note(&asked)).await?
}

/// The port of the endpoint that previews lead to.
fn previewed(kernel: &Kernel) -> u16 {
    let memory = kernel.lock();
    let have = memory.state();
    let slot = have.groups[&0].word.staging() as usize;
    let table = have.services[&0].service.tables[slot].0;
    let id = have.tables[&table][0];
    have.endpoints[&id].port.number()
}
