//! Clients over UDP. What is lost is sent again: nobody promises a datagram.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::Result;
use switcher_harness::load::fresh_socket;

use super::{Client, PATIENCE};

/// A datagram unanswered for so long is sent again.
const LOST: Duration = Duration::from_millis(500);
/// But not faster than this.
const SOON: Duration = Duration::from_millis(20);

pub(super) fn flow(client: &mut Client) {
    let end = client.end();
    talk(client, |client| client.goes_on(end));
}

pub(super) fn new(client: &mut Client) {
    talk(client, |_| false);
    client.pause(Duration::from_millis(30));
}

/// Numbered datagrams of one socket, one at least, as long as `goes_on` says.
fn talk(client: &mut Client, goes_on: impl Fn(&Client) -> bool) {
    let begun = Instant::now();
    let socket = match open(client) {
        Ok(socket) => socket,
        Err(error) => {
            client
                .judge
                .refused(client.kind, "a UDP socket", begun, &format!("{error:#}"));
            std::thread::sleep(LOST);
            return;
        }
    };
    let name = format!(
        "flow from {} ({})",
        socket
            .local_addr()
            .map_or_else(|error| error.to_string(), |own| own.to_string()),
        client.kind.name()
    );
    let Some(server) = say(client, &socket, 0) else {
        client.judge.refused(
            client.kind,
            &name,
            begun,
            "the first datagram was not answered",
        );
        return;
    };
    let Some(mut flow) = client.judge.begun(client.kind, begun, &name, &server) else {
        return;
    };
    let mut number = 1;
    while goes_on(client) {
        client.pause(Duration::from_millis(60));
        let asked = Instant::now();
        let why = match say(client, &socket, number) {
            Some(now) if now == server => {
                let bytes = number.to_string().len() as u64;
                client
                    .judge
                    .goes_on(client.kind, &mut flow, asked, &name, bytes);
                number += 1;
                continue;
            }
            Some(now) => format!("datagram {number} was answered by {now}"),
            None => format!("datagram {number} was not answered"),
        };
        client.judge.ended(client.kind, &flow, &name, why);
        return;
    }
}

/// Who answers a datagram with its number, if anybody does.
fn say(client: &Client, socket: &UdpSocket, number: u64) -> Option<String> {
    let text = format!("datagram {number}");
    let end = Instant::now() + PATIENCE;
    let mut tries = 0;
    while Instant::now() < end {
        if tries > 0 {
            client.judge.again(client.kind);
        }
        tries += 1;
        // A link that is down is as good as a datagram that is lost.
        let _lost = socket.send(text.as_bytes());
        let mut buffer = [0; 2048];
        // Late answers to earlier copies are passed over.
        while let Ok(size) = socket.recv(&mut buffer) {
            let answer = String::from_utf8_lossy(&buffer[..size]);
            if let Some(server) = answer.strip_suffix(&format!(" {text}")) {
                return Some(server.to_owned());
            }
        }
        // Errors come at once.
        std::thread::sleep(SOON);
    }
    None
}

fn open(client: &Client) -> Result<UdpSocket> {
    let socket = fresh_socket(client.echo)?;
    socket.connect(client.echo)?;
    socket.set_read_timeout(Some(LOST))?;
    Ok(socket)
}
