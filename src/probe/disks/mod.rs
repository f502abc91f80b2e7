//! What is on disks and what they say of themselves. Parsers are pure; [`content`] and [`drive`] ask the machine.

pub(crate) mod arrivals;
pub(crate) mod ata_smart;
pub(crate) mod boot_medium;
pub(crate) mod by_path;
pub(crate) mod content;
pub(crate) mod controllers;
pub(crate) mod drive;
pub(crate) mod entry;
pub(crate) mod facts;
pub(crate) mod list;
pub(crate) mod nvme;
pub(crate) mod raid;
pub(crate) mod raid_ask;
pub(crate) mod scsi;
pub(crate) mod scsi_log;
pub(crate) mod smartctl;
pub(crate) mod watch;
pub(crate) mod ways;

use crate::probe::collect::root::ReadError;

/// Why a question has no answer, for a person. The name of the question, which the error carries as a path, means
/// nothing to one.
pub(crate) fn why(error: &ReadError) -> String {
    match error {
        ReadError::Absent { .. } => "not there".to_owned(),
        ReadError::Denied { cause, .. } => cause.clone(),
        ReadError::Unsupported { detail, .. }
        | ReadError::TimedOut { detail, .. }
        | ReadError::Failed { detail, .. } => detail.clone(),
        ReadError::TooLarge { .. } => error.to_string(),
    }
}
