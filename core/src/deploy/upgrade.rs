//! The bounds of a rolling change (Marathon's contract, section 8).

use crate::model::{App, LABEL_SINGLE_INSTANCE, PPM};

/// Numbers of instances that a rolling change keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// No working instance is stopped below this many.
    pub min_healthy: u32,
    /// No instance is added above this many, those that still stop included.
    pub max_capacity: u32,
}

impl Bounds {
    /// Work out the bounds for an app's wanted count.
    ///
    /// Where the two meet there would be no way forward. An ordinary app may then have one more
    /// for a while; one whose data or device is where it is, one fewer.
    pub fn of(app: &App) -> Bounds {
        let single = app.labels.get(LABEL_SINGLE_INSTANCE).is_some_and(|v| v == "true");
        let bound = app.is_resident() || app.wants_devices();
        let (min_ppm, over_ppm) = match single {
            true => (0, 0),
            // Data is in one place: there is nothing that one more instance could start from.
            // The same is true of a device, which has one task at a time.
            false if bound => (app.upgrade.min_health_ppm.min(PPM), 0),
            false => (app.upgrade.min_health_ppm.min(PPM), app.upgrade.max_over_ppm),
        };
        let n = u128::from(app.instances);
        let whole = u128::from(PPM);
        let min_healthy = (n * u128::from(min_ppm)).div_ceil(whole);
        let max_capacity = n * (whole + u128::from(over_ppm)) / whole;
        let bounds = Bounds {
            min_healthy: u32::try_from(min_healthy).unwrap_or(u32::MAX),
            max_capacity: u32::try_from(max_capacity).unwrap_or(u32::MAX),
        };
        match bounds {
            Bounds { min_healthy, max_capacity } if min_healthy < max_capacity => bounds,
            _ if bound => Bounds { min_healthy: bounds.min_healthy.saturating_sub(1), ..bounds },
            _ => Bounds { max_capacity: bounds.max_capacity.saturating_add(1), ..bounds },
        }
    }
}
