//! The page in a browser.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use switcher_harness::config::GROUP;
use switcher_harness::{Bridge, Browser, Stand};

use crate::last;

/// Where everybody may look.
const PUBLIC: &str = "http://10.77.0.1:9464/";
pub(crate) const BODY: &str = "document.querySelector('#change-body').innerText";
const NEXT: &str = "document.querySelector('.next').innerText";
pub(crate) const OPEN: &str = "document.querySelector('#change').open";

/// Through the agent's socket, by keys and mouse; then as somebody who may only look.
pub(crate) fn is_used(stand: &mut Stand) -> Result<()> {
    let directory = stand.agent.place().directory().join("browser");
    std::fs::create_dir(&directory)?;
    let switch = &stand.topology.switch;
    let bridge = Bridge::start(switch, &stand.agent.place().socket())?;
    let mut browser = Browser::start(switch, &directory)?;
    let page = &mut browser;
    page.look(1280, 900, false)?;
    page.open(&format!("http://{}/", bridge.address()))?;
    page.until(&live("blue"))?;
    page.until("document.querySelector('#who').innerText.endsWith('admin')")?;
    page.until(&carries("blue"))?;

    refusal(page, stand)?;
    flip(page, stand)?;
    history(page)?;
    looks(page, "page")?;
    rollback(page, stand)?;
    confirmed(page, stand)?;
    ensure!(page.complaints().is_empty(), "{:?}", page.complaints());
    loss(page, stand)?;
    everybody(page, stand, bridge.address().to_string().as_str())
}

/// By keys alone: what is in the way is shown, and can't be made.
fn refusal(page: &mut Browser, stand: &Stand) -> Result<()> {
    let freeze = ["freeze", GROUP, "--reason", "for the audit"];
    stand.agent.cli(&freeze)?.expect(0)?;
    page.until("document.querySelector('.facts').innerText.includes('for the audit')")?;
    tab_to(page, "Flip to green")?;
    page.press("Enter")?;
    page.until(OPEN)?;
    page.until(&format!(
        "{BODY}.includes('would be refused') && {BODY}.includes('for the audit')"
    ))?;
    page.until("document.querySelector('#change-make').disabled")?;
    looks(page, "refused")?;
    page.press("Escape")?;
    page.until(&format!("!{OPEN}"))?;
    let focused = page.text("document.activeElement.innerText")?;
    ensure!(
        focused == "Flip to green",
        "the focus is where it was, not at {focused}"
    );
    stand.agent.cli(&["unfreeze", GROUP])?.expect(0).map(drop)
}

/// By keys alone: what would be done is shown, and done.
fn flip(page: &mut Browser, stand: &Stand) -> Result<()> {
    page.press("Enter")?;
    page.until(&format!(
        "{OPEN} && {BODY}.includes('Nothing is in its way')"
    ))?;
    ensure!(stand.agent.live()? == "blue", "it was only tried");
    looks(page, "change")?;
    page.until("document.activeElement.id === 'change-make'")?;
    page.press("Enter")?;
    page.until(&format!("{BODY}.includes('Done: green is live, settled')"))?;
    ensure!(stand.agent.live()? == "green");
    page.press("Escape")?;
    page.until(&live("green"))?;
    page.until(&carries("green"))?;
    page.until("document.querySelector('[data-colour=green] .role').innerText === 'live'")?;
    page.until("document.querySelector('#said').textContent.includes('green is live')")
}

/// It lists the flip, with its receipt.
fn history(page: &mut Browser) -> Result<()> {
    page.until("document.querySelector('tbody tr').innerText.includes('flip')")?;
    page.click("document.querySelector('tbody tr button')")?;
    page.until("document.querySelector('#receipt').open")?;
    let receipt = "document.querySelector('#receipt-body').innerText";
    for text in ["after the store", "word", "root", "asked for"] {
        page.until(&format!("{receipt}.includes('{text}')"))?;
    }
    page.press("Escape")?;
    page.until("!document.querySelector('#receipt').open")
}

/// Narrow and wide, light and dark: nothing sticks out, and text can be told from what is behind it.
fn looks(page: &mut Browser, name: &str) -> Result<()> {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (width, height) in [(360, 740), (1280, 900)] {
        for dark in [false, true] {
            page.look(width, height, dark)?;
            let beyond =
                "document.documentElement.scrollWidth - document.documentElement.clientWidth";
            page.until(&format!("({beyond}) === 0"))?;
            page.until(WITHIN)?;
            let pale = page.evaluate(PALE)?;
            ensure!(
                pale.as_array().is_some_and(Vec::is_empty),
                "{name}, {width}, dark {dark}: {pale:#}"
            );
            let shot = page.screenshot()?;
            ensure!(
                shot.len() > 20_000,
                "a picture of nothing: {} bytes",
                shot.len()
            );
            let scheme = if dark { "dark" } else { "light" };
            let file = format!("{name}-{width}-{scheme}.png.base64");
            std::fs::write(kept.join(file), shot)?;
        }
    }
    page.look(1280, 900, false)
}

/// That the dialog that is open, if one is, has room for what it says, and is seen as a whole.
const WITHIN: &str = "[...document.querySelectorAll('dialog[open]')].every((it) => {
    const at = it.getBoundingClientRect();
    return it.scrollWidth <= it.clientWidth && at.left >= 0 && at.right <= innerWidth
        && at.top >= 0 && at.bottom <= innerHeight;
})";

/// Elements whose own text has less than 4.5 times the light of what is behind it, or the other way round (WCAG 2.2, 1.4.3).
const PALE: &str = "(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const bytes = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const light = (of) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, index) => {
        const it = of[index] / 255;
        return sum + weight * (it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4);
    }, 0);
    const behind = (element) => {
        for (let it = element; it; it = it.parentElement) {
            const colour = bytes(getComputedStyle(it).backgroundColor);
            if (colour[3] === 255) return colour;
        }
        return [255, 255, 255];
    };
    const own = (it) => [...it.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const seen = [...document.querySelectorAll('body *')].filter((it) => own(it) && it.checkVisibility()
        && !it.disabled && !it.closest('.unseen, noscript'));
    return seen.map((it) => {
        const style = getComputedStyle(it);
        const [a, b] = [light(bytes(it instanceof SVGElement ? style.fill : style.color)), light(behind(it))];
        return [it.textContent, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    }).filter(([, contrast]) => contrast < 4.5);
})()";

/// By mouse.
fn rollback(page: &mut Browser, stand: &Stand) -> Result<()> {
    page.click("document.querySelector('[data-verb=rollback]')")?;
    page.until(&format!(
        "{OPEN} && {BODY}.includes('Nothing is in its way')"
    ))?;
    page.evaluate("document.querySelector('#change-reason').focus()")?;
    for letter in ["l", "a", "t", "e"] {
        page.evaluate(&format!(
            "document.execCommand('insertText', false, '{letter}')"
        ))?;
    }
    page.click("document.querySelector('#change-make')")?;
    page.until(&format!("{BODY}.includes('Done: blue is live')"))?;
    let back = last(stand)?;
    ensure!(
        back["kind"] == "rollback" && back["reason"] == "late",
        "{back:#}"
    );
    page.press("Escape")?;
    page.until(&live("blue"))
}

/// A flip that somebody has ordered elsewhere: what becomes of it unless it is confirmed, and how the colours do.
/// By keys alone it is confirmed, which is on record.
fn confirmed(page: &mut Browser, stand: &Stand) -> Result<()> {
    stand
        .agent
        .cli(&["wait", GROUP, "--for", "idle", "--timeout", "50s"])?
        .expect(0)?;
    let flip = ["flip", GROUP, "green", "--confirm-within", "10m"];
    stand.agent.cli(&flip)?.expect(0)?;
    page.until("document.querySelector('.phase').innerText === 'confirming'")?;
    page.until(&format!(
        "{NEXT}.includes('blue is live again, unless this is confirmed')"
    ))?;
    counts_down(page)?;
    health(page, stand)?;
    tab_to(page, "Confirm green")?;
    page.press("Enter")?;
    page.until(&format!(
        "{OPEN} && {BODY}.includes('Nothing is in its way')"
    ))?;
    ensure!(last(stand)?["confirmed"].is_null(), "it was only tried");
    page.until("document.activeElement.id === 'change-make'")?;
    page.press("Enter")?;
    page.until(&format!("{BODY}.includes('Done: green is live')"))?;
    page.press("Escape")?;
    page.until(&format!("!{NEXT}.includes('unless this is confirmed')"))?;
    page.until("!document.querySelector('[data-verb=confirm]')")?;
    let flip = last(stand)?;
    let expected = flip["kind"] == "flip" && flip["confirmed"].is_string();
    ensure!(expected && stand.agent.live()? == "green", "{flip:#}");
    page.click("document.querySelector('tbody tr button')")?;
    let receipt = "document.querySelector('#receipt-body').innerText";
    for text in ["confirm by", "confirmed\\n"] {
        page.until(&format!("{receipt}.includes('{text}')"))?;
    }
    page.press("Escape")?;
    page.until("!document.querySelector('#receipt').open")?;
    stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    page.until(&live("blue"))
}

/// What is left of ten minutes, less and less of it.
fn counts_down(page: &mut Browser) -> Result<()> {
    let left = "document.querySelector('.countdown').innerText";
    page.until(&format!("/^in (10m|9m [1-5]?[0-9]s)$/.test({left})"))?;
    let before = page.text(left)?;
    page.until(&format!("{left} !== '{before}'"))?;
    page.until(&format!("/^in 9m [1-5]?[0-9]s$/.test({left})"))
}

/// All endpoints of a colour, and why one of them is not well.
fn health(page: &mut Browser, stand: &Stand) -> Result<()> {
    let said = |colour: &str| format!("document.querySelector('[data-colour={colour}]').innerText");
    for colour in ["blue", "green"] {
        page.until(&format!(
            r"/\bhealthy, (\d+) of \1\b/.test({})",
            said(colour)
        ))?;
    }
    stand.servers.set_healthy("blue", false);
    let blue = said("blue");
    page.until(&format!(
        "{blue}.includes('not healthy') && {blue}.includes('HTTP status 503')"
    ))?;
    ensure!(
        !page.text(&said("green"))?.contains("not healthy"),
        "green is well"
    );
    stand.servers.set_healthy("blue", true);
    page.until(&format!("!{blue}.includes('not healthy')"))
}

/// The agent goes, and comes back.
fn loss(page: &mut Browser, stand: &mut Stand) -> Result<()> {
    let said = "document.querySelector('#lost').innerText.includes('does not answer')";
    stand.agent.kill()?;
    page.until(said)?;
    stand.agent.start()?;
    page.until(&format!("!({said})"))
}

/// Who may only look sees the same, has no buttons, and can't have others' browsers press them either.
fn everybody(page: &mut Browser, stand: &Stand, agent: &str) -> Result<()> {
    page.open(PUBLIC)?;
    page.until(&live("blue"))?;
    page.until(&carries("blue"))?;
    page.until("document.querySelector('tbody tr').innerText.includes('rollback')")?;
    page.click("document.querySelector('tbody tr button')")?;
    page.until("document.querySelector('#receipt-body').innerText.includes('after the store')")?;
    let buttons = page.evaluate("document.querySelectorAll('.actions button').length")?;
    ensure!(buttons == 0, "{buttons} buttons");
    let before = stand.agent.json(&["audit", "-n", "1"])?;
    for (target, mode) in [
        (PUBLIC.to_owned(), "cors"),
        (format!("http://{agent}/"), "no-cors"),
    ] {
        // The page's own policy would stop the second: an empty page has none.
        if mode == "no-cors" {
            page.open(&format!("{PUBLIC}healthz"))?;
        }
        let post = format!(
            "fetch('{target}v1/groups/{GROUP}/flip', {{ method: 'POST', mode: '{mode}', body: '{{}}' }})\
             .then((it) => it.status, String)"
        );
        let answer = page.evaluate(&post)?;
        ensure!(answer != 200, "{target}: {answer}");
    }
    ensure!(stand.agent.live()? == "blue");
    let after = stand.agent.json(&["audit", "-n", "1"])?;
    ensure!(before == after, "nothing was even asked: {after:#}");
    Ok(())
}

/// Goes on with the Tab key until the focus is at a button.
fn tab_to(page: &mut Browser, text: &str) -> Result<()> {
    for _ in 0..20 {
        page.press("Tab")?;
        if page.evaluate("document.activeElement.innerText")? == text {
            return Ok(());
        }
    }
    let page = page.text("document.body.innerText")?;
    Err(anyhow::anyhow!("{text} can't be reached by keys:\n{page}")).context("keyboard")
}

pub(crate) fn live(colour: &str) -> String {
    format!("document.querySelector('.group')?.dataset.live === '{colour}'")
}

/// That a colour has traffic, as the chart says it to those who do not see it.
fn carries(colour: &str) -> String {
    format!(
        "/{colour} [1-9]/.test(document.querySelector('.packets svg').getAttribute('aria-label'))"
    )
}
