//! From TOML to checked values, with every slip noted at its line.

use super::{Complaint, Setting, check};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Complaints told; a file that is not this file at all would fill the console.
const COMPLAINTS_MAX: usize = 20;
/// Of a file, so much is read. Bytes.
const TEXT_MAX: usize = 64 << 10;
/// Of a line that is not understood, so much is shown. Characters.
const SHOWN_MAX: usize = 60;
/// Letters that may differ where a key is taken for a slip of another.
const SLIP_MAX: usize = 2;

/// A value, and where it was written.
pub struct Value<'a> {
    /// With its table in front: `network.address`.
    name: String,
    at: usize,
    value: DeValue<'a>,
}

impl Value<'_> {
    pub fn as_text(&self) -> Option<&str> {
        self.value.as_str()
    }
}

/// Reads one file.
pub struct Reader<'a> {
    text: &'a str,
    complaints: Vec<Complaint>,
}

/// Blank out the lines that are no TOML, and of a section whose head is none all of them: they
/// would count for the section before. Everything else stays in its place.
pub fn repair(text: &str) -> (String, Vec<Complaint>) {
    // Editors of other systems leave a mark at the beginning.
    let mut text = text.strip_prefix('\u{feff}').unwrap_or(text).to_string();
    let mut complaints = Vec::new();
    if text.len() > TEXT_MAX {
        let told = "the file is longer than 64 KiB; it is left out".into();
        return (String::new(), vec![Complaint { line: 1, text: told }]);
    }
    for _ in 0..COMPLAINTS_MAX {
        let Err(error) = DeTable::parse(&text) else { return (text, complaints) };
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let at = if text.is_char_boundary(at) { at } else { 0 };
        let start = text[..at].rfind('\n').map_or(0, |before| before + 1);
        let mut end = text[start..].find('\n').map_or(text.len(), |end| start + end);
        let bad = text[start..end].trim().to_string();
        let line = line_of(&text, start);
        let mut what = "the line is left out";
        if bad.starts_with('[') {
            end = text[end..].find("\n[").map_or(text.len(), |next| end + next);
            what = "the section is left out";
        }
        let shown: String = bad.chars().take(SHOWN_MAX).collect();
        let told = format!("{}: {shown:?}; {what}", error.message().replace('\n', " "));
        complaints.push(Complaint { line, text: told });
        let blank: String =
            text[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        if bad.is_empty() {
            break;
        }
        text.replace_range(start..end, &blank);
    }
    let told = "the rest of the file is no TOML and is left out".into();
    let line = complaints.last().map_or(1, |last: &Complaint| last.line);
    complaints.push(Complaint { line, text: told });
    (String::new(), complaints)
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

impl<'a> Reader<'a> {
    /// Of a text that is TOML, and of what was already left out of it.
    pub fn new(text: &'a str, complaints: Vec<Complaint>) -> Self {
        Self { text, complaints }
    }

    /// What was left out, by line.
    pub fn finish(mut self) -> Vec<Complaint> {
        self.complaints.sort_by_key(|complaint| complaint.line);
        let more = self.complaints.len().saturating_sub(COMPLAINTS_MAX);
        self.complaints.truncate(COMPLAINTS_MAX);
        if let (Some(last), true) = (self.complaints.last_mut(), more > 0) {
            last.text += &format!(" (and {more} more)");
        }
        self.complaints
    }

    /// The whole file.
    pub fn top(&mut self) -> Vec<(String, Value<'a>)> {
        let table = DeTable::parse(self.text).map(Spanned::into_inner).unwrap_or_default();
        entries("", table)
    }

    /// The entries of a table.
    pub fn table<'b>(&mut self, value: &Value<'b>) -> Vec<(String, Value<'b>)> {
        match &value.value {
            DeValue::Table(table) => entries(&format!("{}.", value.name), table.clone()),
            _ => {
                let text = format!("{} must be a section, [{}]", value.name, value.name);
                self.complain(value, text);
                Vec::new()
            }
        }
    }

    pub fn text<T>(
        &mut self,
        value: &Value<'_>,
        check: fn(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let found = value.as_text().ok_or("write a text in quotes").and_then(check);
        found.map_err(|form| self.refuse(value, form)).ok()
    }

    /// As [`Self::text`], of what must not be shown.
    pub fn secret<T>(
        &mut self,
        value: &Value<'_>,
        check: fn(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let found = value.as_text().ok_or("write a text in quotes").and_then(check);
        found.map_err(|form| self.complain(value, format!("{}: {form}", value.name))).ok()
    }

    /// Those of a list that are good.
    pub fn list<T>(
        &mut self,
        value: &Value<'_>,
        check: fn(&str) -> Result<T, &'static str>,
    ) -> Vec<T> {
        let DeValue::Array(items) = &value.value else {
            // One, without brackets, is no riddle.
            return match value.as_text() {
                Some(_) => self.text(value, check).into_iter().collect(),
                None => {
                    self.refuse(value, "write a list of texts: [\"..\", \"..\"]");
                    Vec::new()
                }
            };
        };
        let mut good = Vec::new();
        for item in items.iter() {
            let item = Value {
                name: value.name.clone(),
                at: item.span().start,
                value: item.get_ref().clone(),
            };
            good.extend(self.text(&item, check));
        }
        good
    }

    /// An attribute's value; numbers are texts there.
    pub fn attribute(&mut self, name: &str, value: &Value<'_>) -> Option<String> {
        if let Err(form) = check::attribute(name) {
            self.complain(value, format!("attribute {name:?}: in its name, {form}"));
            return None;
        }
        match &value.value {
            DeValue::Integer(number) => Some(number.as_str().to_string()),
            DeValue::Boolean(on) => Some(on.to_string()),
            _ => self.text(value, check::attribute),
        }
    }

    /// A setting of bramble's own.
    pub fn setting(&mut self, key: &str, value: &Value<'_>) -> Option<Setting> {
        let elsewhere = match key {
            "data-dir" | "run-dir" => Some("is the node's own"),
            "name" => Some("is written as hostname = \"..\" at the file's beginning"),
            "token" => Some("is written at the file's beginning, not in [bramble]"),
            "attributes" => Some("is written as attributes = { .. } at the file's beginning"),
            _ => None,
        };
        if let Some(text) = elsewhere {
            self.complain(value, format!("{} {text}", value.name));
            return None;
        }
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
            let form = "write a setting as `bramble up --help` lists it, without --";
            self.complain(value, format!("{:?} in [bramble] is none; {form}", key));
            return None;
        }
        match &value.value {
            DeValue::String(text) => Some(Setting::Text(text.to_string())),
            DeValue::Boolean(on) => Some(Setting::Flag(*on)),
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                number.map(Setting::Number).map_err(|_| self.refuse(value, "it is too large")).ok()
            }
            _ => {
                self.refuse(value, "write a text, a number, true or false");
                None
            }
        }
    }

    /// Say that there is no such key, and which one may be meant.
    pub fn unknown(&mut self, value: &Value<'_>, known: &[&str]) {
        let key = value.name.rsplit('.').next().unwrap_or_default();
        let near = known.iter().find(|known| distance(key, known) <= SLIP_MAX);
        let end = match near {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known are {}", known.join(", ")),
        };
        self.complain(value, format!("unknown key {}; {end}", value.name));
    }

    pub fn complain(&mut self, value: &Value<'_>, text: String) {
        self.push(value.at, text);
    }

    /// Complain where a key is first written.
    pub fn complain_at_key(&mut self, key: &str, text: String) {
        let at = self.text.find(key).unwrap_or(0);
        self.push(at, text);
    }

    fn refuse(&mut self, value: &Value<'_>, form: &str) {
        let written = match &value.value {
            DeValue::String(text) => format!("{:?}", text.as_ref()),
            DeValue::Integer(number) => number.as_str().to_string(),
            DeValue::Boolean(on) => on.to_string(),
            other => format!("a {}", other.type_str()),
        };
        // What may be most of a token is not put onto a screen.
        let written = if value.name == "token" { "not a token".into() } else { written };
        self.complain(value, format!("{} is {written}; {form}", value.name));
    }

    fn push(&mut self, at: usize, text: String) {
        self.complaints.push(Complaint { line: line_of(self.text, at), text });
    }
}

fn entries<'a>(prefix: &str, table: DeTable<'a>) -> Vec<(String, Value<'a>)> {
    let entry = |(key, value): (Spanned<_>, Spanned<DeValue<'a>>)| {
        let at = key.span().start;
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        let name = format!("{prefix}{key}");
        (key.into_owned(), Value { name, at, value: value.into_inner() })
    };
    table.into_iter().map(entry).collect()
}

/// Letters to change, add or drop between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
