//! Intents: what of them is committed when.

use super::*;

#[test]
fn an_intent_is_audited_with_the_next_commit_as_of_when_it_began() {
    let (_directory, journal) = journal();
    let begun = record("a", "shop", 0);
    journal.begin_cutover(&begun, None, &[]).expect("records");
    let kept = || {
        let audit = audit::list(journal.db.read(), None, 9).expect("reads");
        audit.into_iter().map(|it| (it.entry.what, it.at)).collect()
    };
    let audit: Vec<(String, Timestamp)> = kept();
    assert_eq!(audit, [], "a store waits for none of it");
    let after = Timestamp::now();
    std::thread::sleep(std::time::Duration::from_millis(1));
    let switched = CutoverRecord {
        result: Some(End::Switched),
        ..begun
    };
    journal.put_cutover(&switched, None).expect("records");
    let (said, times): (Vec<_>, Vec<_>) = kept().into_iter().unzip();
    assert_eq!(
        said,
        [
            "flip blue -> green: switched",
            "flip blue -> green: preparing"
        ]
    );
    assert!(times[1] <= after && after < times[0], "{times:?}");
    journal
        .begin_cutover(&record("b", "shop", 1), None, &[])
        .expect("records");
    let asked = journal.audited(None, 9).expect("reads");
    assert_eq!(asked.len(), 3, "who asks, hears of all");
    let verified = verify(&journal.file()).expect("reads");
    assert_eq!((verified.records, verified.bad), (3, None));
}

#[test]
fn an_intent_that_a_dead_agent_has_not_audited_is_audited_by_the_next() {
    let (directory, dead) = journal();
    let known = record("a", "shop", 0);
    dead.begin_cutover(&known, None, &[]).expect("records");
    dead.audit_what_waits().expect("writes");
    let begun = record("b", "shop", 1);
    dead.begin_cutover(&begun, None, &[]).expect("records");
    drop(dead);
    for turn in ["the next one", "the one after it"] {
        let next = Journal::open(directory.path()).expect("opens");
        let intents = next.open_cutovers("shop").expect("reads");
        assert_eq!(intents, [known.clone(), begun.clone()], "{turn}");
        let audit = next.audited(None, 9).expect("reads");
        let said = audit.iter().map(|it| it.entry.cutover.as_deref());
        assert_eq!(said.collect::<Vec<_>>(), [Some("b"), Some("a")], "{turn}");
    }
}

#[test]
fn what_is_committed_is_on_the_disk_and_what_is_handed_over_is_the_kernels() {
    let (_directory, journal) = journal();
    let flushed = |db: &Connection| db.query_row("PRAGMA synchronous", [], |row| row.get(0));
    for _ in 0..2 {
        assert_eq!(journal.db.hand_over(flushed), Ok(1), "NORMAL");
        assert_eq!(journal.db.commit(flushed), Ok(2), "FULL");
    }
}
