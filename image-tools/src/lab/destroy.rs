//! Taking machines away, and with the last one the lab: whole ones, and what a crash left of one.

use super::error::LabError;
use super::machine;
use super::place::Place;
use std::path::Path;

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Destroyed {
    pub machines: Vec<String>,
    /// Network, keys and images, too.
    pub lab: bool,
}

/// Remove machines by name, or, without any names, all with all that belongs to the lab.
///
/// # Errors
/// There is no lab or no such machine, or the system says why something stays.
pub fn destroy(directory: &Path, names: &[String]) -> Result<Destroyed, LabError> {
    let Some(place) = Place::open(directory)? else {
        if names.is_empty() {
            return Ok(Destroyed::default());
        }
        return Err(LabError::refused(format!("there is no lab in {}", directory.display())));
    };
    let _alone = place.alone()?;
    let made: Vec<_> = place.made()?.into_iter().map(|(name, _)| name).collect();
    if let Some(name) = names.iter().find(|name| !made.contains(name)) {
        let made = if made.is_empty() { "none".into() } else { made.join(", ") };
        return Err(LabError::refused(format!("machine {name} was not made; there are: {made}")));
    }
    let wanted = |name: &String| names.is_empty() || names.contains(name);
    let (gone, stay): (Vec<_>, Vec<_>) = made.into_iter().partition(wanted);
    if stay.is_empty() {
        all(place)?;
        return Ok(Destroyed { machines: gone, lab: true });
    }
    gone.iter().try_for_each(|name| one(&place, name))?;
    Ok(Destroyed { machines: gone, lab: false })
}

/// Stop a machine and remove its card. What it has on its disk stays.
///
/// # Errors
/// Its process does not end.
pub fn halt(place: &Place, name: &str) -> Result<(), LabError> {
    machine::stop(&place.files(name))?;
    let made = place.made()?.into_iter().find(|(made, _)| made == name);
    if let Some((_, Some(machine))) = made {
        place.network().unplug(machine.ip);
    }
    Ok(())
}

/// Remove a machine.
///
/// # Errors
/// Its process does not end, or its files cannot be removed.
pub fn one(place: &Place, name: &str) -> Result<(), LabError> {
    halt(place, name)?;
    place.remove_machine(name)
}

/// Remove the lab.
///
/// # Errors
/// As [`one`], or the network stays.
pub fn all(place: Place) -> Result<(), LabError> {
    for (name, _) in place.made()? {
        one(&place, &name)?;
    }
    machine::stop(&place.trial()?)?;
    place.network().remove()?;
    place.remove()
}
