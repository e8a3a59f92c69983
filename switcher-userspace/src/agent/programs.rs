//! Programs that interfaces and the host's own clients have lost, and their return.

use tracing::{error, info};

use super::Runner;
use crate::datapath::clients::LocalClientsState;
use crate::datapath::{Attachment, Hold};

impl Runner {
    /// Looks where programs are missing. An interface that was made anew gets them at once: nobody minds.
    pub(super) fn look_after_programs(&mut self) {
        let found = self.datapath.attachments();
        let news: Vec<Attachment> = found
            .iter()
            .filter(|it| !self.attachments.contains(it))
            .cloned()
            .collect();
        for it in &news {
            if let Some(missing) = it.hold.missing() {
                error!(
                    interface = it.interface,
                    "its traffic is not steered: {missing}"
                );
            }
        }
        self.attachments = found;
        if news.iter().any(|it| it.hold == Hold::Detached) {
            self.comparisons.soon();
        }
        let back = news.iter().filter(|it| it.hold == Hold::Recreated);
        let back: Vec<String> = back.map(|it| it.interface.clone()).collect();
        for interface in back {
            match self.attach_again(&interface) {
                Ok(()) => info!(interface, "is back, and has its programs again"),
                Err(error) => error!(interface, "{error:#}"),
            }
        }
    }

    /// Gives everything its programs again.
    ///
    /// # Errors
    /// The first refusal; the others have them all the same. An interface that isn't there is no error.
    pub(super) fn restore_programs(&mut self) -> anyhow::Result<()> {
        let mut done = Ok(());
        for it in self.datapath.attachments() {
            if matches!(it.hold, Hold::Detached | Hold::Recreated) {
                done = done.and(self.attach_again(&it.interface));
            }
        }
        if self.clients_are_lost() {
            done = done.and(self.datapath.steer_clients_again());
        }
        done
    }

    /// Whether sockets of this host were steered and are not any more.
    pub(super) fn clients_are_lost(&self) -> bool {
        self.datapath.local_clients().state == LocalClientsState::Lost
    }

    fn attach_again(&mut self, interface: &str) -> anyhow::Result<()> {
        let done = self.datapath.attach_again(interface);
        self.attachments = self.datapath.attachments();
        done
    }
}
