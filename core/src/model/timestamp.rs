//! A moment as text, for what tasks are told. The API's edge parses and prints with its own crate;
//! the core needs one direction only and no dependency for it.

use super::Time;

const MS_PER_DAY: u64 = 86_400_000;
/// Days of 400 Gregorian years, after which the calendar repeats.
const DAYS_PER_ERA: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;
/// 9999-12-31T23:59:59.999Z, the last moment of this form.
const LAST: u64 = 253_402_300_799_999;

impl Time {
    /// Write `2016-01-02T03:04:05.678Z` (Marathon's form since 1.5).
    pub fn to_timestamp(self) -> String {
        let ms = self.0.min(LAST);
        let (year, month, day) = civil(ms / MS_PER_DAY);
        let of_day = ms % MS_PER_DAY;
        let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
        let (second, fraction) = (of_day / 1000 % 60, of_day % 1000);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z")
    }
}

/// Year, month and day of a day since 1970. Years are counted from March, so that the leap day is
/// the last of its year and months have lengths that repeat every five.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + DAYS_BEFORE_1970;
    let (era, of_era) = (shifted / DAYS_PER_ERA, shifted % DAYS_PER_ERA);
    let year_of_era =
        (of_era - of_era / 1460 + of_era / 36_524 - of_era / (DAYS_PER_ERA - 1)) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_become_text() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_423_136_731_026, "2015-02-05T11:45:31.026Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ];
        for (ms, text) in cases {
            assert_eq!(Time(ms).to_timestamp(), text);
        }
    }
}
