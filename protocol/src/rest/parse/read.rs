//! Reading JSON values with every mistake kept: path and Marathon's code.

use super::super::error::FieldError;
use super::super::number::{self, Misfit};
use super::super::update::Field;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Mistakes kept of one request; more would only say the same again.
const ERRORS_MAX: usize = 200;

/// The mistakes found so far.
#[derive(Default)]
pub(super) struct Errors(pub(super) Vec<FieldError>);

impl Errors {
    /// Note a code, with the fix where the code alone says too little. Gives `None`, so that a
    /// reader can end with it.
    pub(super) fn note<T>(&mut self, path: &str, code: &str, fix: Option<String>) -> Option<T> {
        if self.0.len() < ERRORS_MAX {
            let path = if path.is_empty() { "/" } else { path };
            let errors = std::iter::once(code.to_string()).chain(fix).collect();
            self.0.push(FieldError { path: path.to_string(), errors });
        }
        None
    }
}

pub(super) fn text(errors: &mut Errors, path: &str, value: &Value) -> Option<String> {
    match value.as_str() {
        Some(text) => Some(text.to_string()),
        None => errors.note(path, "error.expected.jsstring", None),
    }
}

/// Text that must not be empty.
pub(super) fn filled(errors: &mut Errors, path: &str, value: &Value) -> Option<String> {
    let text = text(errors, path, value)?;
    if text.is_empty() {
        return errors.note(path, "error.minLength", Some("must not be empty".into()));
    }
    Some(text)
}

pub(super) fn boolean(errors: &mut Errors, path: &str, value: &Value) -> Option<bool> {
    match value.as_bool() {
        Some(value) => Some(value),
        None => errors.note(path, "error.expected.jsboolean", None),
    }
}

/// A whole number between the bounds, both inclusive.
pub(super) fn integer(
    errors: &mut Errors,
    path: &str,
    value: &Value,
    (min, max): (u64, u64),
) -> Option<u64> {
    let Value::Number(number) = value else {
        return errors.note(path, "error.expected.jsnumber", None);
    };
    match number::whole(number) {
        Ok(n) => bounded(errors, path, n, n, (min, max), (min, max)),
        Err(Misfit::NotWhole) => {
            errors.note(path, "error.expected.int", Some("must be a whole number".into()))
        }
        Err(Misfit::Negative) => below(errors, path, min),
        Err(Misfit::TooLarge) => above(errors, path, max),
    }
}

/// A decimal, given as `number * factor` rounded. The bounds are in the unit the user writes.
pub(super) fn decimal(
    errors: &mut Errors,
    path: &str,
    value: &Value,
    factor: u64,
    (min, max): (u64, u64),
) -> Option<u64> {
    let Value::Number(number) = value else {
        return errors.note(path, "error.expected.jsnumber", None);
    };
    match number::scaled(number, factor) {
        Ok(n) => {
            let scaled = (min.saturating_mul(factor), max.saturating_mul(factor));
            bounded(errors, path, n, n, scaled, (min, max))
        }
        Err(Misfit::Negative) => below(errors, path, min),
        Err(Misfit::TooLarge | Misfit::NotWhole) => above(errors, path, max),
    }
}

fn bounded(
    errors: &mut Errors,
    path: &str,
    value: u64,
    compared: u64,
    (low, high): (u64, u64),
    (min, max): (u64, u64),
) -> Option<u64> {
    if compared < low {
        below(errors, path, min)
    } else if compared > high {
        above(errors, path, max)
    } else {
        Some(value)
    }
}

fn below<T>(errors: &mut Errors, path: &str, min: u64) -> Option<T> {
    errors.note(path, "error.min", Some(format!("must be at least {min}")))
}

fn above<T>(errors: &mut Errors, path: &str, max: u64) -> Option<T> {
    errors.note(path, "error.max", Some(format!("must be at most {max}")))
}

/// One of a few words.
pub(super) fn word<T: Copy>(
    errors: &mut Errors,
    path: &str,
    value: &Value,
    words: &[(&str, T)],
) -> Option<T> {
    let text = text(errors, path, value)?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*meaning);
    }
    let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let fix = format!("must be one of: {}", all.join(", "));
    errors.note(path, "error.unknown.enum.literal", Some(fix))
}

/// A list whose items are all read, so that each names its own mistakes.
pub(super) fn list<T>(
    errors: &mut Errors,
    path: &str,
    value: &Value,
    mut read: impl FnMut(&mut Errors, &str, &Value) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Array(items) = value else {
        return errors.note(path, "error.expected.jsarray", None);
    };
    let read: Vec<Option<T>> = items
        .iter()
        .enumerate()
        .map(|(i, item)| read(errors, &format!("{path}({i})"), item))
        .collect();
    read.into_iter().collect()
}

pub(super) fn texts(errors: &mut Errors, path: &str, value: &Value) -> Option<Vec<String>> {
    list(errors, path, value, text)
}

/// An object whose keys are the caller's own names.
pub(super) fn map<T>(
    errors: &mut Errors,
    path: &str,
    value: &Value,
    mut read: impl FnMut(&mut Errors, &str, &Value) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let Value::Object(entries) = value else {
        return errors.note(path, "error.expected.jsobject", None);
    };
    let read: Vec<Option<(String, T)>> = entries
        .iter()
        .map(|(key, value)| read(errors, &format!("{path}/{key}"), value).map(|v| (key.clone(), v)))
        .collect();
    read.into_iter().collect()
}

pub(super) fn text_map(
    errors: &mut Errors,
    path: &str,
    value: &Value,
) -> Option<BTreeMap<String, String>> {
    map(errors, path, value, text)
}

/// An object with known keys; unknown ones are ignored (Marathon's contract, section 0).
pub(super) struct Object<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Object<'a> {
    pub(super) fn open(errors: &mut Errors, path: &str, value: &'a Value) -> Option<Self> {
        match value.as_object() {
            Some(map) => Some(Self { map, path: path.to_string() }),
            None => errors.note(path, "error.expected.jsobject", None),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|v| !v.is_null())
    }

    pub(super) fn path(&self, key: &str) -> String {
        format!("{}/{key}", self.path)
    }

    /// A key with absence, `null` and value told apart.
    pub(super) fn field<T>(
        &self,
        errors: &mut Errors,
        key: &str,
        read: impl FnOnce(&mut Errors, &str, &Value) -> Option<T>,
    ) -> Field<T> {
        match self.map.get(key) {
            None => Field::Absent,
            Some(Value::Null) => Field::Null,
            Some(value) => read(errors, &self.path(key), value).map_or(Field::Absent, Field::Given),
        }
    }

    /// A key that may be left out; `null` is as good as absent.
    pub(super) fn optional<T>(
        &self,
        errors: &mut Errors,
        key: &str,
        read: impl FnOnce(&mut Errors, &str, &Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.map.get(key).filter(|v| !v.is_null())?;
        read(errors, &self.path(key), value)
    }

    /// A key that must be there.
    pub(super) fn required<T>(
        &self,
        errors: &mut Errors,
        key: &str,
        read: impl FnOnce(&mut Errors, &str, &Value) -> Option<T>,
    ) -> Option<T> {
        match self.map.get(key).filter(|v| !v.is_null()) {
            Some(value) => read(errors, &self.path(key), value),
            None => errors.note(&self.path(key), "error.path.missing", None),
        }
    }
}
