//! Clients over TCP.

use std::time::Instant;

use super::record::Kind;
use super::{Client, Connection, DOWNLOAD_BYTES};

/// One connection for the whole run; a broken one is recorded and opened anew.
pub(super) fn keep_alive(client: &Client) {
    while client.goes_on() {
        requests(client, usize::MAX);
    }
}

/// Connections of a few requests each.
pub(super) fn short_lived(client: &Client) {
    while client.goes_on() {
        requests(client, client.plan.requests);
    }
}

/// Connections of one request each.
pub(super) fn new(client: &Client) {
    while client.goes_on() {
        let begun = Instant::now();
        let outcome = Connection::open(client.web).and_then(|mut connection| connection.colour());
        client.recorder.add(Kind::New, begun, described(outcome));
        client.pause();
    }
}

/// Downloads, one after the other, each on its own connection; the last is finished after the end.
pub(super) fn download(client: &Client) {
    let seconds = client.plan.download.as_secs_f64();
    while client.goes_on() {
        let begun = Instant::now();
        let outcome = Connection::open(client.web)
            .and_then(|mut connection| connection.download(seconds, DOWNLOAD_BYTES));
        client
            .recorder
            .add(Kind::Download, begun, described(outcome));
        client.pause();
    }
}

/// One connection that speaks a line from time to time.
pub(super) fn idle(client: &Client) {
    while client.goes_on() {
        let Some(mut connection) = open(client, Kind::Idle) else {
            continue;
        };
        for number in 0u64.. {
            let begun = Instant::now();
            let outcome = connection.say(&format!("line {number}"));
            let broken = outcome.is_err();
            client.recorder.add(Kind::Idle, begun, described(outcome));
            if broken || !client.goes_on() {
                break;
            }
            std::thread::sleep(client.plan.idle_pause);
        }
    }
}

fn requests(client: &Client, number: usize) {
    let Some(mut connection) = open(client, Kind::KeepAlive) else {
        return;
    };
    for _ in 0..number {
        let begun = Instant::now();
        let outcome = connection.colour();
        let broken = outcome.is_err();
        client
            .recorder
            .add(Kind::KeepAlive, begun, described(outcome));
        if broken || !client.goes_on() {
            return;
        }
        client.pause();
    }
}

/// A connection, or a recorded failure and a pause.
fn open(client: &Client, kind: Kind) -> Option<Connection> {
    let begun = Instant::now();
    match Connection::open(client.web) {
        Ok(connection) => Some(connection),
        Err(error) => {
            client.recorder.add(kind, begun, Err(format!("{error:#}")));
            client.pause();
            None
        }
    }
}

fn described(outcome: anyhow::Result<String>) -> Result<String, String> {
    outcome.map_err(|error| format!("{error:#}"))
}
