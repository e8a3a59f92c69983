//! Who may do what: section `[agent.roles]`.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

/// What somebody may do; each may do what those before may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Switch, and everything that belongs to it.
    Operator,
    /// Apply configurations, and force what policy refuses.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl Display for Role {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Somebody who has a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// Processes of a user.
    Uid(u32),
    /// Processes that are in a group, supplementary ones included.
    Gid(u32),
    /// Who has a certificate of this name: its common name, or one of its DNS names.
    Certificate(String),
}

impl Display for Member {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Gid(gid) => write!(f, "gid:{gid}"),
            Self::Certificate(name) => write!(f, "cert:{name}"),
        }
    }
}

/// Who has which role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(pub Vec<(Role, Member)>);

impl Roles {
    /// The highest role of a process, of this user and in these groups.
    #[must_use]
    pub fn of_process(&self, uid: u32, gids: &[u32]) -> Option<Role> {
        self.highest(|member| match member {
            Member::Uid(it) => *it == uid,
            Member::Gid(it) => gids.contains(it),
            Member::Certificate(_) => false,
        })
    }

    /// The highest role of whoever has a certificate with this name. Names of hosts have no case (RFC 4343).
    #[must_use]
    pub fn of_certificate(&self, name: &str) -> Option<Role> {
        self.highest(
            |member| matches!(member, Member::Certificate(it) if it.eq_ignore_ascii_case(name)),
        )
    }

    fn highest(&self, is: impl Fn(&Member) -> bool) -> Option<Role> {
        let held = self.0.iter().filter(|(_, member)| is(member));
        held.map(|(role, _)| *role).max()
    }
}

/// For people: `viewer cert:grafana, admin uid:1000`.
impl Display for Roles {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let all = self
            .0
            .iter()
            .map(|(role, member)| format!("{role} {member}"));
        let all = all.collect::<Vec<_>>().join(", ");
        f.write_str(if all.is_empty() { "nobody" } else { &all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_role_counts() {
        let roles = Roles(vec![
            (Role::Viewer, Member::Gid(27)),
            (Role::Operator, Member::Uid(1000)),
            (Role::Admin, Member::Certificate("CI.internal".into())),
        ]);
        assert_eq!(roles.of_process(1000, &[1000, 27]), Some(Role::Operator));
        assert_eq!(roles.of_process(1001, &[1001, 27]), Some(Role::Viewer));
        assert_eq!(roles.of_process(1001, &[1001]), None);
        assert_eq!(roles.of_certificate("ci.internal"), Some(Role::Admin));
        assert_eq!(roles.of_certificate("1000"), None);
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }
}
