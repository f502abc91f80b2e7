//! What is on disks and what they say of themselves. Parsers are pure; [`content`] and [`drive`] ask the machine.

pub mod ata_smart;
pub mod by_path;
pub mod bytes;
pub mod content;
pub mod drive;
pub mod filesystems;
pub mod members;
pub mod nvme;
pub mod partition_types;
pub mod partitions;
pub mod scsi_log;
pub mod signatures;
pub mod smartctl;
