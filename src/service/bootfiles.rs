//! Which network boot program a firmware gets, and the one table of names that TFTP and HTTP serve. Pure.

use std::fmt;
use std::sync::Arc;

use crate::model::{Arch, MacAddr};

/// Loader files by the name clients ask for, each with the names distributions ship it under.
///
/// iPXE packages: Debian `ipxe` (/usr/lib/ipxe), openSUSE `ipxe-bootimgs` (/usr/share/ipxe). Shim and GRUB are those with
/// the distribution's signature, for machines with Secure Boot; shim asks for GRUB by the name `grubx64.efi`.
pub const LOADERS: [(&str, &[&str]); 10] = [
    ("undionly.kpxe", &["undionly.kpxe"]),
    ("ipxe.pxe", &["ipxe.pxe"]),
    ("snponly.efi", &["snponly.efi", "snponly-x86_64.efi"]),
    ("ipxe.efi", &["ipxe.efi", "ipxe-amd64.efi", "ipxe-x86_64.efi"]),
    (
        "snponly-arm64.efi",
        &["snponly-arm64.efi", "arm64-efi/snponly.efi", "snp-arm64.efi"],
    ),
    ("ipxe-arm64.efi", &["ipxe-arm64.efi", "arm64-efi/ipxe.efi"]),
    (SIGNED, &["shimx64.efi.signed", "shimx64.efi", "shim.efi"]),
    (GRUB, &["grubnetx64.efi.signed", "grubnetx64.efi", "grub.efi"]),
    (MEMTEST_EFI, &["memtest86+x64.efi", "memtest.efi"]),
    (MEMTEST_BIOS, &["memtest86+x64.bin", "memtest.bin"]),
];

/// Carries a signature that Secure Boot knows.
pub const SIGNED: &str = "shimx64.efi";
/// What shim loads.
const GRUB: &str = "grubx64.efi";
/// The memory test of the boot menu, for each kind of firmware.
pub const MEMTEST_EFI: &str = "memtest.efi";
pub const MEMTEST_BIOS: &str = "memtest.bin";

/// Loaders for a firmware, the one to try first in front. Empty where there is none.
pub fn rungs(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Bios => &["undionly.kpxe", "ipxe.pxe"],
        Arch::UefiX64 | Arch::HttpX64 => &["snponly.efi", "ipxe.efi", SIGNED],
        Arch::UefiArm64 | Arch::HttpArm64 => &["snponly-arm64.efi", "ipxe-arm64.efi"],
        Arch::UefiX86 | Arch::Other(_) => &[],
    }
}

/// The loader of this name, if a firmware is told to fetch it.
pub fn rung_named(name: &str) -> Option<&'static str> {
    [Arch::Bios, Arch::UefiX64, Arch::UefiArm64]
        .into_iter()
        .flat_map(rungs)
        .copied()
        .find(|rung| *rung == name)
}

/// First loader for a firmware that asks by PXE or HTTP Boot, or why there is none.
///
/// `snponly.efi` comes first on UEFI: it keeps the firmware's own driver and with it the link it brought up.
pub fn loader_for(arch: Arch) -> Result<&'static str, &'static str> {
    match (rungs(arch), arch) {
        ([first, ..], _) => Ok(first),
        ([], Arch::UefiX86) => Err("32-bit UEFI is not supported: switch the machine to BIOS boot or 64-bit UEFI"),
        ([], _) => Err("no boot program is known for this architecture"),
    }
}

/// Finds a requested TFTP path in the table. Leading slashes are common in firmware and mean nothing here; anything
/// else that is not a name of the table does not exist, so no path can leave it.
pub fn loader_named(path: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    let name = path.trim_start_matches(['/', '\\']);
    LOADERS.iter().find(|(known, _)| *known == name)
}

/// A file that is made for the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// What iPXE for UEFI asks for beside itself when it starts, over the protocol by which it came.
    Autoexec,
    /// What GRUB asks for when it starts.
    GrubConfig,
}

impl Made {
    /// The name it goes by in logs.
    pub fn name(self) -> &'static str {
        match self {
            Made::Autoexec => "autoexec.ipxe",
            Made::GrubConfig => "grub.cfg",
        }
    }
}

/// The made file of this name, for every way in which clients write it. Debian's GRUB for the network looks in `/grub`, others
/// beside themselves.
pub fn made(path: &str) -> Option<Made> {
    match path.trim_start_matches(['/', '\\']) {
        "autoexec.ipxe" => Some(Made::Autoexec),
        "grub/grub.cfg" | "grub.cfg" | "boot/grub/grub.cfg" | "EFI/debian/grub.cfg" => Some(Made::GrubConfig),
        _ => None,
    }
}

/// Chooses the loader of one machine, by what is known of it. The default knows nothing and takes the first.
#[derive(Clone, Default)]
pub struct Chooser(Option<Arc<Choose>>);

type Choose = dyn Fn(MacAddr, Arch) -> Result<&'static str, &'static str> + Send + Sync;

impl Chooser {
    pub fn new(choose: impl Fn(MacAddr, Arch) -> Result<&'static str, &'static str> + Send + Sync + 'static) -> Self {
        Chooser(Some(Arc::new(choose)))
    }

    /// Name of the loader in the table, or why there is none. A machine whose port is not known gets the first.
    pub fn loader(&self, mac: impl Into<Option<MacAddr>>, arch: Arch) -> Result<&'static str, &'static str> {
        match (&self.0, mac.into()) {
            (Some(choose), Some(mac)) => choose(mac, arch),
            _ => loader_for(arch),
        }
    }
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chooser").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_firmware_gets_its_loader() {
        assert_eq!(loader_for(Arch::from_option93(0)), Ok("undionly.kpxe"));
        for code in [7, 9, 16] {
            assert_eq!(loader_for(Arch::from_option93(code)), Ok("snponly.efi"), "{code}");
        }
        for code in [11, 19] {
            assert_eq!(loader_for(Arch::from_option93(code)), Ok("snponly-arm64.efi"), "{code}");
        }
        assert!(loader_for(Arch::from_option93(6)).unwrap_err().contains("32-bit"));
        assert!(loader_for(Arch::from_option93(99)).is_err());
    }

    #[test]
    fn every_loader_that_is_named_is_in_the_table() {
        for code in 0..32 {
            for name in rungs(Arch::from_option93(code)) {
                assert!(loader_named(name).is_some(), "{name}");
                assert_eq!(rung_named(name), Some(*name));
            }
        }
        assert_eq!(rung_named(GRUB), None);
    }

    #[test]
    fn made_files_have_many_names() {
        for name in ["autoexec.ipxe", "/autoexec.ipxe", "\\autoexec.ipxe"] {
            assert_eq!(made(name), Some(Made::Autoexec), "{name}");
        }
        assert_eq!(made("/grub/grub.cfg"), Some(Made::GrubConfig));
        assert_eq!(made("/grub/x86_64-efi/command.lst"), None);
        assert_eq!(made("../grub.cfg"), None);
    }

    #[test]
    fn a_chooser_without_knowledge_takes_the_first() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        assert_eq!(Chooser::default().loader(mac, Arch::UefiX64), Ok("snponly.efi"));
        let second = Chooser::new(|_, arch| rungs(arch).get(1).copied().ok_or("none"));
        assert_eq!(second.loader(mac, Arch::UefiX64), Ok("ipxe.efi"));
        assert_eq!(second.loader(None, Arch::UefiX64), Ok("snponly.efi"));
    }

    #[test]
    fn paths_that_climb_do_not_exist() {
        for path in [
            "../etc/passwd",
            "/../undionly.kpxe",
            "undionly.kpxe/../ipxe.efi",
            "",
            "/",
            "a\0b",
        ] {
            assert!(loader_named(path).is_none(), "{path:?}");
        }
        assert!(loader_named("/undionly.kpxe").is_some());
    }

    proptest! {
        #[test]
        fn only_names_of_the_table_are_found(path in "\\PC{0,64}") {
            if let Some((name, _)) = loader_named(&path) {
                prop_assert!(path.ends_with(name));
            }
        }
    }
}
