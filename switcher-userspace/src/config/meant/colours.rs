//! A group's colours, and that every service has endpoints in each.

use std::collections::BTreeSet;

use crate::config::limits::COLOURS_MAX;
use crate::config::report::{Report, Typed};
use crate::config::scalar;
use crate::config::suggest::{one_of, suggest};
use crate::config::typed::{TypedColour, TypedGroup};

/// The colours of a group: as listed, or else those that endpoints name, in sorted order.
pub(super) fn colours(group: &TypedGroup, report: &Report<'_>) -> Vec<String> {
    let colours = match &group.colours {
        Some(listed) => listed_colours(group, listed, report),
        None => named_colours(group, report),
    };
    check_initial(group, &colours, report);
    check_complete(group, &colours, report);
    colours
}

fn listed_colours(
    group: &TypedGroup,
    listed: &[Typed<String>],
    report: &Report<'_>,
) -> Vec<String> {
    let mut colours: Vec<String> = Vec::new();
    for colour in listed {
        if colours.contains(&colour.value) {
            let message = format_args!("{:?} is listed twice", colour.value);
            report.error(&colour.at, message, "remove one");
        } else {
            colours.push(colour.value.clone());
        }
    }
    if let Some(first_over) = listed.get(COLOURS_MAX) {
        report_too_many(report, first_over, listed.len());
    }
    // Of an empty list, which is reported, no endpoint can be part.
    for TypedColour { name, .. } in entries(group).filter(|_| !listed.is_empty()) {
        if !colours.contains(&name.value) {
            let message = format_args!("{:?} is not among the group's colours", name.value);
            let names: Vec<_> = colours.iter().map(String::as_str).collect();
            let advice = format!("add it to colours, or {}", suggest(&name.value, &names));
            report.error(&name.at, message, advice);
        }
    }
    colours
}

fn named_colours(group: &TypedGroup, report: &Report<'_>) -> Vec<String> {
    for TypedColour { name, .. } in entries(group) {
        if let Err(complaint) = scalar::name(&name.value) {
            report.complain(&name.at, complaint);
        }
    }
    let names: BTreeSet<_> = entries(group).map(|colour| &colour.name.value).collect();
    if names.len() > COLOURS_MAX {
        report_too_many(report, &group.name, names.len());
    }
    names.into_iter().cloned().collect()
}

fn check_initial(group: &TypedGroup, colours: &[String], report: &Report<'_>) {
    let Some(initial) = &group.initial else {
        return;
    };
    // Without any colour there are other errors, and no choice to offer.
    if !colours.is_empty() && !colours.contains(&initial.value) {
        let message = format_args!("{:?} is not among the group's colours", initial.value);
        let names: Vec<_> = colours.iter().map(String::as_str).collect();
        report.error(&initial.at, message, one_of(&names));
    }
}

fn check_complete(group: &TypedGroup, colours: &[String], report: &Report<'_>) {
    for service in group
        .services
        .iter()
        .filter(|service| !service.endpoints.is_empty())
    {
        for colour in colours {
            if !service
                .endpoints
                .iter()
                .any(|entry| entry.name.value == *colour)
            {
                let advice = format_args!(
                    "add {colour} to [{}.endpoints]: services of a group switch together, so each \
                     needs every colour",
                    service.name.at.key
                );
                let message = format_args!("no endpoints for colour {colour:?}");
                report.error(&service.name.at, message, advice);
            }
        }
    }
}

fn entries(group: &TypedGroup) -> impl Iterator<Item = &TypedColour> {
    group.services.iter().flat_map(|service| &service.endpoints)
}

fn report_too_many(report: &Report<'_>, at: &Typed<String>, count: usize) {
    let advice = format_args!("a group has at most {COLOURS_MAX}");
    report.error(&at.at, format_args!("{count} colours"), advice);
}
