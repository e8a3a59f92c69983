//! Traffic through each product, in turn.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use switcher_harness::{Mode, interrupt};

use crate::machine::busy;
use crate::report::{Better, Column, Report};
use crate::site::Site;
use crate::switch::Product;
use crate::wrk::{Load, Work};

/// Of one measurement.
const SECONDS: u32 = 1;

pub(crate) const COLUMNS: [Column; 8] = [
    Column::new("keep-alive requests/s", Better::More, true),
    Column::new("new connections/s", Better::More, true),
    Column::new("p50 µs", Better::Less, false),
    Column::new("p99 µs", Better::Less, false),
    Column::new("p99.9 µs", Better::Less, false),
    Column::new("CPU µs/request above direct", Better::Less, false),
    Column::new("stream Gbit/s", Better::More, true),
    Column::new("the same, offloads on", Better::More, true),
];

pub(crate) fn measure(rounds: u32) -> Result<Report> {
    let mut report = Report::new("Side by side", "nftables", &COLUMNS);
    report.note(
        "wrk with 32 connections of one thread, nginx as the servers, iperf3 with one stream; all hosts are network \
         namespaces of this machine. The last column is Switcher with `xdp = \"tc\"`, else it is native XDP. CPU is \
         that of the whole machine less what it takes without anything between. Between two products all hosts forget \
         connections that are over.",
    );
    let modes = [Mode::Local, Mode::Routed, Mode::Masquerade];
    let mut sites = Vec::new();
    for offloads in [false, true] {
        for mode in modes {
            sites.push((offloads, Site::new(mode, offloads)?));
        }
    }
    measure_at(&sites, &Product::ALL, rounds, &mut report)?;
    goals(&mut report);
    Ok(report)
}

/// Round after round, at each site without offloads and with them in turn: a column of its own is for these.
pub(crate) fn measure_at(
    sites: &[(bool, Site)],
    products: &[Product],
    rounds: u32,
    report: &mut Report,
) -> Result<()> {
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let mut direct = f64::NAN;
        for (offloads, site) in sites {
            for product in products {
                interrupt::check()?;
                let mode = site.topology.mode;
                let same = *offloads && *product == Product::SwitcherAtTc;
                if same || !product.works(mode) {
                    continue;
                }
                let row = (mode.to_string(), product.to_string());
                let failed = || format!("{product}, {mode}");
                let _product = product.set_up(site, *offloads).with_context(failed)?;
                site.forget()?;
                if *offloads {
                    report.add(&row, 7, stream(site, *product).with_context(failed)?);
                    continue;
                }
                let values = traffic(site, *product).with_context(failed)?;
                if *product == Product::Direct {
                    direct = values[5];
                }
                for (column, value) in values.into_iter().enumerate() {
                    let value = if column == 5 { value - direct } else { value };
                    report.add(&row, column, value);
                }
                report.add(&row, 6, stream(site, *product).with_context(failed)?);
            }
        }
    }
    Ok(())
}

/// All columns but those of streams.
fn traffic(site: &Site, product: Product) -> Result<[f64; 6]> {
    let [web, _] = product.services(site);
    let before = busy()?;
    let kept = Load::start(site, web, Work::KeepAlive, SECONDS)?.finish()?;
    let worked = busy()? - before;
    let new = Load::start(site, web, Work::New, SECONDS)?.finish()?;
    ensure!(
        kept.errors + new.errors == 0.0,
        "{} of {} keep-alive requests and {} of {} new connections failed",
        kept.errors,
        kept.requests,
        new.errors,
        new.requests
    );
    let [p50, p99, p999] = kept.latency;
    Ok([
        kept.requests / kept.seconds,
        new.requests / new.seconds,
        p50,
        p99,
        p999,
        worked * 1e6 / kept.requests,
    ])
}

/// Gbit/s.
fn stream(site: &Site, product: Product) -> Result<f64> {
    let [_, bulk] = product.services(site);
    let (host, port) = (bulk.ip().to_string(), bulk.port().to_string());
    let seconds = SECONDS.to_string();
    let mut command: Command = site.topology.client.command("iperf3");
    command.args(["-J", "-c", &host, "-p", &port, "-t", &seconds]);
    let output = command.output().context("starting iperf3")?;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let rate = answer["end"]["sum_received"]["bits_per_second"].as_f64();
    let rate = rate.with_context(|| format!("iperf3: {}", answer["error"]))?;
    Ok(rate / 1e9)
}

/// What Switcher is to reach.
fn goals(report: &mut Report) {
    for mode in [Mode::Local, Mode::Routed, Mode::Masquerade] {
        let mode = mode.to_string();
        for (other, column, least) in [
            ("nftables", 0, 1.05),
            ("nftables", 1, 1.4),
            ("nftables", 6, 1.7),
            ("nftables", 7, 0.9),
            ("HAProxy", 0, 1.7),
            ("nginx", 0, 1.7),
        ] {
            for ours in [Product::Switcher, Product::SwitcherAtTc] {
                report.goal(&mode, (&ours.to_string(), other), column, least);
            }
        }
    }
}
