//! Reading a TOML table key by key. What nobody asked for is an unknown key.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

#[cfg(test)]
use super::learn::{self, Shape};
use super::report::{Complaint, Place, Report, Typed};
use super::suggest::{one_of, suggest};

/// A table, and which of its keys have been asked for.
pub(super) struct Section<'a> {
    pub(super) report: &'a Report<'a>,
    pub(super) at: Place,
    table: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
    refused: RefCell<Vec<&'static str>>,
}

/// A value, and where it is.
pub(super) struct Value<'a> {
    pub(super) report: &'a Report<'a>,
    pub(super) at: Place,
    value: &'a DeValue<'a>,
}

impl<'a> Section<'a> {
    pub(super) fn root(report: &'a Report<'a>, table: &'a Spanned<DeTable<'a>>) -> Self {
        Self::new(
            report,
            Place {
                key: String::new(),
                span: 0..0,
            },
            table.get_ref(),
        )
    }

    fn new(report: &'a Report<'a>, at: Place, table: &'a DeTable<'a>) -> Self {
        Self {
            report,
            at,
            table,
            known: RefCell::default(),
            refused: RefCell::default(),
        }
    }

    /// The value of an optional key.
    pub(super) fn value(&self, key: &'static str) -> Option<Value<'a>> {
        self.known.borrow_mut().push(key);
        #[cfg(test)]
        learn::see(self.path(key), Shape::Asked);
        let (_, value) = self.table.get_key_value(key)?;
        let at = Place {
            key: self.path(key),
            span: value.span(),
        };
        Some(Value {
            report: self.report,
            at,
            value: value.get_ref(),
        })
    }

    /// The value of a key that must be there.
    pub(super) fn required(&self, key: &'static str, advice: impl Display) -> Option<Value<'a>> {
        let value = self.value(key);
        #[cfg(test)]
        learn::see(self.path(key), Shape::Required);
        if value.is_none() {
            self.missing(key, advice);
        }
        value
    }

    /// Says that a key is missing from this section.
    pub(super) fn missing(&self, key: &str, advice: impl Display) {
        let dot = if self.at.key.is_empty() { "" } else { "." };
        let at = Place {
            key: format!("{}{dot}{key}", self.at.key),
            span: self.at.span.clone(),
        };
        self.report.error(&at, "required, but missing", advice);
    }

    /// An optional table. Its place is its name's, not its first line's.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let mut value = self.value(key)?;
        if let Some((name, _)) = self.table.get_key_value(key) {
            value.at.span = name.span();
        }
        value.section()
    }

    /// Entries with names of the user's choice: each name, and its value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Typed<String>, Value<'a>)> {
        self.table.iter().map(|(name, value)| {
            let key = self.path(name.get_ref());
            #[cfg(test)]
            learn::see(key.clone(), Shape::Named);
            let at = Place {
                key: key.clone(),
                span: name.span(),
            };
            let name = Typed {
                value: name.get_ref().clone().into_owned(),
                at,
            };
            let at = Place {
                key,
                span: value.span(),
            };
            (
                name,
                Value {
                    report: self.report,
                    at,
                    value: value.get_ref(),
                },
            )
        })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Refuses keys of features that this version lacks.
    pub(super) fn unavailable(&self, keys: &[&'static str]) {
        self.refused.borrow_mut().extend(keys);
    }

    /// Reports every key that was not asked for.
    pub(super) fn finish(self) {
        let known = self.known.take();
        let refused = self.refused.take();
        for (name, _) in self.table {
            let key = name.get_ref().as_ref();
            let at = Place {
                key: self.path(key),
                span: name.span(),
            };
            if refused.contains(&key) {
                self.report
                    .complain(&at, Complaint::unavailable("this key is", "remove it"));
            } else if !known.contains(&key) {
                let message = format_args!("unknown key {}", quoted(key));
                self.report.error(&at, message, suggest(key, &known));
            }
        }
    }

    fn path(&self, key: &str) -> String {
        let dot = if self.at.key.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.at.key, quoted(key))
    }
}

impl<'a> Value<'a> {
    /// A table; `at` should be the place of its name.
    pub(super) fn section(self) -> Option<Section<'a>> {
        match self.value {
            DeValue::Table(table) => {
                #[cfg(test)]
                learn::see(self.at.key.clone(), Shape::Table);
                Some(Section::new(self.report, self.at, table))
            }
            _ => self.wrong_type("a table", ""),
        }
    }

    /// The items of a list.
    pub(super) fn items(&self, advice: impl Display) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(array) = self.value else {
            return self.wrong_type("a list", advice);
        };
        #[cfg(test)]
        learn::see(self.at.key.clone(), Shape::List);
        let item = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| {
            let at = Place {
                key: format!("{}[{index}]", self.at.key),
                span: value.span(),
            };
            Value {
                report: self.report,
                at,
                value: value.get_ref(),
            }
        };
        Some(array.iter().enumerate().map(item).collect())
    }

    /// A string, through `parse`.
    pub(super) fn parse<T>(
        &self,
        advice: impl Display,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<Typed<T>> {
        let DeValue::String(text) = self.value else {
            return self.wrong_type("a string", advice);
        };
        #[cfg(test)]
        learn::see(self.at.key.clone(), Shape::Text(advice.to_string()));
        match parse(text) {
            Ok(value) => Some(Typed {
                value,
                at: self.at.clone(),
            }),
            Err(complaint) => {
                self.report.complain(&self.at, complaint);
                None
            }
        }
    }

    /// One of a few words; `later` are those that a later version will know.
    pub(super) fn choice<T: Copy>(
        &self,
        words: &[(&'static str, T)],
        later: &[&str],
    ) -> Option<Typed<T>> {
        let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        #[cfg(test)]
        learn::see(self.at.key.clone(), Shape::words(&names));
        self.parse(one_of(&names), |text| {
            if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
                return Ok(*value);
            }
            Err(if later.contains(&text) {
                Complaint::unavailable(format_args!("{text:?} is"), one_of(&names))
            } else {
                Complaint::new(
                    format_args!("{text:?} is not known here"),
                    suggest(text, &names),
                )
            })
        })
    }

    /// A whole number in a range.
    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Option<Typed<T>>
    where
        T: Copy + Display + PartialOrd + TryFrom<u32>,
    {
        let advice = format!("choose a number from {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = self.value else {
            return self.wrong_type("a whole number", advice);
        };
        #[cfg(test)]
        learn::see(self.at.key.clone(), Shape::range(&range));
        let value = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.and_then(|value| T::try_from(value).ok());
        let Some(value) = value.filter(|value| range.contains(value)) else {
            self.report
                .error(&self.at, format_args!("{number} is out of range"), advice);
            return None;
        };
        Some(Typed {
            value,
            at: self.at.clone(),
        })
    }

    /// A switch: true or false.
    pub(super) fn boolean(&self) -> Option<Typed<bool>> {
        let DeValue::Boolean(value) = self.value else {
            return self.wrong_type("true or false", "write it without quotes");
        };
        #[cfg(test)]
        learn::see(self.at.key.clone(), Shape::Truth);
        Some(Typed {
            value: *value,
            at: self.at.clone(),
        })
    }

    pub(super) fn is_string(&self) -> bool {
        self.value.is_str()
    }

    pub(super) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn wrong_type<T>(&self, wanted: &str, advice: impl Display) -> Option<T> {
        let found = match self.value {
            DeValue::Integer(_) => "an integer",
            DeValue::Array(_) => "a list",
            DeValue::String(_) => "a string",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Table(_) => "a table",
        };
        self.report.error(
            &self.at,
            format_args!("expected {wanted}, found {found}"),
            advice,
        );
        None
    }
}

/// A key as TOML wants it typed.
fn quoted(key: &str) -> Cow<'_, str> {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) {
        key.into()
    } else {
        format!("{key:?}").into()
    }
}
