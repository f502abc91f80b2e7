//! What is to be booted, as somebody asks for it.

use std::path::PathBuf;
use std::time::Duration;

use super::assisted::Assisted;
use super::plan::Sum;
use crate::model::BootMethod;

/// How far it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum WantedEnd {
    #[default]
    Started,
    /// The kernel has it, and somebody else starts it.
    Loaded,
    /// Every file is here, and as it should be.
    Verified,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    /// Of the boot script, or a kernel; not asked for where `assisted` says whose script it is.
    pub(crate) url: String,
    pub(crate) assisted: Option<Assisted>,
    pub(crate) authorities: Vec<PathBuf>,
    /// Nobody else is believed.
    pub(crate) is_only_authorities: bool,
    pub(crate) proxy: Option<String>,
    /// `Name: value`, or `@FILE` with one a line; for the place of the URL alone.
    pub(crate) headers: Vec<String>,
    /// Goes behind the kernel's command line.
    pub(crate) append: Option<String>,
    pub(crate) sums: Vec<Sum>,
    pub(crate) method: BootMethod,
    /// A script that begins again and again because something is not to be had has this long; none: as long as it likes.
    pub(crate) script_patience: Option<Duration>,
    pub(crate) end: WantedEnd,
    /// Whoever asks knows that this machine's work ends.
    pub(crate) is_agreed: bool,
}

impl Config {
    /// The words that are added to a kernel's.
    pub(super) fn append_to(&self, command_line: &mut String) {
        if let Some(words) = &self.append {
            if !command_line.is_empty() {
                command_line.push(' ');
            }
            command_line.push_str(words);
        }
    }
}
