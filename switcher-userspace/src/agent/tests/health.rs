//! Endpoints come and go under a running agent.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use switcher_common::word::Phase;

use super::stand::{Kernel, probed_at};
use super::*;
use crate::maglev;
use crate::release::Kind;

#[tokio::test]
async fn a_dead_endpoint_is_relieved_in_place_and_comes_back_by_a_window() {
    let (stays, goes) = (listen(0), listen(0));
    let ports = [&stays, &goes].map(|it| it.local_addr().expect("is bound").port());
    let text = probed_at(&ports, &[1]);
    let stand = Stand::new(&text);
    let ids = ports.map(|port| stand.kernel.endpoint(port));
    let healthy = async || {
        let status = stand.status().await;
        status.colours["blue"].healthy == Some(true)
    };
    until("both are healthy", healthy).await;
    assert_eq!(
        dealt(&stand.kernel),
        BTreeMap::from([(ids[0], 128), (ids[1], 128)])
    );
    let word = stand.kernel.word();

    drop(goes);
    until("it is relieved", async || {
        dealt(&stand.kernel) == BTreeMap::from([(ids[0], 256)])
    })
    .await;
    assert_eq!(stand.kernel.word(), word, "no window");
    let status = stand.status().await;
    let gone = &status.colours["blue"].endpoints[1];
    assert!(gone.handed_over && status.warnings.len() == 1, "{status:?}");

    // Another agent finds it so, and does not know better before it has asked.
    let stand = stand.restart(&text);
    assert_eq!(dealt(&stand.kernel), BTreeMap::from([(ids[0], 256)]));
    until("it is found dead again", async || {
        stand.status().await.colours["blue"].healthy == Some(false)
    })
    .await;
    assert_eq!(stand.kernel.word(), word, "still no window");

    let _back = listen(ports[1]);
    until("it has its share again", async || {
        dealt(&stand.kernel) == BTreeMap::from([(ids[0], 128), (ids[1], 128)])
    })
    .await;
    assert_ne!(stand.kernel.word().current(), word.current(), "by a window");
    until("the window is over", async || {
        stand.kernel.word().phase() == Phase::Steady
            && stand.kernel.lock().state().groups[&0].slots.len() == 2
    })
    .await;
    let history = stand.agent.ask(|runner| runner.history(None, 10)).await;
    let history = history.expect("answers").expect("reads");
    assert_eq!(
        history.iter().map(|it| it.kind).collect::<Vec<_>>(),
        [Kind::Update]
    );
    assert!(stand.status().await.warnings.is_empty());
}

#[tokio::test]
async fn the_last_endpoint_keeps_its_buckets_and_status_says_so() {
    let only = listen(0);
    let port = only.local_addr().expect("is bound").port();
    let stand = Stand::new(&probed_at(&[port], &[1]));
    let id = stand.kernel.endpoint(port);
    drop(only);
    until("it is found dead", async || {
        stand.status().await.colours["blue"].healthy == Some(false)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let status = stand.status().await;
    assert_eq!(dealt(&stand.kernel), BTreeMap::from([(id, 256)]));
    assert_eq!(status.phase, "degraded");
    assert!(status.degraded[0].contains("stay"), "{:?}", status.degraded);
}

fn listen(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).expect("listens")
}

/// Buckets by endpoint in the current table.
fn dealt(kernel: &Kernel) -> BTreeMap<u16, u64> {
    let memory = kernel.lock();
    let have = memory.state();
    let slot = have.groups[&0].word.current() as usize;
    maglev::count(&have.tables[&have.services[&0].service.tables[slot].0])
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}
