//! The folder that keeps what took long to install, shared by all checkouts.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Written last into a folder, so that an interrupted build is not taken for a good one.
const COMPLETE: &str = ".complete";

/// The cache, held by this process alone until dropped.
pub(crate) struct Cache {
    folder: PathBuf,
    _lock: File,
}

impl Cache {
    /// Opens the cache, waiting for another process that holds it.
    pub(crate) fn open() -> Result<Self> {
        let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
            (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
            (_, Some(home)) => PathBuf::from(home).join(".cache"),
            (_, None) => env::temp_dir(),
        };
        Self::open_at(base.join("events-db-tests"))
    }

    fn open_at(folder: PathBuf) -> Result<Self> {
        let opening = || format!("cannot use the cache folder {}", folder.display());
        fs::create_dir_all(&folder).with_context(opening)?;
        let lock = File::create(folder.join("lock")).with_context(opening)?;
        lock.lock().with_context(opening)?;
        Ok(Self { folder, _lock: lock })
    }

    /// The folder `name`, made by `build` unless an earlier run has finished it.
    pub(crate) fn folder(&self, name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        let complete = folder.join(COMPLETE);
        if !complete.exists() {
            if folder.exists() {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
            }
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            build(&folder)?;
            File::create(&complete).with_context(|| format!("cannot create {}", complete.display()))?;
        }
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn interrupted_build_is_done_again_from_an_empty_folder() -> Result<()> {
        let temporary = tempfile::tempdir()?;
        let cache = Cache::open_at(temporary.path().join("cache"))?;
        let interrupted = cache.folder("tool", |folder| {
            fs::write(folder.join("half"), "")?;
            bail!("interrupted")
        });
        assert!(interrupted.is_err());

        let folder = cache.folder("tool", |folder| Ok(fs::write(folder.join("whole"), "")?))?;
        assert!(folder.join("whole").exists());
        assert!(!folder.join("half").exists());
        Ok(())
    }

    #[test]
    fn finished_build_is_not_done_again() -> Result<()> {
        let temporary = tempfile::tempdir()?;
        let cache = Cache::open_at(temporary.path().join("cache"))?;
        let built = cache.folder("tool", |_| Ok(()))?;
        let found = cache.folder("tool", |_| bail!("built twice"))?;
        assert_eq!(built, found);
        Ok(())
    }
}
