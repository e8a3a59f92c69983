//! What is shown to everybody.

use super::Runner;
use crate::api::model::{Difference, Status};
use crate::exit::{Exit, Failure};
use crate::listen::meters::Meters;

/// Everything that metrics are made of.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What the agent says of itself and its groups.
    pub status: Status,
    /// What was found when the kernel was compared last.
    pub differences: Vec<Difference>,
    /// What is counted as it happens.
    pub meters: Meters,
}

impl Runner {
    /// Everything that metrics are made of.
    ///
    /// # Errors
    /// When the kernel can't be read.
    pub fn shown(&mut self) -> Result<Shown, Failure> {
        Ok(Shown {
            status: self.status(None)?,
            differences: self.comparisons.said.clone(),
            meters: self.meters.clone(),
        })
    }

    /// Groups, their live colours, and what they are in the middle of.
    pub fn live(&self) -> impl Iterator<Item = (&str, &str, &'static str)> {
        let groups = self.groups.values();
        groups.map(|group| (&*group.name, &*group.state.live, self.phase(group)))
    }

    /// Whether new connections of a group go to a colour.
    ///
    /// # Errors
    /// When there is no such group, or it has no such colour.
    pub fn is_live(&mut self, group: &str, colour: &str) -> Result<bool, Failure> {
        let colours = self.config.groups.get(group).map(|it| &it.colours);
        let known = colours.is_some_and(|it| it.iter().any(|known| known == colour));
        let live = &self.group(group)?.state.live;
        match known {
            true => Ok(live == colour),
            false => Err(Failure::new(
                Exit::NotFound,
                "",
                format!("group {group} has no colour {colour}"),
            )),
        }
    }
}
