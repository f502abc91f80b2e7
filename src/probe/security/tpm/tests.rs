use super::*;

/// A TPM 1.2 and no event log; a TPM 2.0 that only sysfs tells of.
#[test]
fn sysfs_tells_of_a_tpm_without_asking_it() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("sys/class/tpm/tpm0/tpm_version_major", "1\n");
    write(
        "sys/class/tpm/tpm0/device/caps",
        "Manufacturer: 0x49465800\nTCG version: 1.2\nFirmware version: 3.19\n",
    );
    write("sys/class/tpm/tpm1/tpm_version_major", "2\n");
    write("sys/class/tpm/tpm1/pcr-sha256/0", "00\n");
    write("sys/kernel/security/tpm1/binary_bios_measurements", "0123456789");
    let mut items = Vec::new();
    let found = tpms(&Root::at(dir.path()), Duration::from_secs(60), &mut items);
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].vendor.as_deref(), found[0].firmware.as_deref()),
        (Some("IFX"), Some("3.19"))
    );
    assert_eq!(found[0].version.as_deref(), Some("1.2"));
    assert_eq!(
        (found[1].version.as_deref(), found[1].event_log_bytes),
        (Some("2.0"), Some(10))
    );
    assert_eq!(found[1].pcr_banks, ["sha256"]);
    let told: Vec<_> = items.iter().map(|item| (item.item.as_str(), item.status)).collect();
    assert_eq!(
        told,
        [
            ("tpm0.event_log", PartStatus::Absent),
            ("tpm1.properties", PartStatus::Unsupported)
        ]
    );
}

#[test]
fn a_machine_without_a_tpm_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut items = Vec::new();
    assert!(tpms(&Root::at(dir.path()), Duration::from_secs(60), &mut items).is_empty());
    assert_eq!(items[0].status, PartStatus::Absent);
}

/// The answers of a TPM 2.0 in a captured tree, with a certificate in two pieces.
#[test]
fn captured_answers_give_maker_and_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let class = dir.path().join("sys/class/tpm/tpm0");
    std::fs::create_dir_all(&class).unwrap();
    std::fs::write(class.join("tpm_version_major"), "2\n").unwrap();
    let answers = dir.path().join(".recon/tpm/tpm0");
    std::fs::create_dir_all(&answers).unwrap();
    let keep = |command: &[u8], tag: u16, body: &[u8]| {
        let size = (10 + body.len()) as u32;
        let bytes = [&tag.to_be_bytes()[..], &size.to_be_bytes(), &[0; 4], body].concat();
        std::fs::write(
            answers.join(format!("{}-{}", hex(&command[8..10]), hex(&command[10..]))),
            bytes,
        )
        .unwrap();
    };
    let capability = |capability: u32, entries: &[&[u8]]| {
        let count = entries.len() as u32;
        [
            &[0][..],
            &capability.to_be_bytes(),
            &count.to_be_bytes(),
            &entries.concat(),
        ]
        .concat()
    };
    let property = |number: u32, value: u32| [number.to_be_bytes(), value.to_be_bytes()].concat();
    let word = |text: &[u8; 4]| u32::from_be_bytes(*text);
    let fixed = [
        property(0x100, word(b"2.0\0")),
        property(0x102, 159),
        property(0x105, word(b"INTC")),
        property(0x106, word(b"Inte")),
        property(0x107, word(b"l\0\0\0")),
        property(0x10b, 0x0258_0007),
        property(0x10c, 0x0001_0000),
    ];
    let fixed: Vec<&[u8]> = fixed.iter().map(Vec::as_slice).collect();
    keep(&command::get_capability(6, 0x100, 16), 0x8001, &capability(6, &fixed));
    keep(
        &command::get_capability(6, 0x200, 1),
        0x8001,
        &capability(6, &[&property(0x200, 0x205)]),
    );
    keep(
        &command::get_capability(5, 0, 1),
        0x8001,
        &capability(5, &[&[0, 0x0b, 3, 0xff, 0xff, 0xff]]),
    );
    keep(
        &command::get_capability(1, 0x01c0_0000, 64),
        0x8001,
        &capability(1, &[&0x01c0_0002u32.to_be_bytes()]),
    );
    let public = [
        &[0, 14][..],
        &0x01c0_0002u32.to_be_bytes(),
        &[0, 0x0b, 0x62, 0x07, 0x20, 0x01, 0, 0, 2, 0x58],
    ]
    .concat();
    keep(&command::nv_read_public(0x01c0_0002), 0x8001, &public);
    let mut certificate = vec![0x30, 0x82, 2, 0];
    certificate.resize(516, 0x5a);
    certificate.resize(600, 0);
    for (offset, count) in [(0u16, 512u16), (512, 88)] {
        let from = usize::from(offset);
        let data = [
            &[0, 0, 0, 0][..],
            &count.to_be_bytes(),
            &certificate[from..from + usize::from(count)],
        ]
        .concat();
        keep(
            &command::nv_read(0x01c0_0002, 0x01c0_0002, count, offset),
            0x8002,
            &data,
        );
    }
    let mut items = Vec::new();
    let found = tpms(&Root::at(dir.path()), Duration::from_secs(60), &mut items);
    let tpm = &found[0];
    assert_eq!(
        (tpm.vendor.as_deref(), tpm.model.as_deref()),
        (Some("INTC"), Some("Intel"))
    );
    assert_eq!(tpm.firmware.as_deref(), Some("600.7.1.0"));
    assert_eq!(
        (tpm.version.as_deref(), tpm.revision.as_deref()),
        (Some("2.0"), Some("1.59"))
    );
    assert_eq!(
        (tpm.owner_auth_set, tpm.endorsement_auth_set),
        (Some(true), Some(false))
    );
    assert_eq!((tpm.lockout_auth_set, tpm.in_lockout), (Some(true), Some(true)));
    assert_eq!(tpm.pcr_banks, ["sha256"]);
    let told = &tpm.ek_certificates[0];
    assert_eq!(
        (told.index.as_str(), told.key.as_deref(), told.size_bytes),
        ("0x01c00002", Some("rsa-2048"), 516)
    );
    assert_eq!(
        STANDARD.decode(told.der_base64.as_ref().unwrap()).unwrap(),
        certificate[..516]
    );
    assert!(
        items
            .iter()
            .any(|item| item.item == "tpm0.ek_certificates" && item.status == PartStatus::Ok)
    );
}
