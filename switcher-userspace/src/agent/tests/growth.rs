//! What must not be done once for each of many.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::stand::{probed_seldom, routed};
use super::*;
use crate::health::{Report, Standing, Target};

const GROUPS: usize = 20;

#[tokio::test]
async fn the_kernel_is_read_once_for_all_groups_that_switch() {
    let stand = Stand::new(&groups(1000));
    let before = stand.kernel.asked();
    let answer = apply(&stand, &groups(3000)).await.expect("is taken");
    assert_eq!(answer.unfinished.len(), GROUPS, "each has a window");
    let after = stand.kernel.asked();
    // The agent's own look at the kernel may come in between, and finish what is unfinished.
    assert!(after.have - before.have <= 4, "{before:?}, {after:?}");
}

#[tokio::test]
async fn a_status_reads_each_counter_once() {
    let stand = Stand::new(&groups(1000));
    let before = stand.kernel.asked();
    let status = stand.agent.ask(|runner| runner.status(None)).await;
    let status = status.expect("answers").expect("of all groups");
    assert_eq!(status.groups.len(), GROUPS);
    let read = stand.kernel.asked().counters - before.counters;
    // Likewise.
    let once = 2 * GROUPS;
    assert!(read == once || read == 2 * once, "{read}");
}

#[tokio::test]
async fn tables_follow_many_checks_at_once() {
    let listen = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listeners: Vec<_> = (0..20).map(|_| listen()).collect();
    let address = |listener: &TcpListener| listener.local_addr().expect("is bound");
    let blue: Vec<u16> = listeners.iter().map(|it| address(it).port()).collect();
    let stand = Stand::new(&probed_seldom(&blue, &[1]));
    while stand.status().await.colours["blue"].healthy != Some(true) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    // While the runner has other things to do, half of them die.
    let (done, wait) = channel::<()>();
    stand
        .agent
        .tell(move |_| wait.recv().expect("to be let go"));
    for port in &blue[..10] {
        stand.agent.checked(dead(*port));
    }
    done.send(()).expect("it waits");
    let status = stand.status().await;
    let relieved = status.colours["blue"].endpoints.iter();
    assert_eq!(relieved.filter(|it| it.handed_over).count(), 10);
    assert_eq!(stand.kernel.asked().hand_overs, 1, "all in one");
}

fn dead(port: u16) -> Report {
    Report {
        target: Target {
            group: "shop".into(),
            service: "web".into(),
            colour: "blue".into(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        },
        healthy: Some(false),
        reason: Some("connection refused".into()),
        standing: Standing::Dead,
    }
}

/// Groups of one service, with blue on ports from this one on.
fn groups(blue: usize) -> String {
    let mut text = "[agent]\ninterfaces = [\"eth0\"]\n".to_owned();
    for group in 0..GROUPS {
        let (vip, blue, green) = (100 + group, blue + group, 2000 + group);
        write!(
            text,
            r#"
[groups.g{group}]
initial = "blue"
[groups.g{group}.health]
kind = "none"
[groups.g{group}.services.web]
vip = "10.0.0.1:{vip}/tcp"
forward = "local"
endpoints.blue = ["10.0.0.1:{blue}"]
endpoints.green = ["10.0.0.1:{green}"]
"#
        )
        .expect("a string takes all");
    }
    text
}

#[tokio::test]
async fn floods_are_bounded_by_the_longest_arming() {
    let armed = |arm: &str| {
        let text = routed();
        let changed = text.replacen("arm = \"50ms\"", &format!("arm = \"{arm}\""), 1);
        assert_ne!(text, changed);
        changed
    };
    let stand = Stand::new(&armed("2s"));
    assert_eq!(stand.kernel.lock().arming, Duration::from_secs(2));
    apply(&stand, &armed("40s")).await.expect("is taken");
    assert_eq!(stand.kernel.lock().arming, Duration::from_secs(40));
}
