//! From a file's bytes to a configuration, or to all that is wrong with it.

use std::path::Path;

use sha2::{Digest, Sha256};
use toml::de::DeTable;

use super::Config;
use super::error::ConfigErrors;
use super::meant::mean;
use super::report::{Place, Report};
use super::section::Section;
use super::typed::TypedConfig;

/// Bytes of a configuration. A larger file was not written as one.
pub const FILE_MAX: u64 = 16 << 20;

/// Reads and checks a file.
///
/// # Errors
///
/// All errors of the file at once, or that it can't be read.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let file = path.display().to_string();
    match read(path) {
        Ok(bytes) => parse(&file, &bytes),
        Err(error) => Err(ConfigErrors::whole_file(
            &file,
            format!("can't be read: {error}"),
            "check the path and its permissions",
        )),
    }
}

/// Checks a file's content; `file` is what errors call it.
///
/// # Errors
///
/// All errors of the file at once. Where it isn't TOML at all, those that say so.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Config, ConfigErrors> {
    let text = text(file, bytes)?;
    let report = Report::new(file, text);
    let (table, syntax_errors) = DeTable::parse_recoverable(text);
    if !syntax_errors.is_empty() {
        for error in syntax_errors {
            let at = Place {
                key: String::new(),
                span: error.span().unwrap_or_default(),
            };
            report.error(&at, format_args!("not valid TOML: {}", error.message()), "");
        }
        return Err(report.finish());
    }
    let typed = TypedConfig::read(Section::root(&report, &table));
    match mean(typed, digest(bytes), &report) {
        Some(config) if report.is_empty() => Ok(config),
        _ => Err(report.finish()),
    }
}

/// A file's bytes, if it is no larger than a configuration can be.
///
/// # Errors
/// When it is larger, or can't be read.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let size = std::fs::metadata(path)?.len();
    if size > FILE_MAX {
        return Err(std::io::Error::other(format!(
            "{size} bytes is too large for a configuration, which has {FILE_MAX} at most"
        )));
    }
    std::fs::read(path)
}

fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, ConfigErrors> {
    str::from_utf8(bytes).map_err(|error| {
        let valid = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        let report = Report::new(file, valid);
        let at = Place {
            key: String::new(),
            span: valid.len()..valid.len(),
        };
        report.error(&at, "not UTF-8", "save the file as UTF-8");
        report.finish()
    })
}

/// SHA-256 in lower-case hexadecimal.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
