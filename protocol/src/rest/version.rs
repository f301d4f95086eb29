//! Lists of versions.

use crate::timestamp;
use bramble_core::model::Time;
use serde::Serialize;

/// `{"versions":["<ts>",...]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionList {
    pub versions: Vec<String>,
}

/// Write versions newest first, whatever their order was.
pub fn versions(times: impl IntoIterator<Item = Time>) -> VersionList {
    let mut times: Vec<Time> = times.into_iter().collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    times.dedup();
    VersionList { versions: times.into_iter().map(timestamp::format).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_comes_first() {
        let list = versions([Time(1), Time(3), Time(2), Time(3)]);
        assert_eq!(
            list.versions,
            ["1970-01-01T00:00:00.003Z", "1970-01-01T00:00:00.002Z", "1970-01-01T00:00:00.001Z"]
        );
    }
}
