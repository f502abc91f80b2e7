//! Client system architectures as DHCP option 93 names them.

use serde::{Deserialize, Serialize};

/// Firmware a netbooting client announces (RFC 4578 §2.1 and the IANA registry "Processor Architecture Types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arch {
    /// 0: legacy BIOS on x86.
    Bios,
    /// 6: 32-bit x86 UEFI, for which no loader is shipped.
    UefiX86,
    /// 7 and 9: 64-bit x86 UEFI. Firmware sends 7 for what the registry calls 9.
    UefiX64,
    /// 11: 64-bit ARM UEFI.
    UefiArm64,
    /// 16: 64-bit x86 UEFI that boots from HTTP.
    HttpX64,
    /// 19: 64-bit ARM UEFI that boots from HTTP.
    HttpArm64,
    /// Anything else, by its number.
    Other(u16),
}

impl Arch {
    /// Reads the 16-bit type of option 93.
    pub fn from_option93(code: u16) -> Self {
        match code {
            0 => Arch::Bios,
            6 => Arch::UefiX86,
            7 | 9 => Arch::UefiX64,
            11 => Arch::UefiArm64,
            16 => Arch::HttpX64,
            19 => Arch::HttpArm64,
            other => Arch::Other(other),
        }
    }
}
