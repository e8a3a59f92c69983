//! Section `[agent]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::XdpMode;
use crate::config::limits::FLOWS;
use crate::config::report::{Report, Typed};
use crate::config::scalar;
use crate::config::section::{Section, Value};
use crate::config::typed::{TypedApi, TypedMasquerade, TypedRoles};
use crate::log::LogFormat;

const INTERFACES: &str = "list the interfaces clients come in by: interfaces = [\"eth0\"]";
const INTERFACE: &str = "write \"NAME\", or { name = \"NAME\", xdp = \"tc\" }";
const MODES: &[(&str, XdpMode)] = &[
    ("native", XdpMode::Native),
    ("generic", XdpMode::Generic),
    ("tc", XdpMode::Tc),
];
const LOGS: &[(&str, LogFormat)] = &[
    (LogFormat::Human.name(), LogFormat::Human),
    (LogFormat::Json.name(), LogFormat::Json),
    (LogFormat::Journald.name(), LogFormat::Journald),
];
const LISTEN: &str = "write an address and a port: \"127.0.0.1:9464\" or \"[::]:9464\"";
const TRACES: &str = "write where a collector listens: \"http://127.0.0.1:4318\"";
const PATH: &str = "write an absolute path";

#[derive(Default)]
pub(in crate::config) struct TypedAgent {
    pub(in crate::config) interfaces: Vec<TypedInterface>,
    pub(in crate::config) xdp: Option<XdpMode>,
    pub(in crate::config) socket: Option<PathBuf>,
    pub(in crate::config) state_dir: Option<PathBuf>,
    pub(in crate::config) bpffs: Option<PathBuf>,
    pub(in crate::config) flows: Option<u32>,
    pub(in crate::config) listen: Option<Typed<SocketAddr>>,
    pub(in crate::config) page: bool,
    pub(in crate::config) log: Option<LogFormat>,
    pub(in crate::config) traces: Option<String>,
    pub(in crate::config) local_clients: Option<bool>,
    pub(in crate::config) repair: Option<bool>,
    pub(in crate::config) cgroup: Option<PathBuf>,
    pub(in crate::config) masquerade: TypedMasquerade,
    pub(in crate::config) api: Option<TypedApi>,
    pub(in crate::config) roles: Option<TypedRoles>,
}

pub(in crate::config) struct TypedInterface {
    pub(in crate::config) name: String,
    pub(in crate::config) xdp: Option<XdpMode>,
}

impl TypedAgent {
    pub(super) fn read(section: Section<'_>) -> Self {
        let path = |value: Value<'_>| value.parse(PATH, scalar::path);
        let socket = |value: Value<'_>| value.parse(PATH, scalar::socket_path);
        let agent = Self {
            interfaces: section
                .required("interfaces", INTERFACES)
                .map(|value| interfaces(&value))
                .unwrap_or_default(),
            xdp: section.value("xdp").and_then(|value| mode(&value)),
            socket: section.value("socket").and_then(socket).map(bare),
            state_dir: section.value("state_dir").and_then(path).map(bare),
            bpffs: section.value("bpffs").and_then(path).map(bare),
            flows: section
                .value("flows")
                .and_then(|value| value.integer(FLOWS))
                .map(bare),
            listen: section
                .value("listen")
                .and_then(|value| value.parse(LISTEN, scalar::listen)),
            page: page(&section),
            log: section
                .value("log")
                .and_then(|value| value.choice(LOGS, &[]))
                .map(bare),
            traces: section
                .value("traces")
                .and_then(|value| value.parse(TRACES, scalar::url))
                .map(bare),
            repair: section
                .value("repair")
                .and_then(|value| value.boolean())
                .map(|typed| typed.value),
            local_clients: section
                .value("local_clients")
                .and_then(|value| value.boolean())
                .map(bare),
            cgroup: section.value("cgroup").and_then(path).map(bare),
            masquerade: section
                .section("masquerade")
                .map(TypedMasquerade::read)
                .unwrap_or_default(),
            api: section.section("api").map(TypedApi::read),
            roles: section.section("roles").map(TypedRoles::read),
        };
        section.finish();
        agent
    }

    /// What no section at all amounts to.
    pub(super) fn absent(root: &Section<'_>) -> Self {
        // A section of the wrong type has been reported as such.
        if !root.has("agent") {
            root.missing(
                "agent.interfaces",
                format_args!("add [agent] and {INTERFACES}"),
            );
        }
        Self::default()
    }
}

fn page(section: &Section<'_>) -> bool {
    let Some(value) = section.value("page") else {
        return false;
    };
    let (report, at) = (value.report, value.at.clone());
    let wanted = value.boolean().is_some_and(|typed| typed.value);
    if wanted && !section.has("listen") {
        let why = "there is no agent.listen for everybody to see it at";
        report.error(
            &at,
            why,
            "add one; on the agent's socket the page is always there",
        );
    }
    wanted
}

fn interfaces(value: &Value<'_>) -> Vec<TypedInterface> {
    let items = value.items(INTERFACES).unwrap_or_default();
    if items.is_empty() && value.is_list() {
        value
            .report
            .error(&value.at, "the list is empty", INTERFACES);
    }
    let mut found: Vec<TypedInterface> = Vec::new();
    for (name, xdp) in items.into_iter().filter_map(interface) {
        if found.iter().any(|other| other.name == name.value) {
            repeated(value.report, &name);
        } else {
            let name = name.value;
            found.push(TypedInterface { name, xdp });
        }
    }
    found
}

/// Either a name, or a table of name and mode.
fn interface(value: Value<'_>) -> Option<(Typed<String>, Option<XdpMode>)> {
    if value.is_string() {
        return Some((value.parse(INTERFACE, scalar::interface)?, None));
    }
    if !value.is_table() {
        return value.wrong_type("a name, or a table of name and xdp", INTERFACE);
    }
    let section = value.section()?;
    let name = section
        .required("name", INTERFACE)
        .and_then(|value| value.parse(INTERFACE, scalar::interface));
    let xdp = section.value("xdp").and_then(|value| mode(&value));
    section.finish();
    Some((name?, xdp))
}

fn mode(value: &Value<'_>) -> Option<XdpMode> {
    value.choice(MODES, &[]).map(bare)
}

fn repeated(report: &Report<'_>, name: &Typed<String>) {
    report.error(
        &name.at,
        format_args!("{:?} is listed twice", name.value),
        "remove one",
    );
}

fn bare<T>(typed: Typed<T>) -> T {
    typed.value
}
