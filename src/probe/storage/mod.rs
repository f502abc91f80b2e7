//! What is on disks and what they say of themselves. Parsers are pure; [`content`] and [`drive`] ask the machine.

pub mod arrivals;
pub mod ata_smart;
pub mod by_path;
pub mod bytes;
pub mod content;
pub mod drive;
pub mod facts;
pub mod filesystems;
pub mod members;
pub mod nvme;
pub mod partition_types;
pub mod partitions;
pub mod raid;
pub mod raid_ask;
pub mod scsi_log;
pub mod signatures;
pub mod smartctl;
pub mod watch;
pub mod ways;

use super::root::ReadError;

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
