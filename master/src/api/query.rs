//! Query strings, read as Marathon's clients write them.

use axum::extract::Query as Extract;
use http::Uri;

/// The pairs of a query string, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Read the query of `uri`; an unreadable one counts as empty.
    pub(crate) fn of(uri: &Uri) -> Query {
        Query(Extract::<Vec<(String, String)>>::try_from_uri(uri).map(|q| q.0).unwrap_or_default())
    }

    /// First value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Every value of `key`.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A switch. Python clients send `True`, so case does not count; nonsense is false.
    pub(crate) fn flag(&self, key: &str, default: bool) -> bool {
        self.get(key).map_or(default, |value| value.eq_ignore_ascii_case("true"))
    }

    /// A number, if it is there and one.
    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.get(key).and_then(|value| value.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_lists_and_numbers() {
        let uri = "/x?force=True&scale=False&embed=a&embed=b%2Cc&n=7&m=x&s&arg=a+b"
            .parse::<Uri>()
            .unwrap();
        let query = Query::of(&uri);
        assert!(query.flag("force", false));
        assert!(!query.flag("scale", true));
        assert!(!query.flag("s", true));
        assert!(query.flag("absent", true));
        assert_eq!(query.all("embed").collect::<Vec<_>>(), ["a", "b,c"]);
        assert_eq!(query.get("arg"), Some("a b"));
        assert_eq!(query.number::<u32>("n"), Some(7));
        assert_eq!(query.number::<u32>("m"), None);
        assert!(Query::of(&"/x".parse().unwrap()).get("a").is_none());
    }
}
