//! Timestamps as Marathon writes them: UTC, three fraction digits, `Z`.

use bramble_core::model::Time;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

/// Write `2016-01-02T03:04:05.678Z`.
pub fn format(time: Time) -> String {
    let form =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.0) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    moment.format(&form).unwrap_or_default()
}

/// Read any RFC 3339 timestamp with offset; `None` when it is none.
pub fn parse(text: &str) -> Option<Time> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?.to_offset(UtcOffset::UTC);
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok().map(Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_offsets() {
        for text in ["2015-02-05T11:45:31.026Z", "1970-01-01T00:00:00.000Z"] {
            assert_eq!(format(parse(text).expect("parses")), text);
        }
        assert_eq!(parse("2016-01-02T04:04:05.678+01:00"), parse("2016-01-02T03:04:05.678Z"));
        assert_eq!(parse("yesterday"), None);
    }
}
