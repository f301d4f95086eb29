//! What an app's labels ask of its changes: a way back by itself, canaries, a second set.
//!
//! Marathon knows none of it, and strict clients refuse keys that Marathon does not have; labels
//! pass through all of them.

use crate::model::{
    App, LABEL_BLUE_GREEN, LABEL_CANARY, LABEL_DEVICES, LABEL_ROLLBACK_AFTER,
    LABEL_SINGLE_INSTANCE, RolloutKind,
};

/// Milliseconds in which a new version may have to become healthy: a second to a week.
const ROLLBACK_AFTER_MS: std::ops::RangeInclusive<u64> = 1000..=7 * 24 * 3600 * 1000;

/// What the labels of one app ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub rollback_after_ms: Option<u64>,
    canary: Option<Share>,
    blue_green: bool,
}

/// How many instances come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Count(u32),
    Percent(u32),
}

/// A label that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLabel {
    pub label: &'static str,
    pub message: String,
}

impl Asked {
    /// How a change to `instances` of the new version comes in.
    pub fn kind(&self, instances: u32) -> RolloutKind {
        match self.canary {
            _ if self.blue_green => RolloutKind::BlueGreen,
            Some(Share::Count(count)) => RolloutKind::Canary { count },
            Some(Share::Percent(percent)) => {
                let part = (u64::from(instances) * u64::from(percent)).div_ceil(100);
                RolloutKind::Canary { count: u32::try_from(part).unwrap_or(u32::MAX) }
            }
            None => RolloutKind::Rolling,
        }
    }
}

/// Read what an app's labels ask for; a label that cannot be followed asks for nothing.
pub fn asked(app: &App) -> (Asked, Vec<BadLabel>) {
    let mut bad = Vec::new();
    let mut asked = Asked::default();
    let mut read = |label: &'static str, take: &mut dyn FnMut(&str) -> Result<(), String>| {
        let value = app.labels.get(label).map(|value| value.trim());
        if let Some(Err(message)) = value.map(take) {
            bad.push(BadLabel { label, message });
        }
    };
    read(LABEL_ROLLBACK_AFTER, &mut |value| {
        duration_ms(value).map(|ms| asked.rollback_after_ms = Some(ms))
    });
    read(LABEL_CANARY, &mut |value| share(value).map(|share| asked.canary = Some(share)));
    read(LABEL_BLUE_GREEN, &mut |value| truth(value).map(|truth| asked.blue_green = truth));
    if asked.blue_green
        && let Some(message) = against_second_set(app, &asked)
    {
        asked.blue_green = false;
        bad.push(BadLabel { label: LABEL_BLUE_GREEN, message });
    }
    (asked, bad)
}

fn against_second_set(app: &App, asked: &Asked) -> Option<String> {
    if asked.canary.is_some() {
        return Some(format!("cannot be used together with {LABEL_CANARY}: choose one of them"));
    }
    if app.is_resident() {
        let why = "a second set would need the data that the first one holds";
        return Some(format!("cannot be used with persistent volumes: {why}"));
    }
    if app.wants_devices() {
        let why = "a second set would need the devices that the first one holds";
        return Some(format!("cannot be used with {LABEL_DEVICES}: {why}"));
    }
    app.is_single_instance().then(|| {
        let why = "a second set would be a second instance";
        format!("cannot be used with {LABEL_SINGLE_INSTANCE}: {why}")
    })
}

/// Read a time as labels give it, in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok();
    let ms = number.zip(unit_ms).and_then(|(number, unit_ms)| number.checked_mul(unit_ms));
    ms.filter(|ms| ROLLBACK_AFTER_MS.contains(ms)).ok_or_else(|| {
        "must be a time from 1s to 7d: a whole number and s, m, h or d, for example 60s or 5m"
            .to_string()
    })
}

fn share(text: &str) -> Result<Share, String> {
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| plain && *number > 0)
    };
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent).filter(|n| *n <= 100).map(Share::Percent),
        None => number(text).map(Share::Count),
    };
    share.ok_or_else(|| {
        "must be a part from 1% to 100% or a number of instances from 1, for example 10% or 2"
            .to_string()
    })
}

fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" | "" => Ok(false),
        _ => Err("must be true or false".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AppId;

    fn with(labels: &[(&str, &str)]) -> App {
        let mut app = App::with_defaults(AppId::new("/a"));
        app.labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        app
    }

    #[test]
    fn times_have_a_unit_and_bounds() {
        let rows = [
            ("60s", Some(60_000)),
            (" 5m ", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("7d", Some(604_800_000)),
            ("1s", Some(1000)),
            ("0s", None),
            ("8d", None),
            ("60", None),
            ("s", None),
            ("-5s", None),
            ("1.5m", None),
            ("5 m", None),
            ("1m30s", None),
            ("99999999999999999999d", None),
            ("999999999999999999d", None),
            ("", None),
        ];
        for (text, ms) in rows {
            let (asked, bad) = asked(&with(&[(LABEL_ROLLBACK_AFTER, text)]));
            assert_eq!(asked.rollback_after_ms, ms, "{text:?}");
            assert_eq!(bad.len(), usize::from(ms.is_none()), "{text:?}");
            assert!(bad.iter().all(|bad| bad.label == LABEL_ROLLBACK_AFTER), "{text:?}");
        }
    }

    #[test]
    fn shares_are_rounded_up() {
        let canary = |count| Some(RolloutKind::Canary { count });
        let rows = [
            ("10%", 10, canary(1)),
            ("10%", 11, canary(2)),
            ("10%", 1, canary(1)),
            ("100%", 4, canary(4)),
            ("1%", u32::MAX, canary(42_949_673)),
            ("3", 10, canary(3)),
            // More than there are: all of them come first.
            ("30", 10, canary(30)),
            ("0", 10, None),
            ("0%", 10, None),
            ("101%", 10, None),
            ("+1", 10, None),
            ("ten", 10, None),
            ("%", 10, None),
            ("", 10, None),
        ];
        for (text, instances, expected) in rows {
            let (asked, bad) = asked(&with(&[(LABEL_CANARY, text)]));
            let found = asked.kind(instances);
            assert_eq!(found, expected.unwrap_or(RolloutKind::Rolling), "{text:?} of {instances}");
            assert_eq!(bad.len(), usize::from(expected.is_none()), "{text:?}");
        }
    }

    #[test]
    fn a_second_set_is_asked_for_in_words() {
        let rows = [("true", true), ("Yes", true), ("1", true), ("on", true)];
        let rows = rows.into_iter().chain([("false", false), ("0", false), ("", false)]);
        for (text, on) in rows {
            let (asked, bad) = asked(&with(&[(LABEL_BLUE_GREEN, text)]));
            assert_eq!((asked.kind(2) == RolloutKind::BlueGreen, bad), (on, vec![]), "{text:?}");
        }
        let (none, bad) = asked(&with(&[(LABEL_BLUE_GREEN, "green")]));
        assert_eq!((none.kind(2), bad.len()), (RolloutKind::Rolling, 1));
        for (label, value, why) in [
            (LABEL_CANARY, "1", "choose one"),
            (LABEL_SINGLE_INSTANCE, "true", "a second instance"),
            (LABEL_DEVICES, "i2c:1", "the devices"),
        ] {
            let (_, bad) = asked(&with(&[(LABEL_BLUE_GREEN, "true"), (label, value)]));
            assert_eq!(bad.len(), 1, "{label}");
            assert_eq!(bad[0].label, LABEL_BLUE_GREEN);
            assert!(bad[0].message.contains(why), "{}", bad[0].message);
        }
    }
}
