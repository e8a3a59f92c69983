//! What will be written, with everything decided.

use std::net::{IpAddr, SocketAddr};

use super::host::{Host, way_to};
use super::refused;
use crate::cli::InitArgs;
use crate::config::{Forward, XdpMode};
use crate::doctor;
use crate::exit::Failure;

/// A configuration with one group and one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Interfaces that clients come in by, and answers of endpoints.
    pub interfaces: Vec<Steered>,
    /// What to do with every interface, whatever suits it.
    pub xdp: Option<XdpMode>,
    /// The group's name.
    pub group: String,
    /// The service's name.
    pub service: String,
    /// `IP:PORT/PROTOCOL`.
    pub vip: String,
    /// Colours and their endpoints, the live one first.
    pub colours: [(&'static str, Vec<String>); 2],
    /// What always reaches the idle colour.
    pub preview: Option<String>,
    /// How packets get to endpoints.
    pub forward: Forward,
    /// The path of an HTTP check.
    pub health: Option<String>,
    /// Where metrics are served.
    pub listen: Option<String>,
}

/// An interface that traffic is steered on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steered {
    /// Its name.
    pub name: String,
    /// Where packets are met.
    pub xdp: XdpMode,
    /// Why it is here, and why there.
    pub why: String,
}

impl Draft {
    /// From options. Interfaces are looked at by [`steer`](Self::steer), when it is known how packets are
    /// forwarded.
    pub(super) fn new(args: &InitArgs, host: &Host) -> Result<Self, Failure> {
        let missing: Vec<&str> = [
            ("--vip", args.vip.is_none()),
            ("--green", args.green.is_empty()),
        ]
        .into_iter()
        .filter_map(|(option, missing)| missing.then_some(option))
        .collect();
        let Some(vip) = args.vip.as_deref().filter(|_| missing.is_empty()) else {
            let why = format!("{} not given, and nobody to ask", missing.join(" and "));
            return Err(refused(why).advise(
                "such as: switcher init --vip 443 --blue 8443 --green 9444; without --blue that is \
                 whoever serves the VIP now",
            ));
        };
        let (at, protocol) = vip_of(vip, host.address)?;
        let near = |text: &String| near(text, at);
        let blue = match args.blue.is_empty() {
            true => vec![at.to_string()],
            false => args.blue.iter().map(near).collect(),
        };
        let interfaces = match args.interfaces.is_empty() {
            false => args.interfaces.clone(),
            true => vec![interface(host, at.ip())?],
        };
        let bare = |name: String| Steered {
            name,
            xdp: XdpMode::Native,
            why: String::new(),
        };
        Ok(Self {
            interfaces: interfaces.into_iter().map(bare).collect(),
            xdp: args.xdp.as_deref().and_then(mode),
            group: args.group.clone(),
            service: args.service.clone(),
            vip: format!("{at}/{protocol}"),
            colours: [
                ("blue", blue),
                ("green", args.green.iter().map(near).collect()),
            ],
            preview: args.preview.as_ref().map(near),
            forward: forward(args.forward.as_deref()),
            health: args.health.clone().filter(|_| protocol == "tcp"),
            listen: args.listen.clone(),
        })
    }

    /// Adds the interfaces that answers come in by, and chooses where packets are met on each.
    pub(super) fn steer(&mut self, host: &Host) {
        if matches!(self.forward, Forward::Routed | Forward::Masquerade) {
            let endpoints = self.colours.iter().flat_map(|(_, list)| list);
            let addresses = endpoints.filter_map(|it| it.parse().ok());
            let ways: Vec<_> = addresses
                .filter_map(|it: SocketAddr| way_to(it.ip()))
                .collect();
            for name in ways {
                if self.interfaces.iter().all(|it| it.name != name) {
                    self.interfaces.push(Steered {
                        name,
                        xdp: XdpMode::Native,
                        why: String::new(),
                    });
                }
            }
        }
        let kinds = self.interfaces.iter().filter_map(|it| host.link(&it.name));
        let refusing = kinds.filter_map(|it| it.kind.as_deref());
        let refusing = refusing.into_iter().any(doctor::takes_no_xdp);
        for steered in &mut self.interfaces {
            let (xdp, why) = match (self.xdp, host.link(&steered.name)) {
                (Some(xdp), _) => (xdp, "as you said".to_owned()),
                (None, Some(link)) if refusing && link.xdp == XdpMode::Native => (
                    XdpMode::Tc,
                    "XDP in a driver can't send to the other interface".to_owned(),
                ),
                (None, Some(link)) => (link.xdp, link.why.clone()),
                (None, None) => (XdpMode::Native, "not there yet".to_owned()),
            };
            (steered.xdp, steered.why) = (xdp, why);
        }
    }
}

/// The interface that clients come in by.
fn interface(host: &Host, vip: IpAddr) -> Result<String, Failure> {
    if let Some(default) = &host.default {
        return Ok(default.clone());
    }
    let bearer = crate::host::bearer(vip).ok().flatten();
    let bearer = bearer.filter(|name| name != "lo");
    let only = match host.links.as_slice() {
        [only] => Some(only.name.clone()),
        _ => None,
    };
    bearer.or(only).ok_or_else(|| {
        let names: Vec<_> = host.links.iter().map(|it| it.name.as_str()).collect();
        refused("no interface has a default route, so where clients come in can't be told")
            .advise(format!("choose with --interface: {}", names.join(", ")))
    })
}

/// `IP:PORT`, `PORT`, `IP:PORT/PROTOCOL`, `PORT/PROTOCOL`.
pub(super) fn vip_of(
    text: &str,
    own: Option<IpAddr>,
) -> Result<(SocketAddr, &'static str), Failure> {
    let wrong = || {
        refused(format!("{text:?} is nothing that clients could connect to")).advise(
            "write IP:PORT, such as 203.0.113.10:443, or the PORT alone; /udp behind it for UDP",
        )
    };
    let (address, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), "tcp"),
        Some((address, "udp")) => (address, "udp"),
        Some(_) => return Err(wrong()),
    };
    if let Ok(port) = address.parse::<u16>() {
        let own = own.ok_or_else(|| {
            refused(format!(
                "{port} of which address? This host has no default route"
            ))
            .advise(format!("write it in full: --vip IP:{port}"))
        })?;
        return Ok(((own, port).into(), protocol));
    }
    let address = address.parse().map_err(|_| wrong())?;
    Ok((address, protocol))
}

/// `IP:PORT` as it is; a `PORT` alone is at the VIP's address, an `IP` alone has the VIP's port.
pub(super) fn near(text: &str, vip: SocketAddr) -> String {
    if let Ok(port) = text.parse::<u16>() {
        return SocketAddr::from((vip.ip(), port)).to_string();
    }
    match text.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::from((ip, vip.port())).to_string(),
        // Whatever else it is, the check of the whole says.
        Err(_) => text.to_owned(),
    }
}

fn mode(text: &str) -> Option<XdpMode> {
    let modes = [XdpMode::Native, XdpMode::Generic, XdpMode::Tc];
    modes.into_iter().find(|it| it.name() == text)
}

fn forward(text: Option<&str>) -> Forward {
    let all = [
        Forward::Local,
        Forward::Routed,
        Forward::Masquerade,
        Forward::Dsr,
        Forward::Ipip,
    ];
    let found = all.into_iter().find(|it| Some(it.name()) == text);
    found.unwrap_or(Forward::Auto)
}
