//! Clients over TCP.

use std::time::{Duration, Instant};

use anyhow::Result;
use switcher_harness::load::Connection;

use super::{Client, PATIENCE};
use crate::model::Flow;

/// A transfer's pace, a second.
const PACE: f64 = 200_000.0;
/// What an upload sends at once.
const PIECE: usize = 8_000;

/// The longest of an idle connection.
const SILENCE: Duration = Duration::from_millis(1500);

/// A connection, and whom it belongs to.
struct Open {
    connection: Connection,
    flow: Flow,
    name: String,
}

pub(super) fn downloads(client: &mut Client) {
    transfers(client, |connection, seed, seconds| {
        let bytes = (PACE * seconds) as u64;
        connection.take(seed, seconds, bytes)?;
        Ok(bytes)
    });
}

pub(super) fn uploads(client: &mut Client) {
    transfers(client, |connection, seed, seconds| {
        let pieces = (PACE * seconds / PIECE as f64).ceil() as u32;
        let pause = Duration::from_secs_f64(seconds / f64::from(pieces));
        connection.give(seed, pieces, PIECE, pause)?;
        Ok(u64::from(pieces) * PIECE as u64)
    });
}

/// One long transfer, with its own pattern.
fn transfers(client: &mut Client, transfer: impl Fn(&mut Connection, u8, f64) -> Result<u64>) {
    let Some(mut open) = open(client) else {
        return;
    };
    let end = client.end();
    let seed = client.chance.below(256) as u8;
    let seconds = end.saturating_duration_since(Instant::now()).as_secs_f64();
    let _goes_on = step(client, &mut open, |connection| {
        transfer(connection, seed, seconds)
    }) && step(client, &mut open, |connection| {
        connection.colour().map(|_| 0)
    });
}

pub(super) fn idle(client: &mut Client) {
    let Some(mut open) = open(client) else {
        return;
    };
    let end = client.end();
    for number in 0_u64.. {
        let line = format!("line {number}");
        let said = step(client, &mut open, |connection| {
            connection.say(&line)?;
            Ok(line.len() as u64)
        });
        if !said || !client.goes_on(end) {
            return;
        }
        client.pause(SILENCE);
    }
}

pub(super) fn requests(client: &mut Client) {
    let Some(mut open) = open(client) else {
        return;
    };
    let end = client.end();
    while client.goes_on(end) {
        if !step(client, &mut open, |connection| {
            connection.colour().map(|_| 0)
        }) {
            return;
        }
        client.pause(Duration::from_millis(20));
    }
}

pub(super) fn new(client: &mut Client) {
    let _closed = open(client);
    client.pause(Duration::from_millis(15));
}

/// A connection that has its first answer, which says who serves it.
fn open(client: &Client) -> Option<Open> {
    let begun = Instant::now();
    let opened = Connection::open_within(client.web, PATIENCE).and_then(|mut connection| {
        connection.colour()?;
        let own = connection.own()?;
        Ok((connection, own))
    });
    let (connection, own) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let name = format!("a connection ({})", client.kind.name());
            client
                .judge
                .refused(client.kind, &name, begun, &format!("{error:#}"));
            std::thread::sleep(Duration::from_millis(100));
            return None;
        }
    };
    let name = format!("connection from {own} ({})", client.kind.name());
    let server = connection.server().unwrap_or_default();
    let flow = client.judge.begun(client.kind, begun, &name, server)?;
    Some(Open {
        connection,
        flow,
        name,
    })
}

/// One more exchange on a connection. Whether it goes on.
fn step(
    client: &Client,
    open: &mut Open,
    exchange: impl FnOnce(&mut Connection) -> Result<u64>,
) -> bool {
    let asked = Instant::now();
    match exchange(&mut open.connection) {
        Ok(bytes) => {
            client
                .judge
                .goes_on(client.kind, &mut open.flow, asked, &open.name, bytes);
            true
        }
        Err(error) => {
            let why = format!("{error:#}");
            client.judge.ended(client.kind, &open.flow, &open.name, why);
            false
        }
    }
}
