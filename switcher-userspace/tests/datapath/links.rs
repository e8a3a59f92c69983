//! What the agent hears of links.

use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use switcher::host::links::follow;

use crate::lab::{DEVICE, Lab};

#[test]
fn links_that_change_come_and_go_are_heard_of() {
    let Some(_lab) = Lab::new("links") else {
        return;
    };
    let (sender, heard) = channel();
    follow(move || sender.send(()).is_ok()).expect("the kernel tells");
    for words in [
        ["set", DEVICE, "down"],
        ["set", DEVICE, "up"],
        ["del", "dev", DEVICE],
    ] {
        while heard.recv_timeout(Duration::from_millis(300)).is_ok() {}
        let done = Command::new("ip").arg("link").args(words).status();
        assert!(done.expect("ip is here").success(), "{words:?}");
        let told = heard.recv_timeout(Duration::from_secs(60));
        assert!(told.is_ok(), "nothing was heard of {words:?}");
    }
}
