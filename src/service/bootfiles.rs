//! Which network boot program a firmware gets, and the one table of names that TFTP and HTTP serve. Pure.

use crate::model::Arch;

/// Loader files by the name clients ask for, each with the names distributions ship it under.
///
/// iPXE packages: Debian `ipxe` (/usr/lib/ipxe), openSUSE `ipxe-bootimgs` (/usr/share/ipxe).
pub const LOADERS: [(&str, &[&str]); 6] = [
    ("undionly.kpxe", &["undionly.kpxe"]),
    ("ipxe.pxe", &["ipxe.pxe"]),
    ("snponly.efi", &["snponly.efi", "snponly-x86_64.efi"]),
    ("ipxe.efi", &["ipxe.efi", "ipxe-amd64.efi", "ipxe-x86_64.efi"]),
    (
        "snponly-arm64.efi",
        &["snponly-arm64.efi", "arm64-efi/snponly.efi", "snp-arm64.efi"],
    ),
    ("ipxe-arm64.efi", &["ipxe-arm64.efi", "arm64-efi/ipxe.efi"]),
];

/// Loader for a firmware that asks by PXE or HTTP Boot, or why there is none.
///
/// `snponly.efi` comes first on UEFI: it keeps the firmware's own driver and with it the link it brought up.
pub fn loader_for(arch: Arch) -> Result<&'static str, &'static str> {
    match arch {
        Arch::Bios => Ok("undionly.kpxe"),
        Arch::UefiX64 | Arch::HttpX64 => Ok("snponly.efi"),
        Arch::UefiArm64 | Arch::HttpArm64 => Ok("snponly-arm64.efi"),
        Arch::UefiX86 => Err("32-bit UEFI is not supported: switch the machine to BIOS boot or 64-bit UEFI"),
        Arch::Other(_) => Err("no boot program is known for this architecture"),
    }
}

/// Finds a requested TFTP path in the table. Leading slashes are common in firmware and mean nothing here; anything
/// else that is not a name of the table does not exist, so no path can leave it.
pub fn loader_named(path: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    let name = path.trim_start_matches(['/', '\\']);
    LOADERS.iter().find(|(known, _)| *known == name)
}

/// Script that iPXE for UEFI asks for beside itself when it starts, over the protocol by which it came. It is made for the link.
pub const AUTOEXEC: &str = "autoexec.ipxe";

/// True for every way in which clients write the name of that script.
pub fn is_autoexec(path: &str) -> bool {
    path.trim_start_matches(['/', '\\']) == AUTOEXEC
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
            if let Ok(name) = loader_for(Arch::from_option93(code)) {
                assert!(loader_named(name).is_some(), "{name}");
            }
        }
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
