//! Which network boot program a firmware gets, and the one table of names that TFTP and HTTP serve. Pure.

use crate::model::Arch;

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
    let kinds = [Arch::Bios, Arch::UefiX64, Arch::UefiArm64].into_iter();
    kinds.flat_map(candidates).copied().find(|candidate| *candidate == name)
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
    let begins = ["grub.cfg-", "revocations", "shim_certificate"];
    let ends = [".lst", ".mod", ".pf2", ".mo", ".gmo"];
    begins.iter().any(|begin| name.starts_with(begin))
        || ends.iter().any(|end| name.ends_with(end))
        || matches!(name, "mmx64.efi" | "mokmanager.efi" | "fbx64.efi" | "fallback.efi")
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

#[cfg(test)]
mod tests;
