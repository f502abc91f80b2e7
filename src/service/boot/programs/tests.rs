use super::*;
use crate::model::MacAddr;
use crate::service::loader_choice::LoaderChoice;
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
    assert_eq!(LoaderChoice::default().loader(mac, Arch::UefiX64), Ok("snponly.efi"));
    assert_eq!(LoaderChoice::default().loader(None, Arch::UefiX64), Ok("snponly.efi"));
    // Who has no port is not told of a loader that this system may lack.
    let second = LoaderChoice::Fixed(|arch| candidates(arch).get(1).copied().ok_or("none"));
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
