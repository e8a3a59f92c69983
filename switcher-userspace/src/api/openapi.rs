//! What there is to ask for, as OpenAPI 3.1: made of the routes and of the types that go over the wire.
//!
//! `docs/openapi.json` is checked in; a test fails when it is another one than this.

mod bodies;
mod params;

use utoipa::PartialSchema as _;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, PathItem, PathsBuilder};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref,
    RefOr, Required,
};

pub(super) use bodies::Schemas;
pub(super) use params::Param;

use super::model::Status;
use super::routes::{Doc, Route, Said, Taken, routes};
use crate::exit::Problem;

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// Problems that a request can come to, by what they mean.
const PROBLEMS: [(u16, &str); 13] = [
    (400, "The request can't be understood"),
    (403, "Not permitted, or refused by policy"),
    (404, "There is no such thing"),
    (408, "The body did not come in time"),
    (
        409,
        "Not now: not healthy, rolled back, waiting for a person, or a repetition of what is under way",
    ),
    (
        412,
        "The revision or the live colour is another one, or something else is in progress",
    ),
    (413, "The body is too large"),
    (415, "The body is not JSON"),
    (422, "It makes no sense"),
    (429, "Too many requests"),
    (500, "Unexpected error"),
    (
        503,
        "The agent is stopping, or too many are connected or listening",
    ),
    (504, "It did not come to pass in time, and may still"),
];

/// The document.
#[must_use]
pub fn document() -> OpenApi {
    let mut schemas = Schemas::default();
    let mut paths = PathsBuilder::new();
    // What has no name is described elsewhere.
    for route in routes()
        .into_iter()
        .filter(|route| !route.doc.id.is_empty())
    {
        let method = match route.is_post {
            true => HttpMethod::Post,
            false => HttpMethod::Get,
        };
        let operation = operation(&route, &mut schemas);
        paths = paths.path(route.path, PathItem::new(method, operation));
    }
    schemas.of::<Problem>();
    schemas.of::<Status>();
    let mut components = ComponentsBuilder::new()
        .security_scheme(
            "mutualTls",
            SecurityScheme::MutualTls {
                description: Some(
                    "A certificate of an authority in agent.api.client_ca".to_owned(),
                ),
                deprecated: None,
                extensions: None,
            },
        )
        .schemas_from_iter(schemas.all());
    for (status, meaning) in PROBLEMS {
        components = components.response(format!("Problem{status}"), problem(status, meaning));
    }
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Switcher")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(ABOUT))
                .license(Some(
                    LicenseBuilder::new()
                        .name("MIT OR Apache-2.0")
                        .identifier(Some("MIT OR Apache-2.0"))
                        .build(),
                ))
                .build(),
        )
        .paths(paths)
        .components(Some(components.build()))
        .security(Some([
            SecurityRequirement::default(),
            SecurityRequirement::new("mutualTls", [""; 0]),
        ]))
        .build()
}

const ABOUT: &str = "What the command line does, over HTTP: on the agent's Unix socket, where the peer's user and \
                     groups count, and over TCP by mutual TLS, where the certificate's names do. Failures are problems \
                     as RFC 9457 describes them, with the exit code that the command line would end with.";

/// As it is checked in.
///
/// # Panics
/// Never: it is JSON.
#[must_use]
pub fn text() -> String {
    let text = document().to_pretty_json();
    text.expect("a document without maps whose keys are no strings") + "\n"
}

fn operation(route: &Route, schemas: &mut Schemas) -> Operation {
    let Doc {
        id,
        summary,
        params,
        taken,
        said,
    } = &route.doc;
    let role = route.needs.role;
    let mut operation = OperationBuilder::new()
        .operation_id(Some(*id))
        .summary(Some(*summary))
        .description(Some(format!("Takes the role {role}.")))
        .tag(role.name());
    for param in params {
        operation = operation.parameter(param.describe());
    }
    operation = operation.request_body(body(taken, schemas));
    operation = operation.response("200", answer(said, schemas));
    for status in statuses(route) {
        let name = format!("Problem{status}");
        operation = operation.response(
            status.to_string(),
            RefOr::Ref(Ref::from_response_name(name)),
        );
    }
    operation.build()
}

/// Problems that a route's requests can come to.
fn statuses(route: &Route) -> Vec<u16> {
    let mut all = vec![400, 403, 429, 500, 503];
    let names = |param: &Param| matches!(param, Param::Group | Param::InGroup | Param::Id);
    if route.doc.params.iter().any(names) || route.is_post {
        all.push(404);
    }
    if route.is_post {
        all.extend([408, 409, 412, 413, 415, 422, 504]);
    }
    if matches!(route.doc.said, Said::Awaited(_)) {
        all.extend([409, 504]);
    }
    all.sort_unstable();
    all
}

fn body(taken: &Taken, schemas: &mut Schemas) -> Option<RequestBody> {
    let (schema, required) = match taken {
        Taken::Nothing => return None,
        Taken::Maybe(schema) => (schema(schemas), Required::False),
        Taken::Always(schema) => (schema(schemas), Required::True),
        Taken::Change(verb) => (schemas.change(*verb), schemas.is_needed(*verb)),
    };
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let body = RequestBodyBuilder::new().content(JSON, content);
    Some(body.required(Some(required)).build())
}

fn answer(said: &Said, schemas: &mut Schemas) -> Response {
    let text = || {
        RefOr::T(Schema::from(
            ObjectBuilder::new().schema_type(SchemaType::new(Type::String)),
        ))
    };
    let (kind, schema, meaning) = match said {
        Said::Json(schema) | Said::Awaited(schema) => (JSON, schema(schemas), "As asked"),
        Said::Lines(schema) => {
            schema(schemas);
            (
                "application/x-ndjson",
                text(),
                "A line of JSON for each packet, and one at the end",
            )
        }
        Said::Events(schema) => {
            schema(schemas);
            ("text/event-stream", text(), "Events until somebody goes")
        }
        Said::Document => (
            JSON,
            RefOr::T(ObjectBuilder::new().build().into()),
            "This document",
        ),
    };
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new()
        .description(meaning)
        .content(kind, content);
    match said {
        Said::Json(_) | Said::Awaited(_) => response.header("ETag", etag()).build(),
        Said::Lines(_) | Said::Events(_) | Said::Document => response.build(),
    }
}

fn etag() -> utoipa::openapi::Header {
    let tag = ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::String))
        .pattern(Some("^\"[0-9]+\"$"));
    HeaderBuilder::new()
        .schema(Some(Schema::from(tag)))
        // The library's headers have no such field.
        .extensions(Some(Extensions::from_iter([("required", true)])))
        .description(Some(
            "The revision of the group, or of the configuration where there is none: for If-Match",
        ))
        .build()
}

fn problem(status: u16, meaning: &str) -> Response {
    let schema = RefOr::Ref::<Schema>(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new()
        .description(meaning)
        .content(PROBLEM, content);
    if !matches!(status, 429 | 503) {
        return response.build();
    }
    let wait = HeaderBuilder::new()
        .schema(Some(u32::schema()))
        .description(Some("Seconds"));
    response.header("Retry-After", wait.build()).build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::agent::Verb;
    use crate::api::model::ChangeRequest;

    const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

    #[test]
    fn the_document_is_checked_in_as_it_is() {
        let checked_in = std::fs::read_to_string(CHECKED_IN).unwrap_or_default();
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(CHECKED_IN, text()).expect("writes");
            return;
        }
        assert!(
            checked_in == text(),
            "the API has changed; if that is meant: switcher openapi > docs/openapi.json, or run this with \
             UPDATE_OPENAPI=1"
        );
    }

    #[test]
    fn every_route_is_described_and_every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(&text()).expect("JSON");
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().expect("paths");
        let described: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
        let routes = routes();
        let named = routes.iter().filter(|route| !route.doc.id.is_empty());
        let routed: BTreeSet<&str> = named.map(|route| route.path.as_str()).collect();
        assert_eq!(described, routed);
        let nameless = routes.iter().filter(|route| route.doc.id.is_empty());
        for route in nameless {
            let flagger = ["/gate/", "/rollback/"]
                .iter()
                .any(|it| route.path.starts_with(it));
            assert!(flagger, "{}", route.path);
        }
        let mut references = Vec::new();
        find(&document, &mut references);
        assert!(references.len() > 100);
        for reference in references {
            let found = document.pointer(reference.trim_start_matches('#'));
            assert!(found.is_some(), "{reference}");
        }
    }

    #[test]
    fn every_field_of_a_change_has_a_meaning_somewhere() {
        let RefOr::T(Schema::Object(all)) = ChangeRequest::schema() else {
            panic!("no object");
        };
        let all: BTreeSet<&str> = all.properties.keys().map(String::as_str).collect();
        let verbs = [
            Verb::Flip,
            Verb::Rollback,
            Verb::Canary,
            Verb::Drill,
            Verb::Abort,
            Verb::Confirm,
            Verb::Extend,
            Verb::Pause,
            Verb::Resume,
            Verb::Stage,
            Verb::Schema,
            Verb::Freeze,
            Verb::Unfreeze,
            Verb::Gate,
        ];
        let mut taken: BTreeSet<&str> = Verb::ALL_TAKE.into();
        for verb in verbs {
            taken.extend(verb.takes());
            assert!(verb.needs().iter().all(|it| taken.contains(it)), "{verb:?}");
        }
        assert_eq!(all, taken);
    }

    fn find(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("$ref", Value::String(reference)) => references.push(reference.clone()),
                        _ => find(value, references),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| find(item, references)),
            _ => {}
        }
    }
}
