//! Hooks: defaults, and what fits together.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::report::{Place, Report};
use crate::config::typed::TypedHook;
use crate::config::{Format, Hook, HookKind, On, Program, Webhook};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Who is asked to decide is asked once; who is told something is told again.
const RETRIES: u32 = 0;
const RETRIES_WHEN_TOLD: u32 = 3;

/// A group's hooks; those that make no sense are reported, and left out.
pub(super) fn mean(typed: Vec<TypedHook>, report: &Report<'_>) -> Vec<Hook> {
    let mut names = BTreeSet::new();
    let mut hooks = Vec::new();
    for (index, typed) in typed.into_iter().enumerate() {
        let at = typed.name.as_ref().map(|name| name.at.clone());
        let at = at.unwrap_or_else(|| typed.at.at.clone());
        let Some(hook) = hook(typed, index + 1, report) else {
            continue;
        };
        if !names.insert(hook.name.clone()) {
            let message = format_args!("two hooks are called {:?}", hook.name);
            report.error(&at, message, "give each a name of its own");
        }
        hooks.push(hook);
    }
    hooks
}

fn hook(typed: TypedHook, number: usize, report: &Report<'_>) -> Option<Hook> {
    fit(&typed, report);
    let TypedHook {
        at,
        name,
        on,
        exec,
        user,
        url,
        format,
        secret_file,
        ca_file,
        metadata,
        timeout,
        retries,
        on_failure,
    } = typed;
    let what = match (exec, url) {
        (Some(exec), None) => HookKind::Exec(Program {
            argv: exec.value,
            user: user.map(|user| user.value),
        }),
        (None, Some(url)) => HookKind::Web(Webhook {
            url: url.value,
            format: format.map_or(Format::Plain, |format| format.value),
            secret_file: secret_file.map(|file| file.value),
            ca_file: ca_file.map(|file| file.value),
            metadata: metadata
                .map(|typed| typed.value.into_iter().collect())
                .unwrap_or_default(),
        }),
        // What it is could not be understood, which is reported.
        (None, None) if at.value => return None,
        (exec, url) => {
            let advice = "write one of `exec = [...]` and `url = \"...\"`";
            let message = match (exec, url) {
                (None, None) => "it says neither what to run nor what to call",
                (_, _) => "it says both what to run and what to call",
            };
            report.error(&at.at, message, advice);
            return None;
        }
    };
    let on = on?.value;
    let decides = decides(on.on);
    let default = if decides { RETRIES } else { RETRIES_WHEN_TOLD };
    Some(Hook {
        name: name.map_or_else(|| format!("{}-{number}", on.name), |name| name.value),
        on: on.on,
        what,
        timeout: timeout.map_or(TIMEOUT, |timeout| timeout.value),
        retries: retries.map_or(default, |retries| retries.value),
        abort: on_failure.map_or(decides, |abort| abort.value),
    })
}

/// Whether a hook can change what happens.
fn decides(on: On) -> bool {
    match on {
        On::Moment(moment) => moment.is_waited_for(),
        On::Event | On::Over | On::Rollback => false,
    }
}

/// Keys that don't go together.
fn fit(typed: &TypedHook, report: &Report<'_>) {
    let without = |at: &Place, what: &str, needs: &str| {
        report.error(
            at,
            format_args!("only {what}"),
            format_args!("{needs}, or remove it"),
        );
    };
    if let Some(user) = typed.user.as_ref().filter(|_| typed.exec.is_none()) {
        without(&user.at, "programs run as somebody", "choose `exec`");
    }
    let is_web = typed.url.is_some();
    let places = [
        typed.format.as_ref().map(|it| &it.at),
        typed.secret_file.as_ref().map(|it| &it.at),
        typed.ca_file.as_ref().map(|it| &it.at),
        typed.metadata.as_ref().map(|it| &it.at),
    ];
    for at in places.into_iter().flatten().filter(|_| !is_web) {
        without(at, "receivers of requests have that", "choose `url`");
    }
    let https = typed.url.as_ref();
    let https = https.is_none_or(|url| url.value.starts_with("https:"));
    if let Some(file) = typed.ca_file.as_ref().filter(|_| !https) {
        without(&file.at, "https knows certificates", "write an https URL");
    }
    let flagger = typed.format.as_ref();
    let flagger = flagger.is_some_and(|format| format.value == Format::Flagger);
    if let Some(metadata) = typed.metadata.as_ref().filter(|_| is_web && !flagger) {
        let needs = "choose format = \"flagger\"";
        without(&metadata.at, "Flagger's format has metadata", needs);
    }
    let Some(on) = &typed.on else {
        return;
    };
    if on.value.flagger && !flagger {
        let message = format_args!("{:?} is Flagger's word", on.value.name);
        let advice = "choose format = \"flagger\", or the word that is used here";
        report.error(&on.at, message, advice);
    }
    if let Some(failure) = typed.on_failure.as_ref()
        && failure.value
        && !decides(on.value.on)
    {
        let message = format_args!("what failed at {:?} can't stop anything", on.value.name);
        let advice = "choose on_failure = \"ignore\", or another moment";
        report.error(&failure.at, message, advice);
    }
    if let Some(retries) = typed.retries.as_ref().filter(|_| on.value.on == On::Event) {
        let message = "events are delivered again until they arrive, for a day";
        report.error(&retries.at, message, "remove it");
    }
}
