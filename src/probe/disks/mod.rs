//! What is on disks and what they say of themselves. Parsers are pure; [`content`] and [`drive`] ask the machine.

pub mod arrivals;
pub mod ata_smart;
pub mod by_path;
pub mod content;
pub mod controllers;
pub mod drive;
pub mod facts;
pub mod list;
pub mod nvme;
pub mod raid;
pub mod raid_ask;
pub mod scsi;
pub mod scsi_log;
pub mod smartctl;
pub mod watch;
pub mod ways;

use crate::probe::collect::root::ReadError;

/// Why a question has no answer, for a person. The name of the question, which the error carries as a path, means
/// nothing to one.
pub fn why(error: &ReadError) -> String {
    match error {
        ReadError::Absent { .. } => "not there".to_owned(),
        ReadError::Denied { cause, .. } => cause.clone(),
        ReadError::Unsupported { detail, .. }
        | ReadError::TimedOut { detail, .. }
        | ReadError::Failed { detail, .. } => detail.clone(),
        ReadError::TooLarge { .. } => error.to_string(),
    }
}
