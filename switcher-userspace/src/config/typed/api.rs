//! Who may reach the agent, and by which way: `[agent.api]` and `[agent.roles]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::report::{Place, Typed};
use crate::config::scalar;
use crate::config::section::{Section, Value};
use crate::config::{Member, Role};

const LISTEN: &str = "write an address and a port: \"0.0.0.0:9465\" or \"[::]:9465\"";
const CERT: &str = "name the agent's certificate (PEM, with what leads to its authority): cert = \"/etc/switcher/agent.crt\"";
const KEY: &str =
    "name the key of the agent's certificate (PEM): key = \"/etc/switcher/agent.key\"";
const CLIENT_CA: &str =
    "name the authority that vouches for clients (PEM): client_ca = \"/etc/switcher/clients.crt\"";
const MEMBERS: &str = "list them: [\"uid:1000\", \"gid:27\", \"cert:ci.internal\"]";

pub(in crate::config) struct TypedApi {
    pub(in crate::config) at: Place,
    pub(in crate::config) listen: Option<Typed<SocketAddr>>,
    pub(in crate::config) cert: Option<PathBuf>,
    pub(in crate::config) key: Option<PathBuf>,
    pub(in crate::config) client_ca: Option<PathBuf>,
}

pub(in crate::config) struct TypedRoles {
    pub(in crate::config) members: Vec<(Role, Typed<Member>)>,
}

impl TypedApi {
    pub(super) fn read(section: Section<'_>) -> Self {
        let file = |key: &'static str, advice: &'static str| {
            let path = section
                .required(key, advice)
                .and_then(|value| value.parse(advice, scalar::path));
            path.map(|typed| typed.value)
        };
        let api = Self {
            at: section.at.clone(),
            listen: section
                .required("listen", LISTEN)
                .and_then(|value| value.parse(LISTEN, scalar::api_listen)),
            cert: file("cert", CERT),
            key: file("key", KEY),
            client_ca: file("client_ca", CLIENT_CA),
        };
        section.finish();
        api
    }
}

impl TypedRoles {
    pub(super) fn read(section: Section<'_>) -> Self {
        let all = Role::ALL.into_iter().flat_map(|role| {
            let value = section.value(role.name());
            let members = value.map(|value| members(&value)).unwrap_or_default();
            members.into_iter().map(move |member| (role, member))
        });
        let members = all.collect();
        section.finish();
        Self { members }
    }
}

fn members(value: &Value<'_>) -> Vec<Typed<Member>> {
    let items = value.items(MEMBERS).unwrap_or_default();
    let members = items.iter();
    members
        .filter_map(|item| item.parse(MEMBERS, scalar::member))
        .collect()
}
