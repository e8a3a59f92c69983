//! Tables follow health: in place what is dead, by a window what comes back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::*;
use super::{SEED, after, close, group, want};
use crate::maglev;

const GREEN: (&str, &[u16]) = ("green", &[90]);

#[test]
fn what_a_dead_endpoint_had_goes_to_the_others_in_place() {
    let mut want = want(&[("blue", &[81, 82, 83]), GREEN], None);
    let mut kernel = Memory::from(after(&Have::default(), &want));
    let (word, before) = (kernel.state().groups[&0].word, current(kernel.state()));
    stand(&mut want, 82, Standing::Dead);
    let changes = hand_over(kernel.state(), "shop", group(&mut want), SEED);
    assert!(
        matches!(changes.as_slice(), [Change::HandOver { .. }]),
        "{changes:?}"
    );
    changes.iter().for_each(|change| kernel.change(change));
    let now = current(kernel.state());
    for (was, is) in before.iter().zip(&now) {
        assert!(*is != 2 && (was == is || *was == 2), "{was} -> {is}");
    }
    assert_eq!(kernel.state().groups[&0].word, word);
    assert!(hand_over(kernel.state(), "shop", group(&mut want), SEED).is_empty());
    assert_eq!(
        tended(&kernel, &mut want),
        Plan::default(),
        "nothing else is to be done"
    );
    assert!(
        plan(kernel.state(), &want, SEED)
            .expect("a plan")
            .is_empty()
    );

    // A new agent doesn't know yet.
    stand(&mut want, 82, Standing::Unknown);
    assert_eq!(tended(&kernel, &mut want), Plan::default());

    stand(&mut want, 82, Standing::Up);
    let back = tended(&kernel, &mut want);
    assert_eq!(
        back.changes.last(),
        Some(&Change::Switch { group: 0, slot: 2 })
    );
    back.changes.iter().for_each(|change| kernel.change(change));
    assert_eq!(current(kernel.state()), before, "as it was");
    close(&mut kernel, 0);
    let tidied = tended(&kernel, &mut want);
    tidied
        .changes
        .iter()
        .for_each(|change| kernel.change(change));
    assert_eq!(kernel.state().groups[&0].slots.len(), 2);
    assert_eq!(tended(&kernel, &mut want), Plan::default());
}

#[test]
fn the_last_one_keeps_what_it_has() {
    let mut want = want(&[("blue", &[81, 82]), GREEN], None);
    let mut kernel = Memory::from(after(&Have::default(), &want));
    stand(&mut want, 81, Standing::Dead);
    for change in hand_over(kernel.state(), "shop", group(&mut want), SEED) {
        kernel.change(&change);
    }
    for last in [Standing::Dead, Standing::Failing, Standing::Unknown] {
        stand(&mut want, 82, last);
        assert_eq!(
            hand_over(kernel.state(), "shop", group(&mut want), SEED),
            []
        );
        assert_eq!(tended(&kernel, &mut want), Plan::default(), "{last:?}");
    }
}

#[test]
fn who_answers_but_fails_is_left_by_a_window() {
    let mut want = want(&[("blue", &[81, 82]), GREEN], None);
    let kernel = Memory::from(after(&Have::default(), &want));
    stand(&mut want, 81, Standing::Failing);
    assert_eq!(
        hand_over(kernel.state(), "shop", group(&mut want), SEED),
        []
    );
    let plan = tended(&kernel, &mut want);
    assert_eq!(
        plan.changes.last(),
        Some(&Change::Switch { group: 0, slot: 2 })
    );
    let filled = plan.changes.iter().find_map(|change| match change {
        Change::FillTable { buckets, .. } => Some(maglev::count(buckets)),
        _ => None,
    });
    assert_eq!(filled, Some(BTreeMap::from([(2, 256)])));
}

#[test]
fn the_idle_colour_is_left_alone() {
    let mut want = want(&[GREEN, ("blue", &[81, 82])], None);
    group(&mut want).initial = "green".into();
    let kernel = Memory::from(after(&Have::default(), &want));
    stand(&mut want, 81, Standing::Dead);
    assert_eq!(
        hand_over(kernel.state(), "shop", group(&mut want), SEED),
        []
    );
    assert_eq!(tended(&kernel, &mut want), Plan::default());
}

#[test]
fn in_a_window_the_dead_are_replaced_and_nobody_comes_back() {
    let mut want = want(&[("blue", &[81, 82]), GREEN], None);
    let mut kernel = Memory::from(after(&Have::default(), &want));
    let word = kernel.state().groups[&0].word.switch_to(1).switch_to(0);
    kernel.change(&Change::SetWord { group: 0, word });
    stand(&mut want, 81, Standing::Dead);
    let changes = hand_over(kernel.state(), "shop", group(&mut want), SEED);
    assert_eq!(changes.len(), 1);
    changes.iter().for_each(|change| kernel.change(change));
    stand(&mut want, 81, Standing::Up);
    assert_eq!(
        tended(&kernel, &mut want),
        Plan::default(),
        "the window is open"
    );
    close(&mut kernel, 0);
    assert!(!tended(&kernel, &mut want).is_empty());
}

proptest! {
    /// An agent that dies between two buckets leaves a table that serves, and the next one goes on.
    #[test]
    fn a_hand_over_can_stop_anywhere(
        dead in prop::collection::vec(any::<bool>(), 5), stops in 0usize..600,
    ) {
        let ports = [81, 82, 83, 84, 85];
        let mut want = want(&[("blue", &ports), GREEN], None);
        let mut kernel = Memory::from(after(&Have::default(), &want));
        let before = current(kernel.state());
        for (port, _) in ports.iter().zip(&dead).filter(|(_, dead)| **dead) {
            stand(&mut want, *port, Standing::Dead);
        }
        for change in hand_over(kernel.state(), "shop", group(&mut want), SEED) {
            if let Change::HandOver { table, mut buckets } = change {
                buckets.truncate(stops);
                kernel.change(&Change::HandOver { table, buckets });
            }
        }
        for change in hand_over(kernel.state(), "shop", group(&mut want), SEED) {
            kernel.change(&change);
        }
        let is_dead = |id: u16| dead[usize::from(id) - 1] && dead.contains(&false);
        for (was, is) in before.iter().zip(current(kernel.state())) {
            prop_assert!(!is_dead(is) && (is_dead(*was) || *was == is));
        }
        prop_assert_eq!(tended(&kernel, &mut want), Plan::default());
    }
}

fn tended(kernel: &Memory, want: &mut Want) -> Plan {
    plan_group(kernel.state(), "shop", group(want), SEED).expect("nothing is in the way")
}

fn stand(want: &mut Want, port: u16, standing: Standing) {
    let services = group(want).services.values_mut();
    let endpoints = services.flat_map(|service| service.endpoints.values_mut().flatten());
    for endpoint in endpoints.filter(|endpoint| endpoint.address.port() == port) {
        endpoint.standing = standing;
    }
}

/// The buckets of the service's current table.
fn current(have: &Have) -> Vec<u16> {
    let slot = have.groups[&0].word.current() as usize;
    have.tables[&have.services[&0].service.tables[slot].0].to_vec()
}
