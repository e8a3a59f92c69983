//! Explanations over maps in memory.

use switcher_common::abi::{Address, Tag, endpoint_flags};
use switcher_common::memory::{FlowMap, Told};
use switcher_common::word::Word;

use super::*;
use crate::datapath::memory::Memory as Twin;
use crate::reconcile::{Standing, Want, WantEndpoint, WantGroup, WantService, plan};

#[test]
fn a_request_goes_to_the_live_colour() {
    let (have, memory) = maps(Word::default());
    let found = over(&have, &memory, &Told::default(), &packet(80));
    assert_eq!((found.kind, found.action), ("request", "deliver"));
    assert_eq!(found.group.as_deref(), Some("shop"));
    assert_eq!(colour(&found), "blue");
    assert_eq!(found.bucket.map(|(_, of)| of), Some(256));
    assert!(
        found.reason.starts_with("the live colour's table"),
        "{found:?}"
    );
}

#[test]
fn a_preview_goes_to_the_staging_colour() {
    let (have, memory) = maps(Word::default());
    let found = over(&have, &memory, &Told::default(), &packet(90));
    assert_eq!((found.kind, colour(&found)), ("preview", "green"));
}

#[test]
fn others_are_nobodys() {
    let (have, memory) = maps(Word::default());
    let found = over(&have, &memory, &Told::default(), &packet(443));
    assert_eq!(
        (found.kind, found.action, found.endpoint),
        ("not-ours", "pass", None)
    );
    let direct = over(&have, &memory, &Told::default(), &packet(81));
    assert_eq!((direct.kind, direct.action), ("direct", "pass"));
}

#[test]
fn in_a_window_the_tag_decides_and_stays_as_it_is() {
    let open = |word: Word| word.arm().switch_to(1);
    let (have, memory) = maps(open(Word::default().with_in_use(1)));
    let unknown = over(&have, &memory, &Told::default(), &packet(80));
    assert_eq!((colour(&unknown), unknown.phase), ("blue", Some("open")));
    let (have, memory) = maps(open(Word::default().with_in_use(1)));
    let key = FlowKey {
        client: Address::v4([192, 0, 2, 1]),
        port: Port::new(4000),
        id: 0,
        space: flow_space::WINDOW,
    };
    let epoch = memory.word(0).epoch();
    let tag = Tag {
        endpoint: 2,
        epoch,
        ..Tag::default()
    };
    let flows = FlowMap {
        capacity: 9,
        flows: [(key, tag)].into(),
    };
    memory.windows.borrow_mut().insert(0, flows);
    let known = over(&have, &memory, &Told::default(), &packet(80));
    assert_eq!((known.tag, colour(&known)), (Some(2), "green"));
    assert!(known.reason.contains("remembered"), "{known:?}");
}

fn colour(found: &Explanation) -> &str {
    &found.endpoint.as_ref().expect("an endpoint").colour
}

fn packet(port: u16) -> MadeUpPacket {
    MadeUpPacket {
        protocol: Protocol::Tcp,
        source: SocketAddr::from(([192, 0, 2, 1], 4000)),
        destination: SocketAddr::from(([10, 0, 0, 1], port)),
        syn: false,
    }
}

/// A group with one service, after `word` if it is none of zero.
fn maps(word: Word) -> (Have, Memory) {
    let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
    let endpoint = |port| WantEndpoint {
        tunnel: Default::default(),
        address: at(port),
        weight: 1,
        flags: endpoint_flags::PRESENT,
        standing: Standing::Up,
    };
    let web = WantService {
        vip: at(80),
        protocol: TCP,
        flags: service_flags::PRESENT,
        preview: Some(at(90)),
        endpoints: [
            ("blue".into(), vec![endpoint(81)]),
            ("green".into(), vec![endpoint(82)]),
        ]
        .into(),
    };
    let shop = WantGroup {
        initial: "blue".into(),
        colours: vec!["blue".into(), "green".into()],
        services: [("web".into(), web)].into(),
        canary: None,
    };
    let want = Want {
        groups: [("shop".into(), shop)].into(),
    };
    let mut twin = Twin::default();
    let plan = plan(twin.state(), &want, 1).expect("nothing is in the way");
    plan.changes.iter().for_each(|change| twin.change(change));
    let mut have = twin.state().clone();
    if word != Word::default() {
        have.groups.get_mut(&0).expect("it is there").word = word;
    }
    let mut memory = Memory {
        services: have
            .services
            .iter()
            .map(|(i, found)| (*i, found.service))
            .collect(),
        endpoints: have.endpoints.clone(),
        words: have
            .groups
            .iter()
            .map(|(i, group)| (*i, group.word))
            .collect(),
        ..Memory::default()
    };
    for (table, buckets) in &have.tables {
        memory.fill(switcher_common::abi::TableRef(*table), buckets);
    }
    for (key, index) in &have.addresses {
        memory.publish(*key, *index);
    }
    (have, memory)
}
