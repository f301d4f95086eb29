//! Why an offer does not suit an instance: Marathon's funnel (section 2.5 of its contract).

use crate::model::{BYTES_PER_MIB, ROLE_ANY};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The roles the app takes, and those the agent lends to (none: to anybody).
    UnfulfilledRole {
        accepted: Vec<String>,
        roles: Vec<String>,
    },
    /// `rule` is the constraint as the user wrote it: `rack UNLIKE r1`.
    UnfulfilledConstraint {
        rule: String,
    },
    /// Marathon has no name for it; it is a condition that does not hold.
    SecretMissing {
        name: String,
    },
    /// The instance's volumes are on the agent `host`.
    NoCorrespondingReservationFound {
        host: String,
    },
    /// The agent `host` is drained.
    AgentMaintenance {
        host: String,
    },
    /// Marathon has no name for it; it is a condition that does not hold for a while.
    TaskLeaves,
    InsufficientCpus {
        need_milli: u64,
        free_milli: u64,
    },
    InsufficientMemory {
        need_bytes: u64,
        free_bytes: u64,
    },
    InsufficientDisk {
        need_bytes: u64,
        free_bytes: u64,
    },
    InsufficientGpus {
        need: u32,
        free: u32,
    },
    /// `wanted` ports in all; `missing` are the fixed ones among them that are not free.
    InsufficientPorts {
        wanted: u32,
        missing: Vec<u16>,
    },
    /// Marathon has no name for it; it is a condition that does not hold. `taken`: the agent has
    /// it, and another task holds it.
    DeviceMissing {
        id: String,
        taken: bool,
    },
    DeclinedScarceResources,
}

impl Reason {
    /// Marathon's names of all reasons, in the order in which they decline.
    pub const FUNNEL: [&'static str; 10] = [
        "UnfulfilledRole",
        "UnfulfilledConstraint",
        "NoCorrespondingReservationFound",
        "AgentMaintenance",
        "InsufficientCpus",
        "InsufficientMemory",
        "InsufficientDisk",
        "InsufficientGpus",
        "InsufficientPorts",
        "DeclinedScarceResources",
    ];

    /// Marathon's name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Reason::UnfulfilledRole { .. } => "UnfulfilledRole",
            Reason::UnfulfilledConstraint { .. }
            | Reason::SecretMissing { .. }
            | Reason::DeviceMissing { .. }
            | Reason::TaskLeaves => "UnfulfilledConstraint",
            Reason::NoCorrespondingReservationFound { .. } => "NoCorrespondingReservationFound",
            Reason::AgentMaintenance { .. } => "AgentMaintenance",
            Reason::InsufficientCpus { .. } => "InsufficientCpus",
            Reason::InsufficientMemory { .. } => "InsufficientMemory",
            Reason::InsufficientDisk { .. } => "InsufficientDisk",
            Reason::InsufficientGpus { .. } => "InsufficientGpus",
            Reason::InsufficientPorts { .. } => "InsufficientPorts",
            Reason::DeclinedScarceResources => "DeclinedScarceResources",
        }
    }

    /// Tell a person what is missing and by how much.
    pub fn describe(&self) -> String {
        match self {
            Reason::UnfulfilledRole { accepted, roles } => {
                format!("role: takes {}, the agent lends to {}", list(accepted), list(roles))
            }
            Reason::UnfulfilledConstraint { rule } => format!("constraint [{rule}] does not hold"),
            Reason::SecretMissing { name } => format!("secret '{name}' does not exist"),
            Reason::NoCorrespondingReservationFound { host } => {
                format!("the instance's volumes are on {host}")
            }
            Reason::AgentMaintenance { .. } => {
                "the agent is drained: it takes no tasks".to_string()
            }
            Reason::TaskLeaves => "a task of the app moves away from there".to_string(),
            Reason::InsufficientCpus { need_milli, free_milli } => {
                short("cpus", *need_milli, *free_milli, 1000, "")
            }
            Reason::InsufficientMemory { need_bytes, free_bytes } => {
                short("memory", *need_bytes, *free_bytes, BYTES_PER_MIB, " MiB")
            }
            Reason::InsufficientDisk { need_bytes, free_bytes } => {
                short("disk", *need_bytes, *free_bytes, BYTES_PER_MIB, " MiB")
            }
            Reason::InsufficientGpus { need, free } => {
                short("gpus", u64::from(*need), u64::from(*free), 1, "")
            }
            Reason::InsufficientPorts { wanted, missing } if missing.is_empty() => {
                format!("{wanted} host ports are wanted, fewer are free")
            }
            Reason::InsufficientPorts { missing, .. } => {
                let list: Vec<String> = missing.iter().map(u16::to_string).collect();
                format!("host port {} is not free", list.join(", "))
            }
            Reason::DeviceMissing { id, taken: false } => format!("no device {id} there"),
            Reason::DeviceMissing { id, taken: true } => {
                format!("device {id} is held by another task")
            }
            Reason::DeclinedScarceResources => "the agent keeps scarce resources back".to_string(),
        }
    }

    /// Tell a person the smallest change that would take this reason away.
    pub fn smallest_change(&self) -> String {
        match self {
            Reason::UnfulfilledRole { roles, .. } => {
                let role = roles.first().map_or(ROLE_ANY, String::as_str);
                format!("add \"{role}\" to acceptedResourceRoles, or give the agent another role")
            }
            Reason::UnfulfilledConstraint { rule } => {
                format!("change or drop the constraint [{rule}]")
            }
            Reason::SecretMissing { name } => format!("bramble secret put {name}"),
            Reason::NoCorrespondingReservationFound { host } => {
                format!("bring {host} back, or give the data up: DELETE its tasks with wipe=true")
            }
            Reason::AgentMaintenance { host } => format!("bramble undrain {host}"),
            Reason::TaskLeaves => "wait until it has moved".to_string(),
            Reason::InsufficientCpus { need_milli, free_milli } => {
                less("cpus", *need_milli, *free_milli, 1000, "")
            }
            Reason::InsufficientMemory { need_bytes, free_bytes } => {
                less("mem", *need_bytes, *free_bytes, BYTES_PER_MIB, " MiB")
            }
            Reason::InsufficientDisk { need_bytes, free_bytes } => {
                less("disk", *need_bytes, *free_bytes, BYTES_PER_MIB, " MiB")
            }
            Reason::InsufficientGpus { need, free } => {
                less("gpus", u64::from(*need), u64::from(*free), 1, "")
            }
            Reason::InsufficientPorts { missing, .. } if missing.is_empty() => {
                "ask for fewer host ports".to_string()
            }
            Reason::InsufficientPorts { missing, .. } => {
                let list: Vec<String> = missing.iter().map(u16::to_string).collect();
                format!("free host port {}, or ask for port 0 (any)", list.join(", "))
            }
            Reason::DeviceMissing { id, taken: false } => format!("plug {id} in there"),
            Reason::DeviceMissing { .. } => {
                "plug another one in, or stop the task that holds it".to_string()
            }
            Reason::DeclinedScarceResources => "ask for the scarce resource".to_string(),
        }
    }
}

fn list(roles: &[String]) -> String {
    if roles.is_empty() { ROLE_ANY.to_string() } else { roles.join(", ") }
}

/// Lower the demand to what is free, or free what is missing.
fn less(field: &str, need: u64, free: u64, unit: u64, name: &str) -> String {
    let missing = amount(need.saturating_sub(free), unit);
    // Rounded down: the whole of it must fit.
    let fits = u128::from(free) * 1000 / u128::from(unit);
    if fits == 0 {
        return format!("free {missing}{name} {field}");
    }
    let fits = decimal(fits);
    format!("set {field} to {fits} or less, or free {missing}{name}")
}

fn short(what: &str, need: u64, free: u64, unit: u64, name: &str) -> String {
    format!(
        "{what}: needs {}{name}, {}{name} free, {}{name} short",
        amount(need, unit),
        amount(free, unit),
        amount(need.saturating_sub(free), unit)
    )
}

/// `value / unit` with up to three decimals, rounded to the nearest.
fn amount(value: u64, unit: u64) -> String {
    let thousandths = (u128::from(value) * 1000 + u128::from(unit) / 2) / u128::from(unit);
    decimal(thousandths)
}

fn decimal(thousandths: u128) -> String {
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_how_much_is_missing() {
        let cases = [
            (
                Reason::InsufficientCpus { need_milli: 2000, free_milli: 1750 },
                "cpus: needs 2, 1.75 free, 0.25 short",
            ),
            (
                Reason::InsufficientMemory {
                    need_bytes: 256 * BYTES_PER_MIB,
                    free_bytes: 100 * BYTES_PER_MIB + BYTES_PER_MIB / 2,
                },
                "memory: needs 256 MiB, 100.5 MiB free, 155.5 MiB short",
            ),
            (Reason::InsufficientGpus { need: 1, free: 0 }, "gpus: needs 1, 0 free, 1 short"),
            (
                Reason::InsufficientPorts { wanted: 3, missing: vec![80, 443] },
                "host port 80, 443 is not free",
            ),
            (
                Reason::InsufficientPorts { wanted: 3, missing: vec![] },
                "3 host ports are wanted, fewer are free",
            ),
            (
                Reason::NoCorrespondingReservationFound { host: "n1".into() },
                "the instance's volumes are on n1",
            ),
            (
                Reason::UnfulfilledConstraint { rule: "rack LIKE r1".into() },
                "constraint [rack LIKE r1] does not hold",
            ),
            (Reason::SecretMissing { name: "a/b".into() }, "secret 'a/b' does not exist"),
            (
                Reason::AgentMaintenance { host: "n1".into() },
                "the agent is drained: it takes no tasks",
            ),
            (Reason::TaskLeaves, "a task of the app moves away from there"),
            (
                Reason::DeviceMissing { id: "usb:10c4:ea60".into(), taken: false },
                "no device usb:10c4:ea60 there",
            ),
            (
                Reason::DeviceMissing { id: "i2c:1".into(), taken: true },
                "device i2c:1 is held by another task",
            ),
        ];
        for (reason, text) in cases {
            assert_eq!(reason.describe(), text);
            assert!(Reason::FUNNEL.contains(&reason.as_str()));
        }
    }
}
