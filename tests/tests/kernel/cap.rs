//! A CPU makes only so many tags a tick, for SYNs and for what it learns.

use std::net::SocketAddrV4;

use anyhow::ensure;
use switcher_common::verdict::Reason;
use switcher_harness::privilege::is_root;
use switcher_tests::cases;
use switcher_tests::frame::{Build, flag};
use switcher_tests::kernel::{Changes, Entry, Kernel, next_tick};
use switcher_tests::site;
use switcher_tests::town::{CELL, CLIENT, GROUP, State};

use super::{agree, same};

const MOST: u32 = 5;
const FLOWS: u16 = 20;

#[test]
fn a_cpu_makes_only_so_many_tags_a_tick() -> anyhow::Result<()> {
    if !is_root("kernel::cap::a_cpu_makes_only_so_many_tags_a_tick") {
        return Ok(());
    }
    site::build()?.inside(|| {
        let mut kernel = Kernel::small()?;
        let mut state = State::new(cases::open());
        state.memory.settings.tags = MOST;
        // SYNs may get fewer.
        for (entry, syn_share, syns) in [
            (Entry::Xdp, 0, MOST),
            (Entry::Tc, 1, MOST),
            (Entry::Xdp, 2, MOST / 2),
            (Entry::Tc, 100, 1),
        ] {
            next_tick()?;
            let mut state = state.clone();
            state.memory.settings.syn_share = syn_share;
            kernel.fill(&state.memory)?;
            for (flags, first) in [(flag::SYN, 20_000), (flag::ACK, 30_000)] {
                for port in first..first + FLOWS {
                    let client = SocketAddrV4::new(*CLIENT.ip(), port);
                    let frame = Build::tcp(client, CELL, flags).bytes();
                    let _verdict = agree(&kernel, &state, entry, &frame)?;
                }
            }
            let theirs = kernel.read(&state.memory)?;
            same("maps", &Changes::of(&state.memory), &theirs)?;
            let tags = state.memory.windows.borrow()[&GROUP].flows.len();
            let refused = state.memory.reasons.borrow()[&Reason::TagRefused];
            ensure!(tags == (MOST + syns) as usize, "{tags} tags");
            // What is not learnt is old all the same.
            let expected = u64::from(FLOWS) - u64::from(syns);
            ensure!(refused == expected, "{refused} refused");
        }
        Ok(())
    })?
}
