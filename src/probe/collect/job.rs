//! What a part of the inventory is collected from and with.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::live::LiveSources;
use super::options::{Limit, Options};
use super::root::Root;
use crate::probe::smbios::source::{self, Smbios};

/// What a part is collected from.
#[derive(Clone)]
pub(crate) struct Job {
    pub root: Root,
    pub live: Option<Arc<dyn LiveSources>>,
    pub options: Arc<Options>,
    smbios: Arc<OnceLock<Smbios>>,
}

impl Job {
    pub(crate) fn new(root: &Root, live: Option<Arc<dyn LiveSources>>, options: &Options) -> Self {
        Job {
            root: root.clone(),
            live,
            options: Arc::new(options.clone()),
            smbios: Arc::default(),
        }
    }

    /// The SMBIOS table, which the first part that wants it has read for all.
    pub(crate) fn smbios(&self) -> &Smbios {
        self.smbios.get_or_init(|| source::start(&self.root))
    }

    /// For boxes inside a part, which end before the part's own, so that the part can still tell what it has.
    pub(crate) fn within(&self, limit: Limit) -> Duration {
        limit.of(&self.options) * 4 / 5
    }
}
