//! A scenario's private names inside shared services.

use std::fs::File;

use super::State;
use crate::error::{Context, Result};

/// A name that no other scenario uses, for databases, slots, topics and connectors. Held by a file lock, so that what a
/// killed process left behind is known to be nobody's.
#[derive(Debug)]
pub struct Lease {
    name: String,
    file: String,
    state: State,
    _held: File,
}

impl Lease {
    /// Takes a new name for a holder: who else bears this name knows how to remove what is left of the lease.
    ///
    /// # Errors
    /// The lock's file can't be made.
    pub fn take(state: &State, holder: &str) -> Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("cp_{}", &id[..10]);
        let file = format!("{name}{}", ending(holder));
        let held = state.lock_file(&file)?;
        held.lock().while_doing("the lease", "lock its name")?;
        Ok(Self { name, file, state: state.clone(), _held: held })
    }

    /// The name: letters, digits and underscores, at most 13 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name for what a method makes under this lease: lowercase letters, digits and underscores, whatever the method's
    /// own name is made of, and at most 40 bytes.
    pub fn name_for(&self, method: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let method: String = method.chars().map(plain).take(26).collect();
        format!("{}_{method}", self.name)
    }

    /// Gives the name up, once all that bears it has been removed.
    ///
    /// # Errors
    /// The lock's file can't be removed.
    pub fn release(self) -> Result<()> {
        self.state.remove(&self.file)
    }
}

fn ending(holder: &str) -> String {
    format!(".{holder}.lease")
}

/// Takes over the leases of a holder's processes that died without giving them up.
///
/// # Errors
/// The state's folder can't be read.
pub fn stale(state: &State, holder: &str) -> Result<Vec<Lease>> {
    let mut stale = Vec::new();
    let ending = ending(holder);
    for file in state.files(&ending)? {
        let held = state.lock_file(&file)?;
        if held.try_lock().is_ok() {
            let name = file.trim_end_matches(&ending).to_owned();
            stale.push(Lease { name, file, state: state.clone(), _held: held });
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_a_slot_may_bear_whatever_the_method_is_called() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("changeproof-test-{}", uuid::Uuid::new_v4()));
        let state = State::at(&dir)?;
        let lease = Lease::take(&state, "m")?;
        assert_eq!(lease.name_for("logical"), format!("{}_logical", lease.name()));
        assert_eq!(lease.name_for("My-CDC 2"), format!("{}_my_cdc_2", lease.name()));
        assert!(lease.name_for(&"long".repeat(20)).len() <= 40);
        lease.release()?;
        std::fs::remove_dir_all(&dir).while_doing("test", "clean up")
    }

    #[test]
    fn a_lease_is_stale_only_when_its_holder_is_gone() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("changeproof-test-{}", uuid::Uuid::new_v4()));
        let state = State::at(&dir)?;
        let lease = Lease::take(&state, "m")?;
        let name = lease.name().to_owned();
        assert!(stale(&state, "m")?.is_empty());
        drop(lease);
        assert!(stale(&state, "another")?.is_empty(), "another holder can't clean up after this one");
        let found = stale(&state, "m")?;
        assert_eq!(found.iter().map(Lease::name).collect::<Vec<_>>(), [name]);
        found.into_iter().try_for_each(Lease::release)?;
        assert!(stale(&state, "m")?.is_empty());
        std::fs::remove_dir_all(&dir).while_doing("test", "clean up")
    }
}
