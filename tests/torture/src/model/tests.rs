use super::*;

const BLUE: Endpoints = Endpoints::one(0, 1);
const GREEN: Endpoints = Endpoints::one(1, 1);
const LONG: Duration = Duration::from_secs(1000);

fn s(seconds: f64) -> At {
    At::from_secs_f64(seconds)
}

fn blue() -> Model {
    Model::new(BLUE, LONG)
}

/// Blue, then a flip from 10 s to 11 s.
fn flipped() -> Model {
    let mut model = blue();
    model.begin(s(10.0), GREEN);
    model.routed(s(11.0), GREEN);
    model
}

fn flow(endpoint: Endpoints, begun: f64) -> Flow {
    Flow {
        endpoint,
        begun: s(begun),
        answered: s(begun),
        connected: true,
        heard: None,
    }
}

#[test]
fn a_stray_after_a_flip_is_a_broken_promise() {
    let model = flipped();
    assert_eq!(
        model.begins(s(11.001), s(11.002), BLUE),
        Err("an answer of green-1".to_owned())
    );
    assert_eq!(model.begins(s(11.001), s(11.002), GREEN), Ok(()));
}

#[test]
fn nobody_is_on_the_new_colour_before_the_flip() {
    assert!(flipped().begins(s(9.0), s(9.9), GREEN).is_err());
}

#[test]
fn during_a_flip_either_is_right() {
    let model = flipped();
    for endpoint in [BLUE, GREEN] {
        assert_eq!(model.begins(s(10.5), s(10.6), endpoint), Ok(()));
        assert_eq!(model.begins(s(9.9), s(12.0), endpoint), Ok(()));
    }
}

#[test]
fn a_refused_flip_changes_nothing() {
    let mut model = blue();
    model.begin(s(10.0), GREEN);
    model.refused(s(11.0));
    assert_eq!(model.begins(s(10.5), s(10.6), GREEN), Ok(()));
    assert!(model.begins(s(11.1), s(11.2), GREEN).is_err());
    assert_eq!(model.begins(s(11.1), s(11.2), BLUE), Ok(()));
}

#[test]
fn an_order_without_an_answer_leaves_both() {
    let mut model = blue();
    model.begin(s(10.0), GREEN);
    for endpoint in [BLUE, GREEN] {
        assert_eq!(model.begins(s(20.0), s(20.1), endpoint), Ok(()));
    }
    model.routed(s(30.0), BLUE);
    assert!(model.begins(s(30.1), s(30.2), GREEN).is_err());
}

#[test]
fn an_unconfirmed_flip_comes_back_at_its_time() {
    let mut model = flipped();
    model.later(s(15.0), s(16.0), BLUE);
    assert!(model.begins(s(14.0), s(14.5), BLUE).is_err());
    assert_eq!(model.begins(s(15.2), s(15.3), BLUE), Ok(()));
    assert_eq!(model.begins(s(15.2), s(15.3), GREEN), Ok(()));
    assert!(model.begins(s(16.1), s(16.2), GREEN).is_err());
}

#[test]
fn a_confirmed_flip_stays() {
    let mut model = flipped();
    model.later(s(15.0), s(16.0), BLUE);
    model.begin(s(13.0), Endpoints::NONE);
    model.routed(s(13.5), GREEN);
    assert!(model.begins(s(16.1), s(16.2), BLUE).is_err());
    assert_eq!(model.begins(s(16.1), s(16.2), GREEN), Ok(()));
}

#[test]
fn what_was_to_come_comes_though_an_order_was_refused() {
    let mut model = flipped();
    model.later(s(15.0), s(16.0), BLUE);
    model.begin(s(13.0), GREEN);
    model.refused(s(13.5));
    assert!(model.begins(s(13.6), s(13.7), BLUE).is_err());
    assert_eq!(model.begins(s(16.1), s(16.2), BLUE), Ok(()));
}

#[test]
fn nobody_new_is_let_in_while_paused() {
    let mut model = blue();
    model.begin(s(10.0), Endpoints::NONE);
    model.door_moves(s(10.0));
    model.held(s(10.1), s(12.0), s(12.1));
    assert_eq!(model.begins(s(10.0), s(10.05), BLUE), Ok(()));
    assert_eq!(
        model.begins(s(10.2), s(11.9), BLUE),
        Err("no answer before the pause is over".to_owned())
    );
    assert_eq!(model.begins(s(10.2), s(12.05), BLUE), Ok(()));
    assert_eq!(model.begins(s(12.2), s(12.3), BLUE), Ok(()));
}

#[test]
fn who_waited_for_a_pause_goes_to_who_is_live_at_its_end() {
    let mut model = blue();
    model.held(s(10.0), s(20.0), s(20.1));
    model.begin(s(12.0), GREEN);
    model.routed(s(13.0), GREEN);
    assert!(model.begins(s(10.5), s(20.2), BLUE).is_err());
    assert_eq!(model.begins(s(10.5), s(20.2), GREEN), Ok(()));
}

#[test]
fn connections_outlive_a_flip() {
    let model = flipped();
    assert!(!model.may_end(&flow(BLUE, 5.0), s(12.0)));
    assert!(!model.may_end(&flow(BLUE, 5.0), s(500.0)));
}

#[test]
fn a_hard_rollback_takes_one_colour_alone_and_all_of_it() {
    let mut model = flipped();
    model.begin(s(20.0), BLUE);
    model.takes(s(20.0), BLUE);
    model.routed(s(21.0), BLUE);
    model.took(s(21.0), BLUE);
    assert!(model.may_end(&flow(GREEN, 15.0), s(20.5)));
    assert!(!model.may_end(&flow(BLUE, 5.0), s(22.0)));
    assert!(!model.may_end(&flow(GREEN, 25.0), s(26.0)));
    assert!(model.goes_on(&flow(GREEN, 15.0), s(22.0)).is_err());
    assert_eq!(model.goes_on(&flow(BLUE, 15.0), s(22.0)), Ok(()));
    assert_eq!(model.goes_on(&flow(GREEN, 20.5), s(22.0)), Ok(()));
    // A pause has held it: there was nothing to be taken.
    let held = Flow {
        answered: s(23.0),
        ..flow(GREEN, 15.0)
    };
    assert_eq!(model.goes_on(&held, s(24.0)), Ok(()));
}

#[test]
fn nobody_is_turned_away_but_by_a_hard_rollback() {
    let mut model = flipped();
    assert!(!model.may_be_refused(s(10.5), s(10.6)));
    model.begin(s(20.0), BLUE);
    model.takes(s(20.0), BLUE);
    assert!(model.may_be_refused(s(19.9), s(20.1)));
    model.routed(s(21.0), BLUE);
    model.took(s(21.0), BLUE);
    assert!(!model.may_be_refused(s(21.1), s(21.2)));
}

#[test]
fn a_refused_hard_rollback_takes_nobody() {
    let mut model = flipped();
    model.begin(s(20.0), BLUE);
    model.takes(s(20.0), BLUE);
    model.refused(s(21.0));
    assert!(!model.may_end(&flow(GREEN, 15.0), s(20.5)));
}

#[test]
fn the_deadline_takes_who_is_left() {
    let mut model = Model::new(BLUE, s(10.0));
    model.begin(s(10.0), GREEN);
    model.routed(s(11.0), GREEN);
    assert!(!model.may_end(&flow(BLUE, 5.0), s(19.5)));
    assert!(model.may_end(&flow(BLUE, 5.0), s(20.0)));
    assert!(!model.may_end(&flow(GREEN, 100.0), s(120.0)));
}

#[test]
fn a_deadline_that_was_shortened_counts() {
    let mut model = Model::new(BLUE, LONG);
    model.begin(s(10.0), GREEN);
    model.deadline_moves(s(10.0), s(3.0));
    model.routed(s(11.0), GREEN);
    model.deadline_is(s(11.0), s(3.0));
    assert!(model.may_end(&flow(BLUE, 5.0), s(13.0)));
}

#[test]
fn who_is_silent_for_long_may_be_lost() {
    let mut model = blue().learning(Some(s(5.0)));
    model.begin(s(10.0), GREEN);
    let silent = Flow {
        heard: Some(s(9.0)),
        ..flow(BLUE, 5.0)
    };
    assert!(!model.may_end(&silent, s(13.0)));
    assert!(model.may_end(&silent, s(14.0)));
    assert!(!blue().may_end(&silent, s(14.0)));
}

#[test]
fn what_is_forgotten_is_not_needed() {
    let mut model = flipped();
    model.forget(s(10.5));
    assert!(model.begins(s(11.5), s(11.6), BLUE).is_err());
}
