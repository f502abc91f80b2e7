//! Block devices: what they are, how they are attached, and what is on them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::smart::{Nvme, Smart};

/// Broad kind of a block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskKind {
    /// Anything that is written to at will.
    #[default]
    Disk,
    /// A drive for CD, DVD or Blu-ray discs, real or virtual.
    Optical,
}

/// One whole disk with hardware behind it. Loop devices, RAM disks and mapped devices are not listed; where such a one
/// uses a disk or a partition, it is named under `holders`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    /// Kernel name, such as `nvme0n1`. Of an NVMe drive without a namespace, which has no block device, that of its controller.
    pub name: String,
    /// Disk or optical drive.
    pub kind: DiskKind,
    /// Size; `null` for an empty drive and for one without a namespace.
    pub size_bytes: Option<u64>,
    /// What the disk is addressed in.
    pub logical_sector_bytes: Option<u32>,
    /// What the disk writes at once.
    pub physical_sector_bytes: Option<u32>,
    /// Maker, as the disk tells it. `ATA` stands for a disk that speaks that protocol.
    pub vendor: Option<String>,
    /// Model, uncut where the disk can tell it so.
    pub model: Option<String>,
    /// Serial number.
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// World wide name in lower case with its scheme: `naa.5000c500…`, `eui.0025…`, `nvme.…`, `uuid.…`.
    #[schemars(extend("x-sensitive" = true))]
    pub wwn: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// `nvme`, `nvme-tcp`, `sata`, `sas`, `usb`, `virtio`, `scsi`, `iscsi`, `fc`, `mmc`, …
    pub transport: Option<String>,
    /// Speed of its own link as negotiated: `6.0 Gbit`.
    #[serde(default)]
    pub link_speed: Option<String>,
    /// `host:channel:target:lun` of a SCSI device.
    pub hctl: Option<String>,
    /// Bay of the enclosure it sits in, where the enclosure tells.
    #[serde(default)]
    pub bay: Option<u32>,
    /// Kernel names of the same disk by other ways, such as through its second port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_paths: Vec<String>,
    /// Name under `/dev/disk/by-path`: the same as long as the disk stays in its place. Names targets of a network.
    #[serde(default)]
    #[schemars(extend("x-sensitive" = true))]
    pub by_path: Option<String>,
    /// Address of the PCI function it hangs on.
    pub pci_address: Option<String>,
    /// NUMA node of that function.
    pub numa_node: Option<u32>,
    /// True for what turns. Virtual disks and RAID volumes often say so for want of knowledge.
    pub rotational: Option<bool>,
    /// Rotation speed, where the disk tells it.
    #[serde(default)]
    pub rotation_rpm: Option<u32>,
    /// The kernel's flag; the stick sets it on every disk but its own.
    pub read_only: Option<bool>,
    /// Media that can be taken out.
    pub removable: Option<bool>,
    /// The kernel's driver state of a SCSI device: `running`, `offline`, `blocked`.
    #[serde(default)]
    pub state: Option<String>,
    /// `none`, `host-aware` or `host-managed` (zones that are written in order, as on SMR disks).
    #[serde(default)]
    pub zoned: Option<String>,
    /// `write back` (a power cut loses what is in the cache, unless it is protected) or `write through`.
    #[serde(default)]
    pub write_cache: Option<String>,
    /// The kernel's I/O scheduler for it.
    #[serde(default)]
    pub scheduler: Option<String>,
    /// Whether the disk can be told what is no longer used (TRIM, UNMAP).
    #[serde(default)]
    pub discard: Option<bool>,
    /// RAID level of a volume, where the driver of its controller tells: `RAID 1(+0)`.
    #[serde(default)]
    pub raid_level: Option<String>,
    /// True for the medium this system runs from.
    pub boot_medium: bool,
    /// Of a disk that came after the list was first made: how long after collecting began it was seen. The others have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appeared_after_ms: Option<u64>,
    /// True for a drive that a management controller plays: its virtual CD or stick.
    #[serde(default)]
    pub virtual_media: bool,
    /// What uses the whole disk, by kernel name: `md127`, `dm-0`.
    #[serde(default)]
    pub holders: Vec<String>,
    /// Its partition table; `null` where there is none or it could not be read.
    #[serde(default)]
    pub partition_table: Option<PartitionTable>,
    /// Partitions, by number: the kernel's, and those that only the table has.
    #[serde(default)]
    pub partitions: Vec<Partition>,
    /// What is on the whole disk, apart from a partition table.
    #[serde(default)]
    pub signatures: Vec<Signature>,
    /// What an NVMe controller tells of itself and of this namespace.
    #[serde(default)]
    pub nvme: Option<Nvme>,
    /// What the disk tells of its health.
    #[serde(default)]
    pub smart: Option<Smart>,
}

/// How a disk is divided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionTable {
    /// `gpt` or `mbr`.
    pub kind: String,
    /// Disk GUID, or the four bytes of the MBR disk signature in hex.
    #[schemars(extend("x-sensitive" = true))]
    pub id: Option<String>,
    /// True when the checksums of a GPT are right; `null` for an MBR, which has none.
    pub valid: Option<bool>,
    /// True when the second copy of a GPT at the end of the disk is there and whole.
    pub backup_valid: Option<bool>,
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Partition {
    /// Kernel name; `null` for one that the kernel does not know.
    pub name: Option<String>,
    /// Number in the table.
    pub number: u32,
    /// Where it begins.
    pub start_bytes: u64,
    /// How long it is.
    pub size_bytes: u64,
    /// The kernel's flag.
    pub read_only: Option<bool>,
    /// Type: a GUID in lower case, or the byte of an MBR as `0x83`.
    pub type_id: Option<String>,
    /// What that type is for, where it is a known one.
    pub type_name: Option<String>,
    /// GUID of the partition.
    #[schemars(extend("x-sensitive" = true))]
    pub guid: Option<String>,
    /// Name in the table.
    #[schemars(extend("x-sensitive" = true))]
    pub label: Option<String>,
    /// Flags in the table: `required`, `no block io`, `legacy boot`, `active`, `read-only`, `hidden`, `no auto`, `growfs`.
    pub flags: Vec<String>,
    /// What is on it.
    pub signatures: Vec<Signature>,
    /// What uses it, by kernel name.
    pub holders: Vec<String>,
}

/// What something on a disk is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignatureUse {
    /// Holds files.
    #[default]
    Filesystem,
    /// One member of an array or of a volume group.
    Member,
    /// Encrypted.
    Encrypted,
    /// Swap space.
    Swap,
}

/// What is recognised on a disk or partition by its first or last sectors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signature {
    /// `ext4`, `xfs`, `btrfs`, `vfat`, `exfat`, `ntfs`, `swap`, `lvm2_pv`, `md_member`, `luks`, `zfs_member`, `bcache`,
    /// `iso9660`, `squashfs`, `vmfs_member`, `imsm_member`, `ddf_member`, `ceph_bluestore`, …
    pub kind: String,
    /// What it is for.
    pub used_as: SignatureUse,
    /// Version of the format: `1.2` of md, `2` of LUKS.
    pub version: Option<String>,
    /// Name that a person gave: of the file system, the array, the pool or the volume group.
    #[schemars(extend("x-sensitive" = true))]
    pub label: Option<String>,
    /// Of the file system or of this member.
    #[schemars(extend("x-sensitive" = true))]
    pub uuid: Option<String>,
    /// What else stands out: `RAID 1 of 2 disks`, the cipher.
    pub detail: Option<String>,
    /// Of the array, pool or volume group this is a member of.
    #[schemars(extend("x-sensitive" = true))]
    pub member_of: Option<String>,
}
