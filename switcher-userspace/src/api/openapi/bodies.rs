//! The types of bodies.

use std::collections::BTreeMap;

use utoipa::openapi::schema::{AdditionalProperties, Object, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr, Required};
use utoipa::{PartialSchema as _, ToSchema};

use crate::agent::Verb;
use crate::api::model::ChangeRequest;

/// Those that were met, by name.
#[derive(Default)]
pub(in crate::api) struct Schemas(BTreeMap<String, RefOr<Schema>>);

impl Schemas {
    /// A type, and all that it is made of.
    pub(in crate::api) fn of<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        self.0.extend(parts);
        self.0.insert(T::name().into_owned(), T::schema());
        RefOr::Ref(Ref::from_schema_name(T::name()))
    }

    /// What a change takes: of all fields those that have a meaning there.
    pub(super) fn change(&mut self, verb: Verb) -> RefOr<Schema> {
        let RefOr::T(Schema::Object(all)) = ChangeRequest::schema() else {
            unreachable!("it is a structure");
        };
        let Object { properties, .. } = all;
        let has = |name: &str| verb.takes().contains(&name) || Verb::ALL_TAKE.contains(&name);
        let properties = properties.into_iter().filter(|(name, _)| has(name));
        let properties = properties.map(|(name, schema)| {
            let is_needed = verb.needs().contains(&name.as_str());
            let schema = if is_needed {
                never_null(schema)
            } else {
                schema
            };
            (name, schema)
        });
        let mut object = Object::new();
        object.properties = properties.collect();
        object.required = verb.needs().iter().map(ToString::to_string).collect();
        object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        let name = format!("{verb:?}Request");
        self.0
            .insert(name.clone(), RefOr::T(Schema::Object(object)));
        RefOr::Ref(Ref::from_schema_name(name))
    }

    pub(super) fn is_needed(&self, verb: Verb) -> Required {
        match verb.needs() {
            [] => Required::False,
            _ => Required::True,
        }
    }

    pub(super) fn all(self) -> impl IntoIterator<Item = (String, RefOr<Schema>)> {
        self.0
    }
}

/// What has to be there has to be something.
fn never_null(mut schema: RefOr<Schema>) -> RefOr<Schema> {
    if let RefOr::T(Schema::Object(object)) = &mut schema
        && let SchemaType::Array(kinds) = &mut object.schema_type
    {
        kinds.retain(|it| *it != Type::Null);
        if let [only] = kinds.as_slice() {
            object.schema_type = only.clone().into();
        }
    }
    schema
}
