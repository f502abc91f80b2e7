use std::process::Command;

use super::*;

fn made(program: &str, args: &[&str]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 20).unwrap();
    let output = Command::new(program).args(args).arg(file.path()).output();
    assert!(
        output
            .unwrap_or_else(|_| panic!("{program} is missing"))
            .status
            .success()
    );
    file
}

#[test]
fn volumes_are_told_apart() {
    let ours = made("mkfs.exfat", &["-L", DATA_NAME]);
    let content = inspect(ours.as_file()).unwrap();
    assert_eq!(
        content,
        Content::ExFat {
            label: Some(DATA_NAME.into()),
            needs_check: false
        }
    );
    assert!(is_ours(ours.as_file()).unwrap());
    assert!(!is_ours(made("mkfs.exfat", &["-L", "PHOTOS"]).as_file()).unwrap());
    assert_eq!(
        inspect(made("mkfs.vfat", &[]).as_file()).unwrap(),
        Content::Foreign("FAT")
    );
    assert_eq!(
        inspect(made("mkfs.ext4", &["-q", "-F"]).as_file()).unwrap(),
        Content::Foreign("ext2/3/4")
    );
    assert_eq!(inspect(&vec![0u8; 1 << 20]).unwrap(), Content::Nothing);
    assert_eq!(inspect(&Vec::new()).unwrap(), Content::Nothing);
}

#[test]
fn a_volume_that_was_not_unmounted_wants_a_check() {
    let file = made("mkfs.exfat", &["-L", DATA_NAME]);
    let mut image = std::fs::read(file.path()).unwrap();
    image[106] |= 2;
    assert!(matches!(
        inspect(&image).unwrap(),
        Content::ExFat { needs_check: true, .. }
    ));
}

#[test]
fn a_broken_volume_is_not_taken_for_an_empty_partition() {
    let file = made("mkfs.exfat", &["-L", DATA_NAME]);
    let image = std::fs::read(file.path()).unwrap();
    let mut boot = image.clone();
    boot[80] ^= 1;
    boot[12 * 512 + 80] ^= 1;
    assert!(matches!(inspect(&boot).unwrap(), Content::Broken(_)));
    // Cut off in front of its folders.
    assert!(matches!(
        inspect(&image[..1 << 20].to_vec()).unwrap(),
        Content::Broken(_)
    ));
}
