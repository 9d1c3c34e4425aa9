//! The folder of locks and records by which processes share services.

use std::{
    fs::{self, File},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Context, Result};

/// Another folder than the default, for a stack that shares nothing with the user's others.
pub(crate) const STATE_DIR: &str = "CHANGEPROOF_STATE_DIR";

/// How the lock of a run's guard is called; a guard that was killed leaves it behind.
pub(super) const GUARD_LOCK_ENDING: &str = ".guard";

/// How the folders that are shared with containers are called.
const SHARED_ENDING: &str = ".shared";

/// A folder of locks and records. Containers of different folders know nothing of each other.
#[derive(Clone, Debug)]
pub struct State {
    dir: PathBuf,
    id: String,
}

impl State {
    /// Opens the folder, one for each user of the machine, and makes it if it isn't there.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open() -> Result<Self> {
        let user = rustix::process::getuid().as_raw();
        let dir = std::env::var_os(STATE_DIR)
            .map_or_else(|| std::env::temp_dir().join(format!("changeproof-{user}")), PathBuf::from);
        Self::at(&dir)
    }

    pub(crate) fn at(dir: &Path) -> Result<Self> {
        let doing = || format!("make its folder {}", dir.display());
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir).while_doing("the stack", doing())?;
        let dir = dir.canonicalize().while_doing("the stack", doing())?;
        let id = short_hash(&dir.to_string_lossy());
        // For people and scripts that look for this folder's containers by their label.
        fs::write(dir.join("id"), &id).while_doing("the stack", doing())?;
        Ok(Self { dir, id })
    }

    /// Six characters that tell this folder's containers from those of other folders.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A folder for a container to make files in that this process uses, empty if it was there. Writable by all, for the
    /// container's user differs from image to image; nobody else can reach it, since this state's folder is private.
    pub(crate) fn shared_folder(&self, container: &str) -> Result<PathBuf> {
        let doing = || format!("make the folder {container}{SHARED_ENDING}");
        self.remove_shared_folder(container)?;
        let folder = self.dir.join(format!("{container}{SHARED_ENDING}"));
        fs::create_dir(&folder).while_doing("the stack", doing())?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).while_doing("the stack", doing())?;
        Ok(folder)
    }

    /// Removes the folder that was shared with a container, if there is one.
    pub(crate) fn remove_shared_folder(&self, container: &str) -> Result<()> {
        match fs::remove_dir_all(self.dir.join(format!("{container}{SHARED_ENDING}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).while_doing("the stack", format!("remove the folder of {container}"))
            }
            _ => Ok(()),
        }
    }

    /// A file to lock.
    pub(crate) fn lock_file(&self, name: &str) -> Result<File> {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.dir.join(name))
            .while_doing("the stack", format!("open {name}"))
    }

    /// Locks a file, once whoever holds it gives it up. That may be another task of this process, which a lock that blocks
    /// the thread would hold up for ever.
    pub(super) async fn lock(&self, name: &str, whose: &str, doing: &str) -> Result<File> {
        locked(self.lock_file(name)?, File::lock).await.while_doing(whose, doing)
    }

    /// Says whether services stay when nobody uses them.
    pub(crate) fn keep(&self, keep: bool) -> Result<()> {
        if keep {
            File::create(self.dir.join("keep")).map(drop).while_doing("the stack", "keep services")
        } else {
            self.remove("keep")
        }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.dir.join("keep").exists()
    }

    /// Says that a service is being started, until it is told otherwise.
    pub(crate) fn starting(&self, service: &str, is_starting: bool) -> Result<()> {
        let name = format!("{service}.starting");
        if is_starting {
            File::create(self.dir.join(name)).map(drop).while_doing("the stack", "note a start")
        } else {
            self.remove(&name)
        }
    }

    /// Whether a service was being started when whoever started it was last heard of.
    pub(crate) fn is_starting(&self) -> Result<bool> {
        Ok(!self.files(".starting")?.is_empty())
    }

    /// Reads a record; a broken one counts as none.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.dir.join(name)).ok()?).ok()
    }

    /// Writes a record that only this user can read, whole or not at all.
    pub(crate) fn write<T: Serialize>(&self, name: &str, record: &T) -> Result<()> {
        let doing = || format!("write {name}");
        let partial = self.dir.join(format!("{name}.{}", std::process::id()));
        let json = serde_json::to_vec_pretty(record).while_doing("the stack", doing())?;
        fs::write(&partial, json).while_doing("the stack", doing())?;
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o600)).while_doing("the stack", doing())?;
        fs::rename(&partial, self.dir.join(name)).while_doing("the stack", doing())
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).while_doing("the stack", format!("remove {name}"))
            }
            _ => Ok(()),
        }
    }

    /// The names of the files that end so.
    pub(crate) fn files(&self, ending: &str) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.dir).while_doing("the stack", "list its folder")?;
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(ending))
            .collect())
    }

    /// Forgets the services and leases that were just removed, and guards that are no more.
    pub(crate) fn forget_services(&self) -> Result<()> {
        let records = [".json", ".lease", ".starting"].map(|ending| self.files(ending));
        for name in records.into_iter().collect::<Result<Vec<_>>>()?.concat() {
            self.remove(&name)?;
        }
        for name in self.files(SHARED_ENDING)? {
            self.remove_shared_folder(name.trim_end_matches(SHARED_ENDING))?;
        }
        for name in self.files(GUARD_LOCK_ENDING)? {
            if self.lock_file(&name)?.try_lock().is_ok() {
                self.remove(&name)?;
            }
        }
        Ok(())
    }
}

fn short_hash(text: &str) -> String {
    // FNV-1a; std's hasher isn't the same in every release, and these names outlive a build.
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:06x}", hash & 0xff_ffff)
}

/// Waits for a lock off the runtime's threads.
pub(super) async fn locked(file: File, lock: fn(&File) -> std::io::Result<()>) -> std::io::Result<File> {
    let locked = tokio::task::spawn_blocking(move || lock(&file).map(|()| file)).await;
    locked.map_err(std::io::Error::other).and_then(|locked| locked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_private_and_a_broken_one_counts_as_none() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("changeproof-test-{}", uuid::Uuid::new_v4()));
        let state = State::at(&dir)?;
        state.write("a.json", &vec![1, 2])?;
        let mode = fs::metadata(dir.join("a.json")).while_doing("test", "look")?.permissions().mode();
        assert_eq!(mode & 0o077, 0);
        assert_eq!(state.read::<Vec<i32>>("a.json"), Some(vec![1, 2]));
        fs::write(dir.join("a.json"), "{").while_doing("test", "break it")?;
        assert_eq!(state.read::<Vec<i32>>("a.json"), None);
        state.forget_services()?;
        assert_eq!(state.files("json")?, Vec::<String>::new());
        fs::remove_dir_all(&dir).while_doing("test", "clean up")
    }

    #[tokio::test]
    async fn a_task_that_waits_for_a_lock_does_not_hold_up_the_one_that_has_it() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("changeproof-test-{}", uuid::Uuid::new_v4()));
        let state = State::at(&dir)?;
        let hold = || async {
            let held = state.lock("a.lock", "test", "lock").await?;
            tokio::task::yield_now().await;
            drop(held);
            Ok::<_, crate::error::Error>(())
        };
        let both = futures_util::future::try_join(hold(), hold());
        let both = tokio::time::timeout(std::time::Duration::from_secs(20), both).await;
        both.while_doing("test", "lock twice")??;
        fs::remove_dir_all(&dir).while_doing("test", "clean up")
    }

    #[test]
    fn an_exclusive_lock_waits_for_every_shared_one() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("changeproof-test-{}", uuid::Uuid::new_v4()));
        let state = State::at(&dir)?;
        let user = state.lock_file("use.lock")?;
        user.lock_shared().while_doing("test", "share")?;
        let remover = state.lock_file("use.lock")?;
        assert!(remover.try_lock().is_err());
        drop(user);
        assert!(remover.try_lock().is_ok());
        fs::remove_dir_all(&dir).while_doing("test", "clean up")
    }
}
