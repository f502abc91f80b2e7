//! What is on one disk: its table, its partitions, and what is recognised on them. Reads a few sectors, and those only.

use crate::formats::{partitions, signatures};
use crate::model::inventory::{Partition, PartitionTable, Signature};
use crate::probe::collect::root::{ReadError, Root};
use crate::sys::blockread::BlockReader;

/// How it is read, for the record.
pub(crate) const SOURCE: &str = "first and last sectors";
/// The kernel's own bound, and more than any table that is meant.
const MAX_PARTITIONS: usize = 1024;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub table: Option<PartitionTable>,
    pub partitions: Vec<Partition>,
    pub signatures: Vec<Signature>,
}

/// Reads one disk. `known` are the partitions the kernel has. With an error comes what could be read before it.
pub(crate) fn content(
    root: &Root,
    name: &str,
    size: u64,
    sector: u32,
    known: Vec<Partition>,
) -> (Content, Result<(), ReadError>) {
    let mut device = Device {
        root,
        name,
        size,
        reader: None,
        any: false,
        error: None,
    };
    let mut content = Content::default();
    let table = partitions::table(size, sector, &mut |offset, length| device.read(offset, length));
    let listed = match table {
        Some(table) => {
            content.table = Some(table.table);
            table.partitions
        }
        None => Vec::new(),
    };
    content.partitions = root.first(
        &format!("{name}.partitions.count"),
        merge(known, listed),
        MAX_PARTITIONS,
    );
    // A device that cannot be read at all is not tried again for every format.
    if device.error.is_some() && !device.any {
        return (content, device.outcome());
    }
    content.signatures = signatures::signatures(size, &mut |offset, length| device.read(offset, length));
    for partition in &mut content.partitions {
        if partitions::is_container(partition) {
            continue;
        }
        let (start, length) = (partition.start_bytes, partition.size_bytes);
        partition.signatures = signatures::signatures(length, &mut |offset, wanted| {
            let left = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
            device.read(start.checked_add(offset)?, wanted.min(left))
        });
    }
    drop_echoes(&mut content);
    (content, device.outcome())
}

/// A RAID member's mark near the end of the last partition is also near the end of the disk; it belongs to the first.
fn drop_echoes(content: &mut Content) {
    let (partitions, signatures) = (&content.partitions, &mut content.signatures);
    signatures.retain(|found| {
        let mut inner = partitions.iter().flat_map(|partition| &partition.signatures);
        found.kind != "md_member" || !inner.any(|other| other == found)
    });
}

/// The kernel's partitions with what the table says of them; then those only the table has.
fn merge(known: Vec<Partition>, listed: Vec<Partition>) -> Vec<Partition> {
    let mut merged = known;
    for entry in listed {
        match merged.iter_mut().find(|partition| partition.number == entry.number) {
            // Where the places differ, the table was changed after the kernel read it; the kernel's place counts.
            Some(partition) => {
                partition.type_id = entry.type_id;
                partition.type_name = entry.type_name;
                partition.guid = entry.guid;
                partition.label = entry.label;
                partition.flags = entry.flags;
            }
            None => merged.push(entry),
        }
    }
    merged.sort_by_key(|partition| partition.number);
    merged
}

struct Device<'a> {
    root: &'a Root,
    name: &'a str,
    size: u64,
    /// Opened by the first read that needs it.
    reader: Option<BlockReader>,
    /// True once something could be read.
    any: bool,
    error: Option<ReadError>,
}

impl Device<'_> {
    fn read(&mut self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let left = self.size.checked_sub(offset).filter(|left| *left > 0)?;
        let length = usize::try_from(left).map_or(length, |left| length.min(left));
        let (name, reader) = (self.name, &mut self.reader);
        let question = format!("block/{name}/{offset}-{length}");
        let answer = self.root.ask(&question, || match reader {
            Some(reader) => reader.read_at(offset, length),
            None => reader.insert(BlockReader::open(name)?).read_at(offset, length),
        });
        match answer {
            Ok(bytes) => {
                self.any = true;
                Some(bytes)
            }
            Err(error) => {
                // A capture holds what was read then; what it does not hold is no fault of the disk.
                if !self.any || !matches!(error, ReadError::Unsupported { .. }) {
                    self.error.get_or_insert(error);
                }
                None
            }
        }
    }

    fn outcome(&mut self) -> Result<(), ReadError> {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::inventory::PartStatus;
    use std::fs;

    #[test]
    fn a_captured_disk_is_read_from_its_answers() {
        let dir = tempfile::tempdir().unwrap();
        let answers = dir.path().join(".recon/block/sda");
        fs::create_dir_all(&answers).unwrap();
        let mut first = vec![0u8; 512];
        first[446 + 4] = 0x8e;
        first[446 + 8] = 8;
        first[446 + 12..446 + 16].copy_from_slice(&2040u32.to_le_bytes());
        first[510..].copy_from_slice(&[0x55, 0xaa]);
        fs::write(answers.join("0-512"), &first).unwrap();
        let mut head = vec![0u8; 4352];
        head[..4].copy_from_slice(b"XFSB");
        fs::write(answers.join("4096-4352"), &head).unwrap();
        let root = Root::at(dir.path());
        let known = vec![Partition {
            name: Some("sda1".into()),
            number: 1,
            start_bytes: 4096,
            size_bytes: 2040 * 512,
            ..Partition::default()
        }];
        let (found, outcome) = content(&root, "sda", 1 << 20, 512, known);
        assert_eq!(outcome, Ok(()));
        assert_eq!(found.table.unwrap().kind, "mbr");
        let [partition] = &found.partitions[..] else {
            panic!("{:?}", found.partitions)
        };
        assert_eq!(partition.name.as_deref(), Some("sda1"));
        assert_eq!(partition.type_name.as_deref(), Some("Linux LVM"));
        assert_eq!(partition.signatures[0].kind, "xfs");
    }

    #[test]
    fn a_disk_that_cannot_be_read_keeps_the_kernels_partitions() {
        let dir = tempfile::tempdir().unwrap();
        let known = vec![Partition {
            number: 3,
            ..Partition::default()
        }];
        let (found, outcome) = content(&Root::at(dir.path()), "sda", 1 << 20, 512, known.clone());
        assert_eq!(found.partitions, known);
        assert_eq!(outcome.unwrap_err().status(), PartStatus::Unsupported);
    }

    #[test]
    fn an_array_on_the_last_partition_is_not_the_disks() {
        let member = Signature {
            kind: "md_member".into(),
            version: Some("1.0".into()),
            ..Signature::default()
        };
        let mut content = Content {
            signatures: vec![member.clone()],
            partitions: vec![Partition {
                signatures: vec![member],
                ..Partition::default()
            }],
            ..Content::default()
        };
        drop_echoes(&mut content);
        assert_eq!(content.signatures, []);
    }
}
