//! Limits on how many there are of something in the whole file.

use crate::config::limits::{ENDPOINTS_MAX, GROUPS_MAX, SERVICES_MAX};
use crate::config::report::{Place, Report};
use crate::config::typed::{TypedGroup, TypedService};

pub(super) fn check(groups: &[TypedGroup], report: &Report<'_>) {
    let services = || groups.iter().flat_map(|group| &group.services);
    let endpoints = |service: &'_ TypedService| -> Vec<Place> {
        let of_colours = service
            .endpoints
            .iter()
            .flat_map(|colour| &colour.endpoints);
        of_colours
            .map(|endpoint| endpoint.address.at.clone())
            .collect()
    };
    limit(
        report,
        "groups",
        GROUPS_MAX,
        groups.iter().map(|group| group.name.at.clone()),
    );
    limit(
        report,
        "services",
        SERVICES_MAX,
        services().map(|service| service.name.at.clone()),
    );
    limit(
        report,
        "endpoints",
        ENDPOINTS_MAX,
        services().flat_map(endpoints),
    );
}

/// Complains of the first one too many, in the order of the file.
fn limit(report: &Report<'_>, what: &str, most: usize, places: impl Iterator<Item = Place>) {
    let mut places: Vec<_> = places.collect();
    places.sort_by_key(|place| place.span.start);
    if let Some(first_over) = places.get(most) {
        let message = format_args!("the file has {} {what}", places.len());
        report.error(
            first_over,
            message,
            format_args!("a host has at most {most}"),
        );
    }
}
