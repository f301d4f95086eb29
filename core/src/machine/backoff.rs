//! Marathon's launch backoff (section 8 of its contract).

use crate::model::{BackoffStrategy, LaunchDelay, PPM, Time};

/// The delay after a failure at `now`, following the one before.
///
/// The first delay is the initial one; each further failure multiplies it up to the maximum. A
/// delay whose failure lies more than the maximum back is forgotten. Nothing else lowers it: a
/// launch that merely succeeds says little about an app that dies after a minute.
pub(crate) fn after_failure(
    earlier: LaunchDelay,
    strategy: &BackoffStrategy,
    now: Time,
) -> LaunchDelay {
    let failed_at = Time(earlier.until.0.saturating_sub(earlier.delay_ms));
    let forgotten = now > failed_at.plus_ms(strategy.max_ms);
    let delay_ms = if earlier.delay_ms == 0 || forgotten {
        strategy.initial_ms
    } else {
        let grown =
            u128::from(earlier.delay_ms) * u128::from(strategy.factor_ppm) / u128::from(PPM);
        u64::try_from(grown).unwrap_or(u64::MAX)
    }
    .min(strategy.max_ms);
    LaunchDelay { delay_ms, until: now.plus_ms(delay_ms) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BACKOFF_DEFAULT;

    fn delay(delay_ms: u64, until: u64) -> LaunchDelay {
        LaunchDelay { delay_ms, until: Time(until) }
    }

    #[test]
    fn delays_grow_are_capped_and_forgotten() {
        let capped = BackoffStrategy { initial_ms: 1000, factor_ppm: 2 * PPM, max_ms: 3000 };
        let flat = BackoffStrategy { initial_ms: 0, factor_ppm: PPM, max_ms: 300_000 };
        let huge = BackoffStrategy { initial_ms: 9000, factor_ppm: PPM, max_ms: 500 };
        let wild = BackoffStrategy { initial_ms: 1, factor_ppm: u64::MAX, max_ms: u64::MAX };
        let cases = [
            // (name, earlier, strategy, now, expected)
            ("first", delay(0, 0), BACKOFF_DEFAULT, 10_000, delay(1000, 11_000)),
            ("second", delay(1000, 11_000), BACKOFF_DEFAULT, 12_000, delay(1150, 13_150)),
            ("capped", delay(2000, 12_000), capped, 12_500, delay(3000, 15_500)),
            ("still known", delay(1000, 11_000), capped, 13_000, delay(2000, 15_000)),
            ("forgotten", delay(1000, 11_000), capped, 13_001, delay(1000, 14_001)),
            ("no delay wanted", delay(0, 0), flat, 5, delay(0, 5)),
            ("initial above maximum", delay(0, 0), huge, 5, delay(500, 505)),
            ("never overflows", delay(u64::MAX, 7), wild, 9, delay(u64::MAX, u64::MAX)),
        ];
        for (name, earlier, strategy, now, expected) in cases {
            assert_eq!(after_failure(earlier, &strategy, Time(now)), expected, "{name}");
        }
    }
}
