//! Content negotiation: which of our forms a client takes, and whether we take its.

use super::error::ApiError;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain";
pub(crate) const HTML: &str = "text/html";

/// Pick the form the client likes best; ties go to the earlier one. `None`: it takes none.
///
/// The more specific of two ranges that fit a form decides its weight (RFC 9110, 12.5.1).
pub(crate) fn choose<'a>(headers: &HeaderMap, forms: &[&'a str]) -> Option<&'a str> {
    let ranges: Vec<Range> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .collect();
    if ranges.is_empty() {
        return forms.first().copied();
    }
    let mut best: Option<(u16, u8, &'a str)> = None;
    for form in forms {
        let fit = ranges.iter().filter_map(|range| Some((range.fit(form)?, range.weight))).max();
        let Some((specific, weight)) = fit.filter(|(_, weight)| *weight > 0) else { continue };
        if best.is_none_or(|(w, s, _)| (weight, specific) > (w, s)) {
            best = Some((weight, specific, form));
        }
    }
    best.map(|(_, _, form)| form)
}

/// Refuse a client that does not take JSON.
pub(crate) fn need_json(headers: &HeaderMap) -> Result<(), ApiError> {
    choose(headers, &[JSON]).map(|_| ()).ok_or(ApiError::NotAcceptable)
}

/// Refuse a body that says it is something other than JSON.
pub(crate) fn body_is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let kind = kind(value);
    let ok = matches!(kind.as_str(), "" | "*/*" | "application/*") || is_json(&kind);
    if ok { Ok(()) } else { Err(ApiError::MediaType) }
}

/// Whether a body says that it is JSON, where it may be anything.
pub(crate) fn says_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| is_json(&kind(value)))
}

fn is_json(kind: &str) -> bool {
    kind == JSON || kind.ends_with("+json")
}

/// A content type without its parameters.
fn kind(value: &HeaderValue) -> String {
    let value = value.to_str().unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// One media range of an `Accept` header.
struct Range {
    kind: String,
    sub: String,
    /// Thousandths.
    weight: u16,
}

impl Range {
    fn parse(text: &str) -> Option<Range> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
        // `*` alone is what java.net.HttpURLConnection sends for "anything".
        let (kind, sub) = match name.as_str() {
            "*" => ("*", "*"),
            name => name.split_once('/')?,
        };
        let weight = parts
            .find_map(|p| p.strip_prefix("q="))
            .and_then(|q| q.parse::<f32>().ok())
            .map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16);
        Some(Range { kind: kind.to_string(), sub: sub.to_string(), weight })
    }

    /// How closely `form` fits, if at all.
    fn fit(&self, form: &str) -> Option<u8> {
        let (kind, sub) = form.split_once('/')?;
        match (self.kind.as_str(), self.sub.as_str()) {
            ("*", _) => Some(0),
            (k, "*") if k == kind => Some(1),
            (k, s) if k == kind && s == sub => Some(2),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses() {
        let rows = [
            ("", Some(JSON)),
            ("*/*", Some(JSON)),
            ("*", Some(JSON)),
            ("text/plain", Some(TEXT)),
            ("text/*", Some(TEXT)),
            ("text/plain, */*", Some(TEXT)),
            ("text/plain;q=0.5, application/json", Some(JSON)),
            ("application/json;q=0.4, text/plain;q=0.5", Some(TEXT)),
            ("text/html, image/gif, *; q=.2, */*; q=.2", Some(JSON)),
            ("image/png", None),
            ("application/json;q=0", None),
            ("*/*, application/json;q=0", Some(TEXT)),
        ];
        for (accept, want) in rows {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(choose(&headers, &[JSON, TEXT]), want, "{accept}");
        }
    }

    #[test]
    fn bodies_of_other_kinds_are_refused() {
        let rows = [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("Application/JSON", true),
            ("application/vnd.x+json", true),
            ("*/*", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
        ];
        for (kind, ok) in rows {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(body_is_json(&headers).is_ok(), ok, "{kind}");
        }
        assert!(body_is_json(&HeaderMap::new()).is_ok());
    }
}
