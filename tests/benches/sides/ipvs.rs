//! Beside IPVS, where a kernel has that: by address translation, by direct routing, and in tunnels.

use anyhow::Result;
use switcher_harness::Mode;

use crate::report::Report;
use crate::rounds::{COLUMNS, measure_at};
use crate::site::Site;
use crate::switch::Product;

/// nftables where it can be, as a mark that the other report has, too.
const PRODUCTS: [Product; 4] = [
    Product::Direct,
    Product::Nftables,
    Product::Ipvs,
    Product::Switcher,
];

pub(crate) fn measure(rounds: u32) -> Result<Report> {
    let mut report = Report::new("Beside IPVS", "IPVS", &COLUMNS);
    report.note(
        "In a virtual machine, else as without one: `routed` is beside IPVS's address translation (`-m`), `dsr` beside \
         its direct routing (`-g`), `ipip` beside its tunnels (`-i`). A tunnel's header is taken off by XDP, and by the kernel's \
         `ipip` where offloads are on. Ratios are those to IPVS.",
    );
    let mut sites = Vec::new();
    for offloads in [false, true] {
        for mode in [Mode::Routed, Mode::Dsr, Mode::Ipip] {
            sites.push((offloads, Site::new(mode, offloads)?));
        }
    }
    measure_at(&sites, &PRODUCTS, rounds, &mut report)?;
    Ok(report)
}
