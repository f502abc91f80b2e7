//! Boot mode, Secure Boot, boot entries, TPM, lockdown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::system::FirmwareMode;

/// What the machine trusts and how it starts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Security {
    /// How the firmware started the running kernel.
    pub mode: Option<FirmwareMode>,
    /// Whether the firmware verified what it started. `null` where it does not say.
    pub secure_boot: Option<bool>,
    /// No platform key is enrolled: anybody may enrol keys.
    pub setup_mode: Option<bool>,
    pub audit_mode: Option<bool>,
    pub deployed_mode: Option<bool>,
    pub boot: Option<EfiBoot>,
    /// Every TPM the kernel drives.
    pub tpms: Vec<Tpm>,
    /// What SMBIOS type 43 says, there even where the kernel has no driver.
    pub smbios_tpm: Option<SmbiosTpm>,
    /// `none`, `integrity`, `confidentiality`: what the kernel keeps even from root.
    pub lockdown: Option<String>,
}

/// UEFI's boot manager (UEFI 2.10, 3.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EfiBoot {
    /// The entry the running system was started by, four hex digits.
    pub current: Option<String>,
    /// The entry for the next start only.
    pub next: Option<String>,
    /// The order in which entries are tried.
    pub order: Vec<String>,
    pub timeout_s: Option<u16>,
    /// Those in the order first, then the others by number.
    pub entries: Vec<EfiBootEntry>,
}

/// One `Boot####` variable (UEFI 2.10, 3.1.3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EfiBootEntry {
    /// Four hex digits.
    pub number: String,
    pub active: bool,
    pub hidden: bool,
    pub description: Option<String>,
    /// Device path as text (UEFI 2.10, 10.6), such as `PciRoot(0x0)/Pci(0x1,0x0)/…`.
    #[schemars(extend("x-sensitive" = true))]
    pub path: Option<String>,
    /// What the path leads to: `disk`, `network`, `http`, `usb`, `optical`, `firmware file`, `legacy`, `other`.
    pub kind: String,
}

/// A TPM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tpm {
    /// `tpm0`.
    pub device: String,
    /// `1.2` or `2.0`.
    pub version: Option<String>,
    /// Four letters registered with the TCG, such as `INTC`, `IFX`.
    pub vendor: Option<String>,
    /// Vendor's own text.
    pub model: Option<String>,
    /// `major.minor.build.patch` out of two 32-bit numbers.
    pub firmware: Option<String>,
    /// Revision of the specification, such as `1.59`.
    pub revision: Option<String>,
    /// The owner's password is set: somebody took it into use.
    pub owner_auth_set: Option<bool>,
    pub endorsement_auth_set: Option<bool>,
    pub lockout_auth_set: Option<bool>,
    /// Locked out after wrong passwords.
    pub in_lockout: Option<bool>,
    /// Hashes it keeps registers for: `sha1`, `sha256`, …
    pub pcr_banks: Vec<String>,
    /// Bytes of the firmware's event log.
    pub event_log_bytes: Option<u64>,
    /// Certificates of the endorsement key.
    pub ek_certificates: Vec<EkCertificate>,
}

/// A certificate of the endorsement key, from the TPM's own memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EkCertificate {
    /// Index in the TPM: `0x01c00002`.
    pub index: String,
    /// `rsa-2048`, `ecc-p256`, by the index (TCG EK Credential Profile, 2.2.1.4).
    pub key: Option<String>,
    pub size_bytes: u32,
    /// DER as base64; `null` where it cannot be read or is larger than 4 KiB.
    #[schemars(extend("x-sensitive" = true))]
    pub der_base64: Option<String>,
}

/// SMBIOS type 43 (DSP0134 7.44).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SmbiosTpm {
    pub vendor: Option<String>,
    /// `major.minor` of the specification.
    pub version: Option<String>,
    pub firmware: Option<String>,
    pub description: Option<String>,
}
