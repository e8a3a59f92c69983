mod begun;

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::hooks::{Occasion, Outcome};
use crate::release::{Cutover, End, Kind, Release, Releases, SchemaRange, Terms};

#[test]
fn an_intent_becomes_a_result() {
    let (_directory, journal) = journal();
    let mut record = record("a", "shop", 0);
    let open = || journal.open_cutovers("shop").expect("reads");
    journal.put_cutover(&record, None).expect("records");
    assert_eq!(open(), [record.clone()]);
    assert!(!open()[0].intent().switched);

    record.stage = Stage::Draining;
    record.result = Some(End::Switched);
    record.revision = Some(7);
    (record.stored, record.settled) = (Some(at(1)), Some(at(2)));
    record.store_to_settled_us = Some(4200);
    journal
        .put_cutover(&record, Some(&group()))
        .expect("records");
    assert_eq!(journal.group("shop").expect("reads"), Some(group()));
    assert_eq!(open(), [record.clone()]);
    assert!(open()[0].intent().switched);

    record.stage = Stage::Ended;
    record.result = Some(End::Succeeded);
    record.ended = Some(at(9));
    record.leftovers = 3;
    journal.put_cutover(&record, None).expect("records");
    assert_eq!(open(), []);
    assert_eq!(journal.cutover("a").expect("reads"), Some(record));
    assert_eq!(journal.cutover("b").expect("reads"), None);
}

#[test]
fn another_configuration_counts() {
    let (_directory, journal) = journal();
    let count = |digest, source| journal.count_config(digest, source).expect("counts");
    let source = || journal.config_source().expect("reads");
    assert_eq!([count("a", None), count("a", None)], [1, 1]);
    assert_eq!(
        (count("b", Some("4e1f")), source()),
        (2, Some("4e1f".into()))
    );
    assert_eq!((count("b", None), source()), (2, Some("4e1f".into())));
    assert_eq!((count("b", Some("5a")), source()), (2, Some("5a".into())));
    assert_eq!((count("a", None), source()), (3, None));
    assert_eq!(journal.config_revision().expect("reads"), 3);
}

#[test]
fn it_survives_being_closed() {
    let (directory, journal) = journal();
    let seed = journal.seed().expect("draws");
    journal.put_group(&group(), None).expect("records");
    drop(journal);
    let journal = Journal::open(directory.path()).expect("opens again");
    assert_eq!(journal.seed().expect("reads"), seed);
    assert_eq!(journal.group("shop").expect("reads"), Some(group()));
    assert_eq!(journal.group("other").expect("reads"), None);
}

#[test]
fn history_is_the_newest_first() {
    let (_directory, journal) = journal();
    for (id, group, second) in [("a", "shop", 1), ("b", "blog", 2), ("c", "shop", 3)] {
        journal
            .put_cutover(&record(id, group, second), None)
            .expect("records");
    }
    let ids = |group, limit| {
        let history = journal.history(group, limit).expect("reads");
        history
            .into_iter()
            .map(|record| record.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(None, 10), ["c", "b", "a"]);
    assert_eq!(ids(Some("shop"), 10), ["c", "a"]);
    assert_eq!(ids(None, 1), ["c"]);
    // The clock was set back.
    journal
        .put_cutover(&record("d", "shop", -1000), None)
        .expect("records");
    assert_eq!(ids(Some("shop"), 10), ["d", "c", "a"]);
}

#[test]
fn ids_sort_by_time() {
    let (_directory, journal) = journal();
    let id = journal.fresh_id("2026-11-20T20:33:12Z".parse().expect("a time"));
    assert!(id.starts_with("20261120-203312-") && id.len() == 20, "{id}");
}

#[test]
fn switches_of_live_are_counted_and_nothing_else() {
    let (_directory, journal) = journal();
    let put = |id: &str, second, edit: fn(&mut CutoverRecord)| {
        let mut record = record(id, "shop", second);
        (record.stored, record.revision) = (Some(at(second + 1)), Some(1));
        edit(&mut record);
        journal.put_cutover(&record, None).expect("records");
    };
    put("early", 0, |_| ());
    put("flip", 10, |_| ());
    put("stopped", 20, |it| (it.stored, it.revision) = (None, None));
    put("canary", 30, |it| it.kind = Kind::Canary);
    put("update", 40, |it| it.kind = Kind::Update);
    put("back", 50, |it| it.kind = Kind::Rollback);
    put("found", 60, |it| {
        (it.kind, it.stored) = (Kind::Emergency, None);
    });
    put("before the clock was set back", 9000, |_| ());
    let switches = |group| journal.switches(group, at(5), at(70)).expect("reads");
    assert_eq!(switches("shop"), [at(11), at(51), at(60)]);
    assert_eq!(switches("other"), []);
}

#[test]
fn an_answer_is_given_once() {
    let (_directory, journal) = journal();
    let keyed = |answer: Option<&str>| Keyed {
        request: "flip".into(),
        cutover: Some("c".into()),
        answer: answer.map(|body| (200, body.to_owned())),
    };
    let answer = |body| keyed(Some(body));
    journal.remember("k", &keyed(None), at(0)).expect("records");
    assert_eq!(journal.keyed("k").expect("reads"), Some(keyed(None)));
    journal.remember("k", &answer("1"), at(0)).expect("records");
    journal.remember("k", &answer("2"), at(1)).expect("ignores");
    assert_eq!(journal.keyed("k").expect("reads"), Some(answer("1")));
    journal
        .remember("l", &answer("3"), at(8 * 24 * 3600))
        .expect("records");
    assert_eq!(journal.keyed("k").expect("reads"), None, "a week is enough");
}

#[test]
fn names_of_cut_overs_are_nobodys() {
    let (directory, journal) = journal();
    let mut names = std::collections::BTreeSet::new();
    // One second, a later and an earlier one, and another agent after this.
    for second in [5, 5, 6, 4] {
        for _ in 0..100 {
            let name = journal.fresh_id(at(second));
            journal
                .put_cutover(&record(&name, "shop", second), None)
                .expect("records");
            assert!(names.insert(name));
        }
    }
    let other = Journal::open(directory.path()).expect("opens");
    for _ in 0..100 {
        assert!(names.insert(other.fresh_id(at(6))));
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let (directory, journal) = journal();
    let newer = schema::VERSION + 1;
    journal
        .db
        .read()
        .pragma_update(None, "user_version", newer)
        .expect("writes");
    drop(journal);
    let error = Journal::open(directory.path()).err().expect("is refused");
    let error = format!("{error:#}");
    assert!(
        error.contains("newer version") && error.contains(FILE),
        "{error}"
    );
}

#[test]
fn a_file_of_the_first_version_is_extended() {
    let (directory, journal) = journal();
    let back = "ALTER TABLE cutovers DROP COLUMN percent;
        ALTER TABLE cutovers DROP COLUMN at;
        ALTER TABLE cutovers DROP COLUMN confirm_by;
        ALTER TABLE cutovers DROP COLUMN confirmed;
        ALTER TABLE cutovers DROP COLUMN receipt;
        ALTER TABLE cutovers DROP COLUMN hooks;
        ALTER TABLE groups DROP COLUMN schema;
        ALTER TABLE groups DROP COLUMN gates;
        ALTER TABLE answers DROP COLUMN cutover;
        DROP TABLE releases;
        DROP TABLE hooks; DROP TABLE outbox; DROP TABLE audit; PRAGMA user_version = 1;";
    journal.db.read().execute_batch(back).expect("is as it was");
    drop(journal);
    let journal = Journal::open(directory.path()).expect("opens");
    let canary = CutoverRecord {
        kind: Kind::Canary,
        percent: Some(5),
        ..record("a", "shop", 0)
    };
    journal.put_cutover(&canary, None).expect("records");
    assert_eq!(journal.cutover("a").expect("reads"), Some(canary));
}

#[test]
fn a_removed_file_is_written_again_and_another_one_left_alone() {
    let (directory, mut journal) = journal();
    assert!(!journal.restore().expect("it is there"));
    journal
        .put_cutover(&record("a", "shop", 0), None)
        .expect("records");
    std::fs::remove_dir_all(directory.path()).expect("is removed");
    assert!(journal.restore().expect("it can be written"));
    journal
        .put_cutover(&record("b", "shop", 1), None)
        .expect("records");
    let again = Journal::open(directory.path()).expect("opens");
    for id in ["a", "b"] {
        assert!(again.cutover(id).expect("reads").is_some(), "{id}");
    }
    let file = directory.path().join(FILE);
    std::fs::remove_file(&file).expect("is removed");
    std::fs::write(&file, "somebody's").expect("is replaced");
    let error = journal.restore().expect_err("it is another's").to_string();
    assert!(error.contains("start the agent anew"), "{error}");
    assert_eq!(std::fs::read(&file).expect("reads"), b"somebody's");
}

#[test]
fn a_damaged_file_is_named() {
    let directory = TempDir::new().expect("a directory");
    std::fs::write(
        directory.path().join(FILE),
        "not a database, but long enough to be read",
    )
    .expect("writes");
    let error = Journal::open(directory.path()).err().expect("is refused");
    let error = format!("{error:#}");
    assert!(
        error.contains("move it away") && error.contains(FILE),
        "{error}"
    );
}

#[test]
fn a_full_disk_is_an_error_that_passes() {
    let (_directory, journal) = journal();
    let pages: u32 = journal
        .db
        .read()
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .expect("reads");
    journal
        .db
        .read()
        .pragma_update(None, "max_page_count", pages)
        .expect("sets");
    let mut long = record("a", "shop", 0);
    long.reason = Some("x".repeat(100_000));
    assert!(journal.put_cutover(&long, None).is_err());
    journal
        .db
        .read()
        .pragma_update(None, "max_page_count", 1 << 20)
        .expect("sets");
    journal
        .put_cutover(&long, None)
        .expect("there is room again");
}

fn journal() -> (TempDir, Journal) {
    let directory = TempDir::new().expect("a directory");
    let journal = Journal::open(directory.path()).expect("opens");
    (directory, journal)
}

/// An event of a group.
fn event(number: u32) -> Outgoing {
    Outgoing {
        hook: "ci".into(),
        occasion: Occasion {
            id: format!("c{number}/switched"),
            group: "shop".into(),
            ..Occasion::default()
        },
    }
}

#[test]
fn events_wait_in_order_until_they_are_taken_and_not_without_bound() {
    let (directory, journal) = journal();
    let flip = record("c1", "shop", 0);
    journal
        .tell_cutover(&flip, None, &[event(1), event(2), event(1)])
        .expect("writes");
    drop(journal);
    let journal = Journal::open(directory.path()).expect("opens");
    let next = || journal.next_out("shop", "ci").expect("reads");
    let first = next().expect("waits");
    assert_eq!(first.occasion.id, "c1/switched", "once, though told twice");
    assert_eq!(next().as_ref(), Some(&first), "until it is taken");
    journal.sent(first.number).expect("writes");
    let second = next().expect("waits");
    assert_eq!(second.occasion.id, "c2/switched");
    assert_eq!(journal.next_out("shop", "other").expect("reads"), None);

    let many: Vec<Outgoing> = (3..OUTBOX_MAX + 5).map(event).collect();
    journal.tell_cutover(&flip, None, &many).expect("writes");
    let (count, _) = journal.waiting_out("shop", "ci").expect("reads");
    assert_eq!(count, u64::from(OUTBOX_MAX));
    assert_eq!(
        next().expect("waits").occasion.id,
        "c5/switched",
        "the oldest go"
    );
    journal.keep_outboxes(&[("shop", "ci")]).expect("writes");
    assert!(next().is_some());
    journal.keep_outboxes(&[("shop", "mail")]).expect("writes");
    assert_eq!(next(), None, "nobody waits for them");
}

#[test]
fn calls_are_recorded_before_and_after() {
    let (directory, journal) = journal();
    let occasion = Occasion {
        group: "shop".into(),
        cutover: Some("c1".into()),
        ..event(1).occasion
    };
    let hooks = [("smoke", true), ("mail", false)];
    let numbers = journal
        .calling("pre-flip", &occasion, &hooks)
        .expect("writes");
    let outcome = Outcome {
        passed: false,
        why: "exit code 3".into(),
        said: "no".into(),
        attempts: 2,
    };
    journal
        .called(numbers[0], Called::Failed, &outcome, &[])
        .expect("writes");
    journal
        .called(numbers[0], Called::Stopped, &Outcome::default(), &[])
        .expect("writes");
    drop(journal);
    let journal = Journal::open(directory.path()).expect("opens");
    let [smoke, mail] = &journal.hooks("c1").expect("reads")[..] else {
        panic!("two were called");
    };
    assert_eq!(
        (smoke.name.as_str(), smoke.moment.as_str()),
        ("smoke", "pre-flip")
    );
    assert_eq!(
        (smoke.outcome, smoke.attempts),
        (Some(Called::Failed), 2),
        "the first counts"
    );
    let said = (smoke.why.as_deref(), smoke.said.as_deref());
    assert_eq!(said, (Some("exit code 3"), Some("no")));
    assert!(smoke.ended.is_some() && smoke.abort && !mail.abort);
    assert_eq!((mail.outcome, mail.ended), (None, None));
    let unfinished = journal.unfinished_calls("shop").expect("reads");
    assert_eq!(unfinished.len(), 1);
    assert_eq!(
        (&unfinished[0].name[..], &unfinished[0].occasion),
        ("mail", &occasion)
    );
    let other = journal.unfinished_calls("other").expect("reads");
    assert!(other.is_empty());
}

fn record(id: &str, group: &str, second: i64) -> CutoverRecord {
    let cutover = Cutover {
        terms: Terms::default(),
        id: id.into(),
        kind: Kind::Flip,
        from: "blue".into(),
        to: "green".into(),
        slot: 1,
        forced: false,
        hard: false,
        percent: None,
    };
    let who = Who {
        actor: "root".into(),
        reason: Some("v42".into()),
    };
    CutoverRecord::new(group, &cutover, who, at(second))
}

fn group() -> GroupRecord {
    GroupRecord {
        name: "shop".into(),
        live: "green".into(),
        previous: Some("blue".into()),
        revision: 7,
        epoch: 3,
        since: at(2),
        by: "root".into(),
        releases: Releases {
            colours: BTreeMap::from([
                (
                    "blue".into(),
                    Release {
                        served: true,
                        ..Release::default()
                    },
                ),
                (
                    "green".into(),
                    Release {
                        version: Some("v42".into()),
                        schema: Some(SchemaRange { min: 12, max: 14 }),
                        staged: true,
                        served: false,
                    },
                ),
            ]),
            applied: Some(13),
        },
        gates: GatesRecord {
            frozen: Some(FreezeRecord {
                reason: "audit".into(),
                by: "root".into(),
                until: Some(at(3)),
            }),
            decisions: BTreeMap::from([(
                "qa".into(),
                DecisionRecord {
                    open: true,
                    by: "anna".into(),
                    until: None,
                },
            )]),
            declined: ["green".into()].into(),
            rollout: Some(RolloutRecord {
                colour: "green".into(),
                since: at(4),
            }),
            paused: Some(at(5)),
        },
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("a time")
}
