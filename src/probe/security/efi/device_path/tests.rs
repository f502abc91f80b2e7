use super::*;
use proptest::prelude::*;

fn node_bytes(kind: u8, sub: u8, data: &[u8]) -> Vec<u8> {
    let length = (data.len() + 4) as u16;
    [&[kind, sub][..], &length.to_le_bytes(), data].concat()
}

fn path(nodes: &[(u8, u8, Vec<u8>)]) -> Path {
    let mut bytes: Vec<u8> = nodes
        .iter()
        .flat_map(|(kind, sub, data)| node_bytes(*kind, *sub, data))
        .collect();
    bytes.extend([0x7f, 0xff, 4, 0]);
    parse(&bytes)
}

fn root() -> (u8, u8, Vec<u8>) {
    (2, 1, vec![0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0])
}

#[test]
fn a_partition_on_a_drive() {
    let mut hd = vec![1, 0, 0, 0];
    hd.extend(0x800u64.to_le_bytes());
    hd.extend(0x10_0000u64.to_le_bytes());
    hd.extend([
        0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
    ]);
    hd.extend([2, 2]);
    let file: Vec<u8> = "\\EFI\\BOOT\\BOOTX64.EFI\0"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let nvme = [&[1, 0, 0, 0][..], &[1, 2, 3, 4, 5, 6, 7, 8]].concat();
    let found = path(&[root(), (1, 1, vec![0, 4]), (3, 23, nvme), (4, 1, hd), (4, 4, file)]);
    assert_eq!(
        found.text,
        "PciRoot(0x0)/Pci(0x4,0x0)/NVMe(0x1,08-07-06-05-04-03-02-01)/\
         HD(1,GPT,00112233-4455-6677-8899-aabbccddeeff,0x800,0x100000)/\\EFI\\BOOT\\BOOTX64.EFI"
    );
    assert_eq!(found.kind, Kind::Disk);
}

#[test]
fn a_network_boot_over_http() {
    let mut mac = vec![0x52, 0x54, 0, 0x12, 0x34, 0x56];
    mac.resize(32, 0);
    mac.push(1);
    let mut ip = vec![0; 8];
    ip.extend([0, 0, 0, 0, 6, 0, 0]);
    ip.extend([0; 8]);
    let nodes = [root(), (1, 1, vec![0, 2]), (3, 11, mac), (3, 12, ip)];
    assert_eq!(
        path(&nodes).text,
        "PciRoot(0x0)/Pci(0x2,0x0)/MAC(525400123456,0x1)/IPv4(DHCP)"
    );
    assert_eq!(path(&nodes).kind, Kind::Network);
    let uri = [nodes.as_slice(), &[(3, 24, b"http://boot.example/x.efi".to_vec())]].concat();
    assert!(path(&uri).text.ends_with("/Uri(http://boot.example/x.efi)"));
    assert_eq!(path(&uri).kind, Kind::Http);
    let mut six = vec![0; 16];
    six.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    six.extend([0, 0, 0, 0, 17, 0, 1]);
    assert_eq!(
        path(&[(3, 13, six)]).text,
        "IPv6(fd00::1,UDP,StatelessAutoConfigure,::)"
    );
}

#[test]
fn sticks_discs_firmware_and_what_bios_boots() {
    let found = path(&[root(), (1, 1, vec![0, 0x14]), (3, 5, vec![3, 0]), (4, 2, vec![0; 20])]);
    assert_eq!(found.text, "PciRoot(0x0)/Pci(0x14,0x0)/USB(0x3,0x0)/CDROM(0x0)");
    assert_eq!(found.kind, Kind::Usb);
    assert_eq!(
        path(&[(4, 7, vec![0; 16]), (4, 6, vec![0xff; 16])]).kind,
        Kind::Firmware
    );
    let legacy = path(&[(5, 1, [&[6, 0, 0, 0][..], b"IBA GE Slot\0"].concat())]);
    assert_eq!(
        (legacy.text.as_str(), legacy.kind),
        ("BBS(Network,IBA GE Slot)", Kind::Legacy)
    );
    assert_eq!(path(&[(9, 9, vec![1, 2])]).text, "Path(9,9,0102)");
    assert_eq!(
        path(&[(3, 18, vec![1])]).text,
        "Path(3,18,01)",
        "too short for its type"
    );
    assert_eq!(
        path(&[(3, 18, vec![1, 0, 0xff, 0xff, 0, 0])]).text,
        "Sata(0x1,0xffff,0x0)"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_path(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let found = parse(&bytes);
        prop_assert!(found.text.chars().count() <= MAX_TEXT);
        prop_assert!(!found.text.chars().any(char::is_control));
    }

    #[test]
    fn any_data_of_known_nodes_is_shown(
        kind in 1u8..6, sub in 1u8..32, data in proptest::collection::vec(any::<u8>(), 0..60), count in 1usize..100,
    ) {
        let nodes = vec![(kind, sub, data); count];
        let found = path(&nodes);
        prop_assert!(!found.text.is_empty() || (kind, sub) == (4, 4));
        prop_assert!(found.text.chars().count() <= MAX_TEXT);
    }
}
