use super::super::testing::structure;
use super::*;
use proptest::prelude::*;

/// A formatted area of `length` with fields at the offsets of the specification, without the header.
fn body(length: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut body = vec![0u8; length - 4];
    for (offset, bytes) in fields {
        body[offset - 4..offset - 4 + bytes.len()].copy_from_slice(bytes);
    }
    body
}

#[test]
fn slots_tell_what_is_in_them() {
    let mut data = structure(
        9,
        1,
        &body(
            0x1c,
            &[
                (0x04, &[1, 0xbd, 0x0d, 4, 4]),
                (0x0d, &[1, 0, 0x3b, 0x19]),
                (0x12, &[1]),
                (0x19, &[0x0b]),
            ],
        ),
        &["PCIe Slot 1"],
    );
    data.extend(structure(
        9,
        2,
        &body(
            0x11,
            &[(0x04, &[1, 0xb5, 0x0b, 5, 3]), (0x0d, &[0xff, 0xff, 0xff, 0xff])],
        ),
        &["PCIe Slot 2"],
    ));
    let slots = slots(&SmbiosTable::parse(None, &data));
    assert_eq!(slots[0].name.as_deref(), Some("PCIe Slot 1"));
    assert_eq!(slots[0].kind.as_deref(), Some("PCI Express 4 x16"));
    assert_eq!(
        (slots[0].width.as_deref(), slots[0].physical_width.as_deref()),
        (Some("x16"), Some("x8"))
    );
    assert_eq!(slots[0].in_use, Some(true));
    assert_eq!(slots[0].bus_address.as_deref(), Some("0001:3b:03.1"));
    assert_eq!(
        (slots[1].in_use, slots[1].unavailable, &slots[1].bus_address),
        (Some(false), true, &None)
    );
}

#[test]
fn devices_on_the_board_in_both_forms() {
    let old = structure(10, 1, &[0x85, 1, 0x03, 2], &["LAN", "Video"]);
    let devices = onboard_devices(&SmbiosTable::parse(None, &old));
    assert_eq!(
        (devices[0].kind.as_deref(), devices[0].enabled),
        (Some("ethernet"), true)
    );
    assert_eq!((devices[1].name.as_deref(), devices[1].enabled), (Some("Video"), false));
    let new = structure(41, 2, &body(0x0b, &[(0x04, &[1, 0x85, 2, 0, 0, 4, 1])]), &["NIC 2"]);
    let devices = onboard_devices(&SmbiosTable::parse(None, &[new, old].concat()));
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].bus_address.as_deref(), Some("0000:04:00.1"));
    assert_eq!(devices[0].instance, Some(2));
}

#[test]
fn caches_belong_to_sockets() {
    let cache = |handle: u16, narrow: u16, wide: u32| {
        structure(
            7,
            handle,
            &body(
                0x1b,
                &[
                    (0x04, &[1, 0x82, 0x01]),
                    (0x09, &narrow.to_le_bytes()),
                    (0x10, &[5, 5, 8]),
                    (0x17, &wide.to_le_bytes()),
                ],
            ),
            &["L3"],
        )
    };
    let cpu = structure(
        4,
        9,
        &body(0x30, &[(0x04, &[1]), (0x1e, &7u16.to_le_bytes())]),
        &["CPU2"],
    );
    let data = [cache(7, 0xffff, 0x8000_0400), cache(8, 0x8010, 0), cpu].concat();
    let caches = caches(&SmbiosTable::parse(None, &data));
    assert_eq!(caches[0].socket.as_deref(), Some("CPU2"));
    assert_eq!((caches[0].level, caches[0].size_bytes), (3, Some(64 << 20)));
    assert_eq!(caches[0].associativity.as_deref(), Some("16-way"));
    assert!(caches[0].enabled);
    assert_eq!((&caches[1].socket, caches[1].size_bytes), (&None, Some(1 << 20)));
}

#[test]
fn supplies_say_whether_they_are_plugged_in() {
    let supply = |flags: u16| {
        structure(
            39,
            1,
            &body(
                0x16,
                &[
                    (0x05, &[1, 2, 3, 4]),
                    (0x0c, &1100u16.to_le_bytes()),
                    (0x0e, &flags.to_le_bytes()),
                ],
            ),
            &["Bay 1", "PSU1", "Example", "P-77"],
        )
    };
    let table = [supply(0b1_1000_0011), supply(0b110), supply(0)].concat();
    let supplies = power_supplies(&SmbiosTable::parse(None, &table));
    let told: Vec<_> = supplies
        .iter()
        .map(|s| (s.present, s.plugged, s.hot_swappable, s.status.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (true, true, true, Some("ok")),
            (true, false, false, None),
            (false, false, false, None)
        ]
    );
    assert_eq!(supplies[0].serial.as_deref(), Some("P-77"));
    assert_eq!(supplies[0].max_capacity_watts, Some(1100));
}

#[test]
fn redfish_is_found_through_the_host_interface() {
    let mut record = vec![0u8; 91];
    record[..16].copy_from_slice(&[
        0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 8, 9, 10, 11, 12, 13, 14, 15,
    ]);
    record[16..18].copy_from_slice(&[3, 1]);
    record[18..22].copy_from_slice(&[169, 254, 95, 120]);
    record[34..38].copy_from_slice(&[255, 255, 0, 0]);
    record[50..52].copy_from_slice(&[1, 1]);
    record[52..56].copy_from_slice(&[169, 254, 95, 118]);
    record[68..72].copy_from_slice(&[255, 255, 0, 0]);
    record[84..86].copy_from_slice(&443u16.to_le_bytes());
    record[86..90].copy_from_slice(&77u32.to_le_bytes());
    record[90] = 5;
    record.extend(b"bmc-1");
    let device = [&[4, 13, 0xcd, 0x0b, 0x31, 0x00, 0][..], &[0x3c, 0xec, 0xef, 1, 2, 3]].concat();
    let mut body = vec![0x40, device.len() as u8];
    body.extend(&device);
    body.push(1);
    body.extend([4, record.len() as u8]);
    body.extend(&record);
    let data = structure(42, 1, &body, &[]);
    let found = host_interfaces(&SmbiosTable::parse(None, &data));
    assert_eq!(found.len(), 1);
    let interface = &found[0];
    assert_eq!(interface.kind, "network");
    assert_eq!(interface.device.as_deref(), Some("usb v2"));
    assert_eq!(interface.device_ids.as_deref(), Some("0bcd:0031"));
    assert_eq!(interface.mac, "3c:ec:ef:01:02:03".parse().ok());
    assert_eq!(interface.protocol.as_deref(), Some("redfish over ip"));
    assert_eq!(interface.host_address_source.as_deref(), Some("autoconf"));
    assert_eq!(interface.host_ip.as_deref(), Some("169.254.95.120"));
    assert_eq!(interface.service_ip.as_deref(), Some("169.254.95.118"));
    assert_eq!(interface.service_netmask.as_deref(), Some("255.255.0.0"));
    assert_eq!((interface.service_port, interface.service_vlan), (Some(443), Some(77)));
    assert_eq!(interface.service_hostname.as_deref(), Some("bmc-1"));
    assert_eq!(
        interface.service_uuid.as_deref(),
        Some("00112233-4455-6677-0809-0a0b0c0d0e0f")
    );
}

#[test]
fn strings_boot_status_and_tpm() {
    let mut data = structure(11, 1, &[2], &["Dell System", "5[0000]"]);
    data.extend(structure(12, 2, &[1], &["NVRAM_CLR: clear user settable NVRAM areas"]));
    data.extend(structure(32, 3, &[0, 0, 0, 0, 0, 0, 3], &[]));
    data.extend(structure(
        43,
        4,
        &[b'I', b'N', b'T', b'C', 2, 0, 0x0f, 0, 1, 2, 0, 0, 0, 0, 1],
        &["INTEL"],
    ));
    let table = SmbiosTable::parse(None, &data);
    assert_eq!(strings(&table, 11), ["Dell System", "5[0000]"]);
    assert_eq!(strings(&table, 12).len(), 1);
    assert_eq!(
        boot_status(&table).as_deref(),
        Some("firmware detected a hardware failure")
    );
    let tpm = tpm(&table).unwrap();
    assert_eq!(
        (tpm.vendor.as_deref(), tpm.version.as_deref()),
        (Some("INTC"), Some("2.0"))
    );
    assert_eq!(tpm.firmware.as_deref(), Some("513.15"));
    assert_eq!(tpm.description.as_deref(), Some("INTEL"));
}

proptest! {
    #[test]
    fn any_structure_gives_facts_or_none(
        kind in prop_oneof![Just(7u8), Just(8), Just(9), Just(10), Just(11), Just(32), Just(39), Just(41), Just(42), Just(43)],
        body in proptest::collection::vec(any::<u8>(), 0..250),
        strings_in in proptest::collection::vec("\\PC{1,6}", 0..4),
    ) {
        let names: Vec<&str> = strings_in.iter().map(String::as_str).collect();
        let data = structure(kind, 7, &body, &names);
        let table = SmbiosTable::parse(None, &data);
        let _ = (slots(&table), ports(&table), caches(&table), power_supplies(&table), boot_status(&table), tpm(&table));
        prop_assert!(onboard_devices(&table).len() <= data.len());
        prop_assert!(host_interfaces(&table).len() <= data.len());
        prop_assert!(strings(&table, kind).len() <= data.len());
    }
}
