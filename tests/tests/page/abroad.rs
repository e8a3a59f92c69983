//! The page in browsers on another host, by mutual TLS: a certificate's role decides which buttons there are.

use std::path::Path;

use anyhow::{Result, ensure};
use switcher_harness::browser::Passport;
use switcher_harness::config::GROUP;
use switcher_harness::{Browser, Stand, privilege};
use switcher_tests::authority::Authority;

use crate::last;
use crate::web::{BODY, OPEN, live};

const LISTEN: &str = "10.77.0.1:9465";
const URL: &str = "https://10.77.0.1:9465/";
const ROLES: &str = "viewer = [\"cert:grafana\"]\noperator = [\"cert:ann\"]";
const BUTTONS: &str = "document.querySelectorAll('.actions button').length";

#[test]
fn people_on_other_hosts_flip_by_certificate() {
    privilege::run("people_on_other_hosts_flip_by_certificate", || {
        let (stand, authority) = Authority::stand(LISTEN.parse()?, ROLES)?;
        let directory = stand.agent.place().directory();
        stand.until(|it| it["colours"]["green"]["healthy"] == true)?;
        operator(&stand, &authority, directory)?;
        viewer(&stand, &authority, directory)
    });
}

/// Flips, and is recorded by the certificate's name.
fn operator(stand: &Stand, authority: &Authority, directory: &Path) -> Result<()> {
    let mut page = browser(stand, authority, directory, "ann")?;
    page.until(&live("blue"))?;
    page.until("document.querySelector('#who').innerText.endsWith('operator')")?;
    page.click("document.querySelector('[data-verb=flip]')")?;
    page.until(&format!(
        "{OPEN} && {BODY}.includes('Nothing is in its way')"
    ))?;
    page.click("document.querySelector('#change-make')")?;
    page.until(&format!("{BODY}.includes('Done: green is live, settled')"))?;
    ensure!(stand.agent.live()? == "green");
    page.press("Escape")?;
    // Told by the stream of events.
    page.until(&live("green"))?;
    let flip = last(stand)?;
    let actor = flip["actor"].as_str().unwrap_or_default();
    ensure!(
        flip["kind"] == "flip" && actor.contains("ann (certificate, from 10.77.0.2"),
        "{flip:#}"
    );
    ensure!(page.complaints().is_empty(), "{:?}", page.complaints());
    Ok(())
}

/// Sees what others do, and has no buttons.
fn viewer(stand: &Stand, authority: &Authority, directory: &Path) -> Result<()> {
    let mut page = browser(stand, authority, directory, "grafana")?;
    page.until(&live("green"))?;
    page.until("document.querySelector('#who').innerText.endsWith('viewer')")?;
    let buttons = page.evaluate(BUTTONS)?;
    ensure!(buttons == 0, "{buttons} buttons");
    stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    page.until(&live("blue"))?;
    let post = format!(
        "fetch('{URL}v1/groups/{GROUP}/flip', {{ method: 'POST', body: '{{}}', \
         headers: {{ 'content-type': 'application/json' }} }}).then((it) => it.status, String)"
    );
    let answer = page.evaluate(&post)?;
    ensure!(answer == 403 && stand.agent.live()? == "blue", "{answer}");
    Ok(())
}

fn browser(stand: &Stand, authority: &Authority, directory: &Path, name: &str) -> Result<Browser> {
    let home = directory.join(name);
    std::fs::create_dir(&home)?;
    let own = authority.sign(name, name, &[], 2100)?;
    let passport = Passport {
        authority: authority.file(),
        cert: &own.cert,
        key: &own.key,
    };
    let mut page = Browser::start_with(&stand.topology.client, &home, &passport)?;
    page.look(1280, 900, false)?;
    page.open(URL)?;
    Ok(page)
}
