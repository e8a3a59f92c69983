//! What is shown, and what keys do.

use std::time::Duration;

use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;

use super::screen::text;
use super::*;
use crate::api::model::{ChangeAnswer, Status};
use crate::exit::{Exit, Failure};
use crate::journal::CutoverRecord;

const STATUS: &str = include_str!("../command/status.json");

#[test]
fn a_frame_says_what_matters() {
    let expected = " switcher 0.1.0  eth0 native, eth1 native  up 1h 3m                20:03:00 UTC
! eth1: its traffic is not steered: somebody has taken the programs off
  GROUP  LIVE   PHASE      PACKETS/S  CONN/S  NEXT
> shop   green  draining         105       5  in 57m: drain deadline: 12 connec…

  shop, revision 12: green since 3m, by root (uid 0, pid 7 switcher)
  COLOUR            PACKETS/S                      CONNECTIONS/S
  green   live                                  █                              █
    v42                                         █                              █
    1/1 healthy                                 █                              █
    3 flows           100                       █      5                       █
  blue    previous

    0/1 healthy
    12 flows            5                       ▂      0

  next      in 57m: drain deadline: 12 connections left would be reset
  drain     draining: 12 flows left on old endpoints, flow map 1 % used
  failing   blue web 10.0.0.1:8001: connection refused
  rollback  to blue would not help: web 10.0.0.1:8001: connection refused

  WHEN        WHAT       FROM TO           RESULT       BY, WHY
  3m ago      flip       blue → green      switched     root: v42
 f flip  r rollback  c confirm  a abort  ↑↓ group  ? help  q quit
";
    let seen = shown(&top(), 80, 24);
    assert_eq!(seen, expected, "{seen}");
}

#[test]
fn any_size_has_its_keys_and_nothing_falls_over() {
    let mut top = top();
    for (width, height) in [
        (1, 1),
        (10, 2),
        (20, 5),
        (40, 10),
        (79, 23),
        (200, 60),
        (300, 8),
    ] {
        let frame = shown(&top, width, height);
        let lines: Vec<_> = frame.lines().collect();
        assert_eq!(lines.len(), usize::from(height), "{frame}");
        let last = lines.last().expect("has lines");
        let keys: String = " f flip  r rollback"
            .chars()
            .take(usize::from(width) - 1)
            .collect();
        assert!(
            last.starts_with(keys.trim_end()),
            "{width} x {height}: {frame}"
        );
        top.press(Key::Char('?'));
        shown(&top, width, height);
        top.press(Key::Escape);
    }
}

#[test]
fn colours_are_not_the_only_signal() {
    let (area, top) = (Rect::new(0, 0, 80, 24), top());
    let drawn = |colour| {
        let mut buffer = Buffer::empty(area);
        draw(&top, Look { colour }, now(), area, &mut buffer);
        buffer
    };
    let (plain, tinted) = (drawn(false), drawn(true));
    assert_eq!(text(&plain), text(&tinted));
    let has = |buffer: &Buffer, colour| buffer.content().iter().any(|it| it.fg == colour);
    assert!(has(&tinted, Color::LightBlue) && has(&tinted, Color::LightGreen));
    assert!(plain.content().iter().all(|it| it.fg == Color::Reset));
}

#[test]
fn a_flip_is_shown_before_it_is_made() {
    let mut top = top();
    let Some(Ask::Foresee(change)) = top.press(Key::Char('f')) else {
        panic!("nobody is asked");
    };
    assert_eq!((&*change.group, change.revision), ("shop", 12));
    assert_eq!(top.press(Key::Char('y')), None, "nothing is known yet");
    top.foreseen(
        &change,
        Ok(answer(&["store the word", "wait for all CPUs"])),
    );
    let seen = shown(&top, 80, 24);
    for line in [
        "flip shop?",
        " 2. wait for all CPUs",
        "y: do it   n, Esc: back",
    ] {
        assert!(seen.contains(line), "{line}: {seen}");
    }
    assert_eq!(top.press(Key::Char('j')), None, "it is in front");
    assert_eq!(top.press(Key::Char('y')), Some(Ask::Make(change.clone())));
    top.made(&change, Ok("shop: blue -> green, switched".to_owned()));
    let seen = shown(&top, 80, 24);
    assert!(
        seen.contains("\nshop: blue -> green, switched\n f flip"),
        "{seen}"
    );
    assert_eq!(top.press(Key::Char('q')), Some(Ask::Quit));
}

#[test]
fn what_is_refused_says_why_and_can_not_be_made() {
    let mut top = top();
    let Some(Ask::Foresee(change)) = top.press(Key::Char('r')) else {
        panic!("nobody is asked");
    };
    let failure = Failure::new(Exit::Refused, "roll back shop", "it is not well")
        .blocked_by(["blue: nobody listens"])
        .advise("see to it");
    top.foreseen(&change, Err(failure));
    let seen = shown(&top, 80, 24);
    for line in [
        "roll shop back?",
        "No: it is not well",
        " - blue: nobody listens",
        "see to it",
    ] {
        assert!(seen.contains(line), "{line}: {seen}");
    }
    assert_eq!(top.press(Key::Char('y')), None);
    assert_eq!(top.press(Key::Escape), None);
    assert!(!shown(&top, 80, 24).contains("roll shop back?"));
}

#[test]
fn who_has_turned_away_hears_of_a_refusal_below() {
    let mut top = top();
    let Some(Ask::Foresee(change)) = top.press(Key::Char('c')) else {
        panic!("nobody is asked");
    };
    top.press(Key::Escape);
    top.foreseen(&change, Ok(answer(&[])));
    assert!(top.dialog.is_none(), "what was put away stays away");
    top.made(
        &change,
        Err(Failure::new(Exit::Precondition, "confirm shop", "too late")),
    );
    assert!(shown(&top, 80, 24).contains("confirm shop: too late"));
}

#[test]
fn another_group_can_be_looked_at() {
    let mut sample = sample(1, 0);
    let mut other = sample.status.groups[0].clone();
    other.name = "zoo".into();
    sample.status.groups.push(other);
    let mut top = Top::default();
    top.take(sample.clone());
    assert!(shown(&top, 100, 30).contains("> shop"));
    top.press(Key::Down);
    top.press(Key::Char('j'));
    assert!(shown(&top, 100, 30).contains("> zoo"));
    top.press(Key::Char('k'));
    assert!(shown(&top, 100, 30).contains("> shop"));
    top.press(Key::Down);
    sample.status.groups.pop();
    top.take(sample);
    assert!(
        shown(&top, 100, 30).contains("> shop"),
        "the other has gone"
    );
}

#[test]
fn an_agent_that_has_gone_is_said_until_it_is_back() {
    let mut top = Top::default();
    let gone = || Failure::new(Exit::Unreachable, "reach the agent", "nobody listens");
    top.lose(gone());
    let seen = shown(&top, 80, 24);
    assert!(seen.contains("! reach the agent: nobody listens"), "{seen}");
    top.take(sample(1, 0));
    assert!(!shown(&top, 80, 24).contains("nobody listens"));
    top.lose(gone());
    let seen = shown(&top, 80, 24);
    assert!(
        seen.contains("what is below is old") && seen.contains("> shop"),
        "{seen}"
    );
}

/// After two looks, two seconds apart.
fn top() -> Top {
    let mut top = Top::default();
    top.take(sample(1, 0));
    top.take(sample(3, 200));
    top
}

/// Status and history as they were after so many seconds, when green had so many packets more.
fn sample(at: u64, more: u64) -> Sample {
    let mut status: Status = serde_json::from_str(STATUS).expect("a status");
    let colours = &mut status.groups[0].colours;
    for (colour, share) in [("green", 1), ("blue", 20)] {
        let colour = colours.get_mut(colour).expect("there is one");
        colour.packets += more / share;
        colour.connections += more / share / 20;
    }
    let record = serde_json::json!({
        "id": "20261120-200000-5f3a", "group": "shop", "kind": "flip", "from": "blue", "to": "green", "slot": 1,
        "stage": "draining", "result": "switched", "revision": 12, "actor": "root (uid 0, pid 7 switcher)",
        "reason": "v42", "forced": false, "hard": false, "started": "2026-11-20T20:00:00Z", "stored": null,
        "settled": null, "ended": null, "store_to_settled_us": null, "leftovers": 0
    });
    let record: CutoverRecord = serde_json::from_value(record).expect("a record");
    Sample {
        at: Duration::from_secs(at),
        wall: now(),
        status,
        cutovers: vec![record],
    }
}

fn answer(steps: &[&str]) -> ChangeAnswer {
    let answer = serde_json::json!({
        "id": null, "group": "shop", "kind": "flip", "from": "blue", "to": "green", "result": "switched",
        "revision": 13, "store_to_settled_us": null, "forced": false, "unchanged": false, "dry_run": true,
        "steps": steps
    });
    serde_json::from_value(answer).expect("an answer")
}

fn now() -> Timestamp {
    "2026-11-20T20:03:00Z".parse().expect("a time")
}

fn shown(top: &Top, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(top, Look { colour: false }, now(), area, &mut buffer);
    text(&buffer)
}
