//! Dumps from netlink, and orders to it, as far as Switcher needs them.

use std::io;

use netlink_sys::{Socket, SocketAddr};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `NLM_F_REQUEST`.
const GET: u16 = 0x1;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const ORDER: u16 = 0x5;
/// And `NLM_F_CREATE`.
const CREATE: u16 = 0x405;

/// Asks for a dump and calls `each` with the payload of every message.
///
/// # Errors
/// When the kernel refuses, or answers what can't be read.
pub(crate) fn dump(
    protocol: isize,
    request: u16,
    body: &[u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let socket = ask(protocol, request, DUMP, body)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = &answer[..];
        while let Some((kind, payload, next)) = split(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(error(payload)),
                _ => each(payload),
            }
            rest = next;
        }
    }
}

/// Asks for one thing: the payload of the answer.
///
/// # Errors
/// When the kernel refuses, or has no such thing.
pub(crate) fn get(protocol: isize, request: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let (answer, _) = ask(protocol, request, GET, body)?.recv_from_full()?;
    match split(&answer) {
        Some((NLMSG_ERROR, payload, _)) => Err(error(payload)),
        Some((_, payload, _)) => Ok(payload.to_vec()),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Asks for something to be done.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn order(protocol: isize, request: u16, body: &[u8]) -> io::Result<()> {
    done(&ask(protocol, request, ORDER, body)?)
}

/// Asks for something to be done to what is there, or is made for it.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn create(protocol: isize, request: u16, body: &[u8]) -> io::Result<()> {
    done(&ask(protocol, request, CREATE, body)?)
}

/// Appends an attribute to a message.
pub(crate) fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend((4 + value.len() as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn done(socket: &Socket) -> io::Result<()> {
    let (answer, _) = socket.recv_from_full()?;
    match split(&answer) {
        Some((NLMSG_ERROR, payload, _)) if u32_at(payload, 0) == Some(0) => Ok(()),
        Some((NLMSG_ERROR, payload, _)) => Err(error(payload)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn ask(protocol: isize, request: u16, flags: u16, body: &[u8]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(request.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    socket.send(&message, 0)?;
    Ok(socket)
}

/// The attributes of a message: kind and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (u16_at(bytes, 0)? as usize, u16_at(bytes, 2)?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        // The two upper bits say how the value is encoded.
        Some((kind & 0x3fff, value))
    })
}

/// A NUL-terminated text.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (length, kind) = (u32_at(bytes, 0)? as usize, u16_at(bytes, 4)?);
    let payload = bytes.get(HEADER..length)?;
    Some((
        kind,
        payload,
        bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]),
    ))
}

fn error(payload: &[u8]) -> io::Error {
    let number = u32_at(payload, 0).unwrap_or_default().cast_signed();
    io::Error::from_raw_os_error(-number)
}
