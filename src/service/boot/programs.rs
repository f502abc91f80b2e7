//! Which network boot program a firmware gets, and the one table of names that TFTP and HTTP serve. Pure.

use std::fmt;
use std::sync::Arc;

use crate::model::{Arch, MacAddr};

/// Loader files by the name clients ask for, each with the names distributions ship it under.
///
/// iPXE packages: Debian `ipxe` (/usr/lib/ipxe), openSUSE `ipxe-bootimgs` (/usr/share/ipxe). Shim and GRUB are those with
/// the distribution's signature, for machines with Secure Boot.
///
/// Both `snponly` and `snp` leave a port to the firmware's driver (ipxe.org/appnote/buildtargets): `snponly` takes only the
/// port that it came over, `snp`, which openSUSE has in its place, every port for which the firmware has a driver, one after
/// the other. What `snp` reaches its master by may thus be another port of the machine.
pub const LOADERS: [(&str, &[&str]); 10] = [
    ("undionly.kpxe", &["undionly.kpxe"]),
    ("ipxe.pxe", &["ipxe.pxe"]),
    ("snponly.efi", &["snponly.efi", "snponly-x86_64.efi", "snp-x86_64.efi"]),
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
/// What shim loads. Its name is built into shim (`DEFAULT_LOADER`): this one in most, `grub.efi` in openSUSE's.
const GRUB: &str = "grubx64.efi";
/// Further names that clients ask by, and the one of the table.
const ALSO: [(&str, &str); 1] = [("grub.efi", GRUB)];
/// The memory test of the boot menu, for each kind of firmware.
pub const MEMTEST_EFI: &str = "memtest.efi";
pub const MEMTEST_BIOS: &str = "memtest.bin";

/// Loaders for a firmware, the one to try first in front. Empty where there is none.
pub fn candidates(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Bios => &["undionly.kpxe", "ipxe.pxe"],
        Arch::UefiX64 | Arch::HttpX64 => &["snponly.efi", "ipxe.efi", SIGNED],
        Arch::UefiArm64 | Arch::HttpArm64 => &["snponly-arm64.efi", "ipxe-arm64.efi"],
        Arch::UefiX86 | Arch::Other(_) => &[],
    }
}

/// True for a loader of a processor for which an image has a system.
pub fn has_system(name: &str) -> bool {
    // There is none for any other than x86-64 (README).
    !candidates(Arch::UefiArm64).contains(&name)
}

/// What a loader fetches by itself and cannot do without.
pub fn needs(name: &str) -> &'static [&'static str] {
    match name {
        SIGNED => &[GRUB],
        _ => &[],
    }
}

/// The loader of this name, if a firmware is told to fetch it.
pub fn candidate_named(name: &str) -> Option<&'static str> {
    let name = loader_named(name)?;
    [Arch::Bios, Arch::UefiX64, Arch::UefiArm64]
        .into_iter()
        .flat_map(candidates)
        .copied()
        .find(|candidate| *candidate == name)
}

/// First loader for a firmware that asks by PXE or HTTP Boot, of those that `held` says are here, or why there is none.
///
/// `snponly.efi` comes first on UEFI: it keeps the firmware's own driver and with it the link it brought up.
pub fn first_held(arch: Arch, held: impl Fn(&str) -> bool) -> Result<&'static str, &'static str> {
    let first = candidates(arch).iter().copied().find(|name| held(name));
    first.ok_or(match arch {
        Arch::Bios => "there is no iPXE for BIOS boot on this system: switch the machine to UEFI boot",
        Arch::UefiX64 | Arch::HttpX64 => {
            "there is no iPXE for 64-bit UEFI on this system, and no signed shim with its GRUB"
        }
        Arch::UefiArm64 | Arch::HttpArm64 => "there is no iPXE for 64-bit ARM on this system",
        Arch::UefiX86 => "32-bit UEFI is not supported: switch the machine to BIOS boot or 64-bit UEFI",
        Arch::Other(_) => "no boot program is known for this architecture",
    })
}

/// Longest path that is looked at, in bytes. Beyond it nothing is found: no name of the tables is nearly as long.
const MAX_PATH_BYTES: usize = 128;

/// A path as the tables below write it. Firmware and boot programs separate by `/` or `\\`, one or more, begin with one or
/// not, and think in file systems that know no case. Shim puts its own folder in front, which it was told by whoever loaded
/// it; the one that removable media have is dropped. `..` stays, and so leads nowhere.
fn place(path: &str) -> String {
    if path.len() > MAX_PATH_BYTES {
        return String::new();
    }
    let parts: Vec<&str> = path.split(['/', '\\']).filter(|part| !part.is_empty()).collect();
    let path = parts.join("/").to_ascii_lowercase();
    match path.strip_prefix("efi/boot/") {
        Some(rest) => rest.to_owned(),
        None => path,
    }
}

/// The table's name of what a client asks for by this path. Anything else does not exist, so no path can leave the table.
pub fn loader_named(path: &str) -> Option<&'static str> {
    let place = place(path);
    let further = ALSO.into_iter().find(|(name, _)| *name == place);
    let name = further.map_or(place.as_str(), |(_, name)| name);
    LOADERS.iter().map(|(known, _)| *known).find(|known| *known == name)
}

/// True for what shim and GRUB look for beside themselves and do without: nobody misses it, and each machine asks for a
/// dozen. Shim: revocations, certificates, its tools (`load_unbundled_trust` in shim 16, `MOK_MANAGER`, `FALLBACK`). GRUB: a
/// configuration for one machine (`grub_net_search_config_file` in 2.06), modules, fonts, translations.
pub fn looked_for_in_vain(path: &str) -> bool {
    let place = place(path);
    let name = place.rsplit('/').next().unwrap_or_default();
    let begins = ["grub.cfg-", "revocations", "shim_certificate"]
        .iter()
        .any(|begin| name.starts_with(begin));
    let ends = [".lst", ".mod", ".pf2", ".mo", ".gmo"]
        .iter()
        .any(|end| name.ends_with(end));
    begins || ends || matches!(name, "mmx64.efi" | "mokmanager.efi" | "fbx64.efi" | "fallback.efi")
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

/// The made file of this name, for every way in which clients write it. GRUB looks in the folder that is built into it
/// (Debian's for the network: `/grub`), or beside itself where none is (openSUSE's).
pub fn made(path: &str) -> Option<Made> {
    match place(path).as_str() {
        "autoexec.ipxe" => Some(Made::Autoexec),
        "grub.cfg" | "grub/grub.cfg" | "boot/grub/grub.cfg" | "boot/grub2/grub.cfg" | "efi/debian/grub.cfg" => {
            Some(Made::GrubConfig)
        }
        _ => None,
    }
}

/// Chooses the loader of one machine, by what is known of it. The default knows nothing and takes the first of the table.
#[derive(Clone, Default)]
pub struct Chooser(Option<Arc<Choose>>);

type Choose = dyn Fn(Option<MacAddr>, Arch) -> Result<&'static str, &'static str> + Send + Sync;

impl Chooser {
    /// `choose` is also asked for machines whose port is not known.
    pub fn new(
        choose: impl Fn(Option<MacAddr>, Arch) -> Result<&'static str, &'static str> + Send + Sync + 'static,
    ) -> Self {
        Chooser(Some(Arc::new(choose)))
    }

    /// Name of the loader in the table, or why there is none.
    pub fn loader(&self, mac: impl Into<Option<MacAddr>>, arch: Arch) -> Result<&'static str, &'static str> {
        match &self.0 {
            Some(choose) => choose(mac.into(), arch),
            None => first_held(arch, |_| true),
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

    fn all(_: &str) -> bool {
        true
    }

    #[test]
    fn every_firmware_gets_its_loader() {
        assert_eq!(first_held(Arch::from_option93(0), all), Ok("undionly.kpxe"));
        for code in [7, 9, 16] {
            assert_eq!(first_held(Arch::from_option93(code), all), Ok("snponly.efi"), "{code}");
        }
        for code in [11, 19] {
            assert_eq!(
                first_held(Arch::from_option93(code), all),
                Ok("snponly-arm64.efi"),
                "{code}"
            );
        }
        assert!(first_held(Arch::from_option93(6), all).unwrap_err().contains("32-bit"));
        assert!(first_held(Arch::from_option93(99), all).is_err());
    }

    #[test]
    fn only_what_is_here_is_named_and_the_lack_of_all_is_said() {
        let big = |name: &str| matches!(name, "ipxe.pxe" | "ipxe.efi" | "ipxe-arm64.efi");
        for (code, want) in [
            (0, "ipxe.pxe"),
            (7, "ipxe.efi"),
            (16, "ipxe.efi"),
            (11, "ipxe-arm64.efi"),
        ] {
            assert_eq!(first_held(Arch::from_option93(code), big), Ok(want), "{code}");
        }
        for (code, what) in [
            (0, "BIOS"),
            (7, "64-bit UEFI"),
            (16, "64-bit UEFI"),
            (11, "ARM"),
            (19, "ARM"),
        ] {
            let why = first_held(Arch::from_option93(code), |_| false).unwrap_err();
            assert!(why.contains(what) && why.contains("on this system"), "{code}: {why}");
        }
    }

    #[test]
    fn every_loader_that_is_named_is_in_the_table() {
        for code in 0..32 {
            for name in candidates(Arch::from_option93(code)) {
                assert!(loader_named(name).is_some(), "{name}");
                assert_eq!(candidate_named(name), Some(*name));
            }
        }
        assert_eq!(candidate_named(GRUB), None);
    }

    #[test]
    fn made_files_have_many_names() {
        for name in [
            "autoexec.ipxe",
            "/autoexec.ipxe",
            "\\autoexec.ipxe",
            "AUTOEXEC.IPXE",
            "\\EFI\\BOOT\\autoexec.ipxe",
        ] {
            assert_eq!(made(name), Some(Made::Autoexec), "{name}");
        }
        for name in [
            "/grub/grub.cfg",
            "grub.cfg",
            "GRUB.CFG",
            "//grub.cfg",
            "boot\\grub2\\grub.cfg",
            "/EFI/debian/grub.cfg",
            "/EFI/BOOT/grub.cfg",
        ] {
            assert_eq!(made(name), Some(Made::GrubConfig), "{name}");
        }
        assert_eq!(made("/grub/x86_64-efi/command.lst"), None);
        assert_eq!(made("../grub.cfg"), None);
    }

    #[test]
    fn a_chooser_without_knowledge_takes_the_first() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        assert_eq!(Chooser::default().loader(mac, Arch::UefiX64), Ok("snponly.efi"));
        assert_eq!(Chooser::default().loader(None, Arch::UefiX64), Ok("snponly.efi"));
        // Who has no port is not told of a loader that this system may lack.
        let second = Chooser::new(|_, arch| candidates(arch).get(1).copied().ok_or("none"));
        assert_eq!(second.loader(mac, Arch::UefiX64), Ok("ipxe.efi"));
        assert_eq!(second.loader(None, Arch::UefiX64), Ok("ipxe.efi"));
    }

    #[test]
    fn a_loader_is_found_however_firmware_writes_it() {
        for (path, want) in [
            ("grub.efi", GRUB),
            ("/grub.efi", GRUB),
            ("\\grub.efi", GRUB),
            ("//grubx64.efi", GRUB),
            ("GRUB.EFI", GRUB),
            ("GRUBX64.EFI", GRUB),
            ("/EFI/BOOT/grubx64.efi", GRUB),
            ("\\EFI\\BOOT\\GRUB.EFI", GRUB),
            ("\\SHIMX64.EFI", SIGNED),
            ("UNDIONLY.KPXE", "undionly.kpxe"),
            ("Memtest.efi", MEMTEST_EFI),
        ] {
            assert_eq!(loader_named(path), Some(want), "{path}");
        }
        assert_eq!(candidate_named("SHIMX64.EFI"), Some(SIGNED));
        assert_eq!(candidate_named("GRUB.EFI"), None);
        // The names of files on this system are not names to ask for, nor is a folder of our own.
        for path in [
            "shim.efi",
            "grubnetx64.efi.signed",
            "snp-x86_64.efi",
            "loaders/grub.efi",
            "efi/grub.efi",
        ] {
            assert_eq!(loader_named(path), None, "{path}");
        }
    }

    #[test]
    fn what_shim_and_grub_do_without_is_known() {
        for path in [
            "revocations.efi",
            "/revocations_sbat.efi",
            "shim_certificate_0.efi",
            "mmx64.efi",
            "MokManager.efi",
            "\\fbx64.efi",
            "/grub.cfg-01-52-54-00-12-34-56",
            "/grub/grub.cfg-C0A8DB3C",
            "grub.cfg-C",
            "/x86_64-efi/command.lst",
        ] {
            assert!(looked_for_in_vain(path), "{path}");
            assert!(loader_named(path).is_none() && made(path).is_none(), "{path}");
        }
        for path in [
            "grub.cfg",
            "grub.efi",
            "pxelinux.cfg/default",
            "ipxe.efi",
            "",
            "undionly.kpxe.0",
        ] {
            assert!(!looked_for_in_vain(path), "{path}");
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
            if let Some(name) = loader_named(&path) {
                prop_assert!(path.to_ascii_lowercase().ends_with(name) || name == GRUB);
            }
        }

        /// Any writing of a name finds it, and a step up in front of it never does.
        #[test]
        fn every_name_is_found_in_any_writing(
            at in 0..LOADERS.len(), upper in any::<u64>(), before in "[/\\\\]{0,3}", up in "[/\\\\]?\\.\\.[/\\\\]",
        ) {
            let (name, _) = LOADERS[at];
            let written: String = name
                .char_indices()
                .map(|(at, c)| if upper >> (at % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c })
                .collect();
            prop_assert_eq!(loader_named(&format!("{before}{written}")), Some(name));
            prop_assert_eq!(loader_named(&format!("{up}{written}")), None);
        }
    }
}
