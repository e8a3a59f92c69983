//! What there is to ask for, below what people have written of it.

use serde_json::Value;

use super::{cell, keep, kept};
use crate::api::openapi;

/// What is below is made anew.
const MARK: &str = "<!-- made of the code by `cargo xtask docs` -->\n";

#[test]
fn the_table_of_the_api_is_up_to_date() {
    let document: Value = serde_json::from_str(&openapi::text()).expect("JSON");
    let mut table = "\n| method | path | role | |\n|---|---|---|---|\n".to_owned();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let [role, summary] = [&operation["tags"][0], &operation["summary"]];
            let [role, summary] = [role, summary].map(|it| it.as_str().expect("is said"));
            let (method, summary) = (method.to_uppercase(), cell(summary));
            table += &format!("| {method} | `{path}` | {role} | {summary} |\n");
        }
    }
    let page = kept("api.md");
    let (written, _) = page.split_once(MARK).expect("the place of the table");
    keep("api.md", &format!("{written}{MARK}{table}"));
}
