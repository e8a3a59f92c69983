//! What the next agent takes over of the programs, and what it loads.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use aya::programs::ProgramInfo;
use switcher::config::XdpMode;
use switcher_common::abi::map;

use super::lab::Lab;

const INGRESS: &str = "switcher_ingress";

#[test]
fn programs_are_loaded_once_and_what_is_missing_is_loaded() {
    let Some(lab) = Lab::new("restart") else {
        return;
    };
    drop(lab.open(XdpMode::Native));
    let first = programs(&lab);
    assert_eq!(first[INGRESS], lab.xdp().1);

    drop(lab.open(XdpMode::Native));
    assert_eq!(programs(&lab), first, "nothing was loaded again");

    // As if the first agent had been killed on its way.
    fs::remove_file(object(&lab).join("switcher_errors")).expect("it was pinned");
    drop(lab.open(XdpMode::Native));
    let second = programs(&lab);
    assert_eq!(changed(&first, &second), ["switcher_errors"]);

    // A program whose map is not pinned any more would work beside the agent.
    fs::remove_file(lab.pins().map(map::NAT_SOURCES)).expect("it was pinned");
    drop(lab.open(XdpMode::Native));
    let third = programs(&lab);
    let of_it = ["switcher_egress", "switcher_nat", "switcher_odd_egress"];
    assert_eq!(changed(&second, &third), of_it);

    // Another version's.
    let other = object(&lab).with_file_name("0123456789abcdef");
    fs::rename(object(&lab), &other).expect("in one file system");
    drop(lab.open(XdpMode::Native));
    let fourth = programs(&lab);
    assert_eq!(changed(&third, &fourth).len(), third.len(), "all are new");
    assert_eq!(fourth[INGRESS], lab.xdp().1, "the link has the new program");
    assert!(!other.exists());
}

/// The only directory of programs.
fn object(lab: &Lab) -> PathBuf {
    let [object] = &lab.pins().objects()[..] else {
        panic!("{:?}", lab.pins().objects());
    };
    lab.pins().programs(object)
}

/// Ids of the pinned programs.
fn programs(lab: &Lab) -> BTreeMap<String, u32> {
    let pins = fs::read_dir(object(lab)).expect("it is there");
    let ids = pins.map(|pin| {
        let pin = pin.expect("it can be listed");
        let info = ProgramInfo::from_pin(pin.path()).expect("a program");
        (pin.file_name().into_string().expect("ASCII"), info.id())
    });
    ids.collect()
}

fn changed<'a>(before: &BTreeMap<String, u32>, after: &'a BTreeMap<String, u32>) -> Vec<&'a str> {
    assert!(before.keys().eq(after.keys()), "{before:?}, {after:?}");
    let changed = after.iter().filter(|(name, id)| before[*name] != **id);
    changed.map(|(name, _)| name.as_str()).collect()
}
