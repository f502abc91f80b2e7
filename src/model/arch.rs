//! Client system architectures as DHCP option 93 names them.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// Number and name, a line each.
const REGISTRY: &str = include_str!("architectures.tsv");

static NAMES: LazyLock<Vec<(u16, &'static str)>> = LazyLock::new(|| {
    let row = |line: &'static str| {
        let (code, name) = line.split_once('\t')?;
        Some((code.parse().ok()?, name))
    };
    REGISTRY.lines().filter_map(row).collect()
});

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

    /// Its number in option 93.
    pub fn code(self) -> u16 {
        match self {
            Arch::Bios => 0,
            Arch::UefiX86 => 6,
            Arch::UefiX64 => 7,
            Arch::UefiArm64 => 11,
            Arch::HttpX64 => 16,
            Arch::HttpArm64 => 19,
            Arch::Other(code) => code,
        }
    }

    /// Its name in the registry, or its number.
    pub fn described(self) -> String {
        let code = self.code();
        match NAMES.iter().find(|(known, _)| *known == code) {
            Some((_, name)) => (*name).to_owned(),
            None => format!("architecture {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_registry_is_read_and_named() {
        assert_eq!(NAMES.len(), 42);
        for (at, (code, name)) in NAMES.iter().enumerate() {
            assert_eq!(usize::from(*code), at, "{name}");
            // 9 is what firmware means by 7.
            let again = if *code == 9 { 7 } else { *code };
            assert_eq!(Arch::from_option93(*code).code(), again);
        }
        assert_eq!(Arch::UefiArm64.described(), "ARM 64-bit UEFI");
        assert_eq!(Arch::Other(14).described(), "POWER OPAL v3");
        assert_eq!(Arch::Other(999).described(), "architecture 999");
    }
}
