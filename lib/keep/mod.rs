//! Sets of backups: xb-keep.
//!
//! A [`store`] has objects that are never changed; the [`catalog`] is what they say. Verbs start programs of ours in
//! [`chain`]s and judge each of them. The bytes of a backup pass here only to be summed and indexed ([`intake`]), and to be
//! compared with their sum on their way out ([`source`]). [`retention`], [`index`], [`stages`] and [`status`] are pure.

pub mod admit;
pub mod binlog;
pub mod catalog;
pub mod chain;
pub mod describe;
pub mod index;
pub mod intake;
pub mod marks;
pub mod meta;
pub mod private;
pub mod replica;
pub mod retention;
pub mod sealed;
pub mod settings;
pub mod source;
pub mod stages;
pub mod status;
pub mod store;
pub mod subset;
pub mod verbs;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use catalog::{Backup, Catalog};
use meta::BACKUPS;
use settings::Settings;
use source::Source;
use store::Store;
use store::local::Local;

/// A store with its settings.
pub struct Keep {
    /// The store.
    pub store: Box<dyn Store>,
    /// Its settings.
    pub settings: Settings,
    /// For temporary files.
    pub temporary: PathBuf,
    /// The key, if it is not where it was when a backup was made.
    pub key: Option<PathBuf>,
}

impl Keep {
    /// Opens a store. `config` stands for the settings in it.
    ///
    /// # Errors
    ///
    /// Failed, if there is none; Usage, if its settings cannot be understood.
    pub fn open(place: &Path, config: Option<&Path>, temporary: PathBuf) -> Result<Keep> {
        let own = place.join(settings::NAME);
        if !own.is_file() && !place.join(BACKUPS).is_dir() {
            return Err(Error::failed(place.display(), "is not a store").hint("xb-keep init makes one"));
        }
        let settings = settings::read(config.unwrap_or(&own))?;
        Ok(Keep { store: Box::new(Local::new(place)), settings, temporary, key: None })
    }

    /// The catalogue.
    ///
    /// # Errors
    ///
    /// Failed, if the store cannot be read.
    pub fn catalog(&self) -> Result<Catalog> {
        Catalog::read(&*self.store)
    }

    /// The catalogue, for a verb that adds or removes backups: what a run could not finish is finished first.
    ///
    /// # Errors
    ///
    /// Failed, if the store cannot be read or written.
    pub fn recovered(&self) -> Result<Catalog> {
        marks::recover(&*self.store)?;
        self.catalog()
    }

    /// The programs that undo the stages of a backup.
    fn undo(&self, backup: &Backup) -> Vec<Vec<String>> {
        let mut undo = backup.meta.undo.clone();
        if let Some(key) = &self.key {
            for run in undo.iter_mut().filter(|run| stages::name(run) == "xb-crypt") {
                let at = run.iter().position(|word| word == "-k").map(|at| at + 1);
                if let Some(word) = at.and_then(|at| run.get_mut(at)) {
                    *word = key.display().to_string();
                }
            }
        }
        undo
    }

    /// Does something with the stored stream of a backup.
    fn with_source<T>(&self, backup: &Backup, work: impl FnOnce(&Source<'_>) -> Result<T>) -> Result<T> {
        let (prefix, undo) = (format!("{BACKUPS}{}/", backup.meta.id), self.undo(backup));
        work(&Source::new(&*self.store, &prefix, backup, &undo))
    }
}
