//! Label selectors of `GET /v2/apps?label=` (Marathon's contract, section 2.1.2).

use super::error::ApiError;
use std::collections::BTreeMap;

/// One condition on one label. Each needs the label to be present, also the negative ones.
#[derive(Debug, PartialEq, Eq)]
enum Condition {
    Present,
    Is(String),
    IsNot(String),
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// A parsed selector: all its conditions must hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selector(Vec<(String, Condition)>);

impl Selector {
    /// Read a selector.
    ///
    /// # Errors
    /// 422 naming the text when it is none.
    pub(crate) fn parse(text: &str) -> Result<Selector, ApiError> {
        Parser { text: text.chars().collect(), at: 0 }
            .selector()
            .ok_or_else(|| ApiError::Argument(format!("Couldn't parse label selector '{text}'.")))
    }

    /// Whether an app with these labels is selected.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, condition)| {
            labels.get(key).is_some_and(|value| match condition {
                Condition::Present => true,
                Condition::Is(want) => value == want,
                Condition::IsNot(other) => value != other,
                Condition::In(set) => set.contains(value),
                Condition::NotIn(set) => !set.contains(value),
            })
        })
    }
}

struct Parser {
    text: Vec<char>,
    at: usize,
}

impl Parser {
    fn selector(&mut self) -> Option<Selector> {
        let mut all = Vec::new();
        loop {
            let key = self.term()?;
            all.push((key, self.condition()?));
            self.spaces();
            if self.at == self.text.len() {
                return Some(Selector(all));
            }
            self.literal(",")?;
        }
    }

    fn condition(&mut self) -> Option<Condition> {
        if self.literal("==").is_some() {
            return self.term().map(Condition::Is);
        }
        if self.literal("!=").is_some() {
            return self.term().map(Condition::IsNot);
        }
        let back = self.at;
        match self.term().as_deref() {
            Some("in") => self.set().map(Condition::In),
            Some("notin") => self.set().map(Condition::NotIn),
            Some(_) => None,
            None => {
                self.at = back;
                Some(Condition::Present)
            }
        }
    }

    fn set(&mut self) -> Option<Vec<String>> {
        self.literal("(")?;
        let mut all = vec![self.term()?];
        while self.literal(",").is_some() {
            all.push(self.term()?);
        }
        self.literal(")")?;
        Some(all)
    }

    /// `[-A-Za-z0-9_.]` or any character after a backslash.
    fn term(&mut self) -> Option<String> {
        self.spaces();
        let mut out = String::new();
        while let Some(&c) = self.text.get(self.at) {
            if c == '\\' {
                out.push(*self.text.get(self.at + 1)?);
                self.at += 2;
            } else if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                out.push(c);
                self.at += 1;
            } else {
                break;
            }
        }
        (!out.is_empty()).then_some(out)
    }

    fn literal(&mut self, text: &str) -> Option<()> {
        self.spaces();
        let end = self.at + text.len();
        let found = self.text.get(self.at..end)?.iter().copied().eq(text.chars());
        found.then(|| self.at = end)
    }

    fn spaces(&mut self) {
        while self.text.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select() {
        let labels: BTreeMap<String, String> = [("env", "prod"), ("tier", "web"), ("in", "x y")]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
        let rows = [
            ("env", true),
            ("absent", false),
            ("env==prod", true),
            ("env == prod , tier==web", true),
            ("env==prod,tier==db", false),
            ("env!=dev", true),
            ("absent!=dev", false),
            ("env in (dev, prod)", true),
            ("env notin (dev, prod)", false),
            ("tier notin (db)", true),
            ("absent notin (db)", false),
            (r"in==x\ y", true),
            ("in", true),
        ];
        for (text, want) in rows {
            assert_eq!(Selector::parse(text).unwrap().selects(&labels), want, "{text}");
        }
        for text in ["", "==", "env=prod", "env in ()", "env in (a", "env prod", "a,,b", "a,"] {
            let error = Selector::parse(text).unwrap_err();
            assert!(matches!(error, ApiError::Argument(_)), "{text}");
        }
    }
}
