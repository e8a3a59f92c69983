//! Single values: strings to what they mean.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::limits::{DURATION_MAX, INTERFACE_NAME_MAX, LINE_MAX, NAME_MAX, SOCKET_PATH_MAX};
use super::report::Complaint;
use super::{Member, Prefix, Protocol};

type Parsed<T> = Result<T, Complaint>;

pub(super) const DURATION: &str = "write a number with its unit, such as 300ms, 5s, 2m or 1h";
pub(super) const VIP: &str = "write IP:PORT/tcp or IP:PORT/udp, such as 203.0.113.10:443/tcp";
pub(super) const ADDRESS: &str = "write IP:PORT, such as 203.0.113.10:8443";

pub(super) const PREFIX: &str = "write ADDRESS/LENGTH, such as 10.200.0.0/16, or one address";

/// Addresses that begin alike: `10.200.0.0/16`. A single address is all of itself.
pub(super) fn prefix(text: &str) -> Parsed<Prefix> {
    let (address, length) = text
        .split_once('/')
        .map_or((text, None), |(a, b)| (a, Some(b)));
    let wrong = |why: &str| Complaint::new(format_args!("{text:?} {why}"), PREFIX);
    let address: IpAddr = address
        .parse()
        .map_err(|_| wrong("is no prefix of addresses"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Ok(most), str::parse);
    let length = length.ok().filter(|length| (1..=most).contains(length));
    let length = length.ok_or_else(|| wrong("has no valid length"))?;
    if address.is_loopback() || address.is_multicast() || address.is_unspecified() {
        return Err(wrong("is nothing that packets may come from"));
    }
    Ok(Prefix { address, length })
}

/// The name of a group, a service or a colour.
pub(crate) fn name(text: &str) -> Parsed<String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if starts_well && text.len() <= NAME_MAX && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    let advice = format!(
        "use 1 to {NAME_MAX} of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit"
    );
    Err(Complaint::new(
        format_args!("{text:?} is not a valid name"),
        advice,
    ))
}

/// The name of a network interface, by the kernel's rules.
pub(super) fn interface(text: &str) -> Parsed<String> {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    let fits = (1..=INTERFACE_NAME_MAX).contains(&text.len());
    if fits && text != "." && text != ".." && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(
        format_args!("{text:?} can't be the name of an interface"),
        "write a name that `ip link` shows, such as \"eth0\"",
    ))
}

/// An absolute path.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.starts_with('/') && !text.contains('\0') {
        return Ok(text.into());
    }
    Err(Complaint::new(
        format_args!("{text:?} is not an absolute path"),
        "begin it with /",
    ))
}

/// An absolute path that a Unix socket can have.
pub(super) fn socket_path(text: &str) -> Parsed<PathBuf> {
    if text.len() > SOCKET_PATH_MAX {
        return Err(Complaint::new(
            format_args!("a socket's path can't have {} bytes", text.len()),
            format_args!("use at most {SOCKET_PATH_MAX}"),
        ));
    }
    path(text)
}

/// An address and port to listen at.
pub(super) fn listen(text: &str) -> Parsed<SocketAddr> {
    let address = text.parse().ok();
    address
        .filter(|address: &SocketAddr| address.port() != 0)
        .ok_or_else(|| {
            Complaint::new(
                format_args!("{text:?} is not an address with a port"),
                "write \"127.0.0.1:9464\" for this host alone, or \"[::]:9464\" for everybody",
            )
        })
}

/// The same for the API.
pub(super) fn api_listen(text: &str) -> Parsed<SocketAddr> {
    listen(text).map_err(|complaint| Complaint {
        advice: "write \"0.0.0.0:9465\" or \"[::]:9465\", or one address of this host".to_owned(),
        ..complaint
    })
}

/// Somebody who has a role: `uid:1000`, `gid:27`, `cert:ci.internal`.
pub(super) fn member(text: &str) -> Parsed<Member> {
    let wrong = |why: &str| {
        Complaint::new(
            format_args!("{text:?} {why}"),
            "write \"uid:1000\", \"gid:27\" or \"cert:ci.internal\"",
        )
    };
    let (kind, name) = text
        .split_once(':')
        .ok_or_else(|| wrong("is nobody who could have a role"))?;
    let number = || {
        let number = name.parse().ok();
        number.ok_or_else(|| wrong("has no number, and names of users are not looked up"))
    };
    match kind {
        "uid" => number().map(Member::Uid),
        "gid" => number().map(Member::Gid),
        "cert" => {
            let good = !name.is_empty()
                && name.len() <= LINE_MAX
                && name == name.trim()
                && !name.chars().any(char::is_control);
            match good {
                true => Ok(Member::Certificate(name.to_owned())),
                false => Err(wrong("has no name that a certificate could have")),
            }
        }
        _ => Err(wrong("is nobody who could have a role")),
    }
}

/// The name of a user.
pub(super) fn user(text: &str) -> Parsed<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@$".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(
        format_args!("{text:?} can't be the name of a user"),
        "write a name that `getent passwd` shows",
    ))
}

/// Words for people, on one line.
pub(super) fn line(text: &str) -> Parsed<String> {
    if !text.trim().is_empty() && text.len() <= LINE_MAX && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(
        format_args!("{text:?} is no line of words"),
        format_args!("write 1 to {LINE_MAX} bytes without line breaks"),
    ))
}

/// A duration, zero included.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| Complaint::new(format_args!("{text:?} is not a duration"), DURATION))?;
    if duration > DURATION_MAX {
        let longest = humantime::format_duration(DURATION_MAX);
        return Err(Complaint::new(
            format_args!("{text:?} is too long"),
            format_args!("choose at most {longest}"),
        ));
    }
    Ok(duration)
}

/// A duration of at least a millisecond, the agent's resolution.
pub(super) fn duration_above_zero(text: &str) -> Parsed<Duration> {
    let duration = duration(text)?;
    if duration < Duration::from_millis(1) {
        return Err(Complaint::new(
            format_args!("{text:?} is too short"),
            "choose at least 1ms",
        ));
    }
    Ok(duration)
}

/// How a range of ports is written.
pub(super) const PORTS: &str = "such as \"16384-32767\"";

/// A range of ports: `FIRST-LAST`.
pub(super) fn ports(text: &str) -> Parsed<RangeInclusive<u16>> {
    let both = text.split_once('-');
    let both = both.and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    match both {
        // A range of all ports would have one more than the map can count.
        Some(range) if *range.start() > 0 && range.start() <= range.end() => Ok(range),
        _ => Err(Complaint::new(
            format_args!("{text:?} is not a range of ports"),
            format_args!("write the first and the last, from 1 to 65535, {PORTS}"),
        )),
    }
}

/// An address that this host can have towards others.
pub(super) fn own_address(text: &str) -> Parsed<IpAddr> {
    let advice = "write an address of an interface of this host, such as \"10.0.0.1\"";
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(Complaint::new(
            format_args!("{text:?} is not an address"),
            advice,
        ));
    };
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return Err(Complaint::new(
            format_args!("{text:?} is no address that other hosts can answer to"),
            advice,
        ));
    }
    Ok(address)
}

/// Where requests go: `http://HOST/...` or `https://HOST/...`.
pub(super) fn url(text: &str) -> Parsed<String> {
    let parsed = text.parse::<hyper::Uri>().ok();
    let known = |uri: &hyper::Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    let whole = parsed.filter(|uri| known(uri) && uri.host().is_some_and(|it| !it.is_empty()));
    match whole {
        // It would be in the clear in the configuration, and has to be in a header anyway.
        Some(uri) if uri.authority().is_some_and(|it| it.as_str().contains('@')) => {
            Err(Complaint::new(
                "a URL with a password in it",
                "sign requests with `secret_file` instead",
            ))
        }
        Some(_) => Ok(text.to_owned()),
        None => Err(Complaint::new(
            format_args!("{text:?} is no URL that requests can go to"),
            "begin it with http:// or https:// and a host",
        )),
    }
}

/// The path of an HTTP request.
pub(super) fn http_path(text: &str) -> Parsed<String> {
    // RFC 9112, 3.2: a request target has no spaces; everything else travels percent-encoded.
    if text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Ok(text.to_owned());
    }
    Err(Complaint::new(
        format_args!("{text:?} is not a path for HTTP"),
        "begin it with / and percent-encode what is not plain ASCII, such as \"/healthz\"",
    ))
}

/// An address with its protocol: `IP:PORT/tcp`.
pub(super) fn vip(text: &str) -> Parsed<(SocketAddr, Protocol)> {
    let Some((before, protocol)) = text.rsplit_once('/') else {
        let message = format_args!("{text:?} does not say which protocol");
        return Err(Complaint::new(
            message,
            format_args!("append /tcp or /udp: \"{text}/tcp\""),
        ));
    };
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => {
            return Err(Complaint::new(
                format_args!("protocol {other:?} is unknown"),
                VIP,
            ));
        }
    };
    Ok((socket_address(before, VIP)?, protocol))
}

/// An address whose protocol is the service's: `IP:PORT`.
pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    if let Some((before, _)) = text.rsplit_once('/') {
        return Err(Complaint::new(
            format_args!("{text:?} names a protocol, which is that of the vip"),
            format_args!("write \"{before}\""),
        ));
    }
    socket_address(text, ADDRESS)
}

fn socket_address(text: &str, advice: &str) -> Parsed<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return served(address, advice);
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(Complaint::new(format_args!("{text:?} has no port"), advice));
    }
    let message = match text.rsplit_once(':') {
        Some((host, _)) if host.parse::<IpAddr>().is_ok() => {
            format!("{text:?} has no valid port: 1 to 65535 are")
        }
        Some((host, _)) if host.contains(|c: char| c.is_ascii_alphabetic()) => {
            format!("{text:?} is not an address, and names are not looked up")
        }
        _ => format!("{text:?} is not an address"),
    };
    Err(Complaint::new(message, advice))
}

/// Refuses addresses that no packet of a client or to a server can carry.
fn served(address: SocketAddr, advice: &str) -> Parsed<SocketAddr> {
    let advice = match address.port() {
        0 => advice,
        _ => "use the address of a network interface",
    };
    let why = match address.ip() {
        _ if address.port() == 0 => "port 0 can't be served",
        ip if ip.is_loopback() => "a loopback address gets no packets from an interface",
        ip if ip.is_unspecified() => "the unspecified address stands for no host in a packet",
        ip if ip.is_multicast() => "the address stands for many hosts",
        IpAddr::V4(ip) if ip.is_broadcast() => "the address stands for many hosts",
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            "a link-local address means something on one link only"
        }
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            let v4 = SocketAddr::new(ip.to_canonical(), address.port());
            return Err(Complaint::new(
                format_args!("{address} is an IPv4 address in IPv6's clothes"),
                format_args!("write {v4}"),
            ));
        }
        _ => return Ok(address),
    };
    Err(Complaint::new(format_args!("{address}: {why}"), advice))
}
