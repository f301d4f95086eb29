//! Constraints and strategies.

use super::*;

#[test]
fn constraints_and_strategies_are_checked() {
    let at = "/constraints(0)";
    let depends = |id: &str| with(app(), |a| a.dependencies = vec![AppId::new(id)]);
    let upgrade = |min_health_ppm, max_over_ppm| {
        with(app(), |a| a.upgrade = UpgradeStrategy { min_health_ppm, max_over_ppm })
    };
    let single = |instances, min_health_ppm| {
        with(upgrade(min_health_ppm, 0), |a| {
            a.instances = instances;
            a.labels.insert(LABEL_SINGLE_INSTANCE.into(), "true".into());
        })
    };
    let cut_off = |value: &str| {
        with(app(), |a| drop(a.labels.insert(LABEL_ON_PARTITION.into(), value.into())))
    };
    assert_breaks(vec![
        (cut_off("stop"), "/labels/BRAMBLE_ON_PARTITION", "must be keep, or stop:"),
        (cut_off("stop:1"), "/labels/BRAMBLE_ON_PARTITION", "for example stop:60s"),
        (constrained(Operator::Unique, Some("x")), at, "UNIQUE does not accept a value"),
        (constrained(Operator::GroupBy, Some("x")), at, "Value was specified but is not a number"),
        (constrained(Operator::MaxPer, None), at, "MAX_PER requires"),
        (constrained(Operator::MaxPer, Some("-1")), at, "MAX_PER requires"),
        (constrained(Operator::Like, None), at, "A regular expression value must be provided"),
        (constrained(Operator::Like, Some("(")), at, "'(' is not a valid regular expression"),
        (
            constrained(Operator::Unlike, Some("((a{100}){100}){100}")),
            at,
            "'((a{100}){100}){100}' is not a valid regular expression",
        ),
        (constrained(Operator::Is, Some("a b")), at, "IS requires"),
        (
            with(constrained(Operator::Unique, None), |a| a.constraints[0].field.clear()),
            at,
            "Missing field",
        ),
        (
            upgrade(PPM + 1, 0),
            "/upgradeStrategy/minimumHealthCapacity",
            "must be between 0.0 and 1.0",
        ),
        (
            upgrade(0, 2 * PPM),
            "/upgradeStrategy/maximumOverCapacity",
            "must be between 0.0 and 1.0",
        ),
        (with(app(), |a| a.instances = 10_001), "/instances", "must be at most 10000"),
        (single(2, 0), "/instances", "must be at most 1"),
        (single(1, PPM), "/upgradeStrategy/minimumHealthCapacity", "must be 0 with label"),
        (
            with(resident(), |a| a.upgrade.max_over_ppm = 1),
            "/upgradeStrategy/maximumOverCapacity",
            "must be 0 for resident tasks",
        ),
        (
            with(resident(), |a| a.unreachable = app().unreachable),
            "/unreachableStrategy",
            "unreachableStrategy must be disabled for resident tasks",
        ),
        (
            with(app(), |a| {
                a.unreachable = UnreachableStrategy::After { inactive_ms: 2, expunge_ms: 1 };
            }),
            "/unreachableStrategy/inactiveAfterSeconds",
            "must be less than or equal to expungeAfterSeconds",
        ),
        (
            with(app(), |a| a.backoff.factor_ppm = PPM - 1),
            "/backoffFactor",
            "must be greater than or equal to 1.0",
        ),
        (depends("/a"), "/dependencies(0)", "an app must not depend on itself"),
        (depends("/B"), "/dependencies(0)", "must fully match"),
    ]);
}
