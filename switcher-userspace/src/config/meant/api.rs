//! Who may reach the agent over TCP, and what they may do.

use crate::config::report::Report;
use crate::config::typed::{TypedAgent, TypedApi, TypedRoles};
use crate::config::{Api, Member, Roles};

/// What only shows when all parts are there.
pub(super) fn check(agent: &TypedAgent, report: &Report<'_>) {
    let members = agent.roles.as_ref().map(|roles| roles.members.as_slice());
    let members = members.unwrap_or_default();
    for (index, (role, member)) in members.iter().enumerate() {
        let before = members[..index].iter();
        if let Some((other, first)) = before.rev().find(|(_, it)| it.value == member.value) {
            let at = report.refer(&first.at);
            let why = format_args!("{} is listed as {other} already: {at}", member.value);
            let advice = match role == other {
                true => "remove one".to_owned(),
                false => format!("keep one; {role} may do what {other} may"),
            };
            report.error(&member.at, why, advice);
        }
    }
    let Some(api) = &agent.api else {
        return;
    };
    let is_certificate = |member: &Member| matches!(member, Member::Certificate(_));
    if !members.iter().any(|(_, it)| is_certificate(&it.value)) {
        report.error(
            &api.at,
            "nobody could use it: no certificate has a role",
            "add [agent.roles] and name one: operator = [\"cert:ci.internal\"]",
        );
    }
    if let (Some(api), Some(listen)) = (&api.listen, &agent.listen)
        && api.value == listen.value
    {
        let why = format_args!(
            "{} is already taken by {}",
            api.value,
            report.refer(&listen.at)
        );
        report.error(&api.at, why, "choose another port");
    }
}

/// Nothing if a part is missing, which is reported.
pub(super) fn mean(typed: TypedApi) -> Option<Api> {
    let TypedApi {
        at: _,
        listen,
        cert,
        key,
        client_ca,
    } = typed;
    Some(Api {
        listen: listen?.value,
        cert: cert?,
        key: key?,
        client_ca: client_ca?,
    })
}

pub(super) fn roles(typed: TypedRoles) -> Roles {
    let members = typed.members.into_iter();
    Roles(members.map(|(role, it)| (role, it.value)).collect())
}
