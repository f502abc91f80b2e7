//! EFI_LOAD_OPTION (UEFI 2.10, 3.1.3): what a `Boot####` variable holds. Pure.

use super::device_path::{self, Kind};
use crate::formats::bytes::{until_nul, utf16_units};
use crate::formats::text::clean;
use crate::model::inventory::EfiBootEntry;

const ACTIVE: u32 = 0x0000_0001;
const HIDDEN: u32 = 0x0000_0008;

/// Attributes, length of the path, description in UTF-16 with a zero at its end, path, and data of the loader's own.
/// `None` where it is shorter than its head.
pub(crate) fn parse(number: &str, data: &[u8]) -> Option<EfiBootEntry> {
    let (attributes, rest) = data.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let attributes = u32::from_le_bytes(*attributes);
    let text: Vec<u16> = until_nul(utf16_units(rest)).collect();
    let path = rest.get((text.len() + 1) * 2..).unwrap_or_default();
    let path = path.get(..usize::from(u16::from_le_bytes(*length))).unwrap_or(path);
    let told = device_path::parse(path);
    let kind = match told.kind {
        Kind::Disk => "disk",
        Kind::Network => "network",
        Kind::Http => "http",
        Kind::Usb => "usb",
        Kind::Optical => "optical",
        Kind::Firmware => "firmware file",
        Kind::Legacy => "legacy",
        Kind::Other => "other",
    };
    Some(EfiBootEntry {
        number: number.to_owned(),
        active: attributes & ACTIVE != 0,
        hidden: attributes & HIDDEN != 0,
        description: clean(&String::from_utf16_lossy(&text)),
        path: Some(told.text).filter(|text| !text.is_empty()),
        kind: kind.to_owned(),
    })
}

#[cfg(test)]
pub(crate) mod testing {
    /// A load option from its parts.
    pub(crate) fn option(attributes: u32, description: &str, path: &[u8]) -> Vec<u8> {
        let mut bytes = attributes.to_le_bytes().to_vec();
        bytes.extend((path.len() as u16).to_le_bytes());
        bytes.extend(description.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        bytes.extend(path);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::testing::option;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_read() {
        let path = [
            2, 1, 12, 0, 0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0, // PciRoot(0)
            1, 1, 6, 0, 0, 0x1f, // Pci(0x1f,0)
            0x7f, 0xff, 4, 0,
        ];
        let mut bytes = option(9, "UEFI Ünit", &path);
        bytes.extend(b"optional data");
        let entry = parse("0003", &bytes).unwrap();
        assert_eq!(entry.description.as_deref(), Some("UEFI Ünit"));
        assert!(entry.active && entry.hidden);
        assert_eq!(entry.path.as_deref(), Some("PciRoot(0x0)/Pci(0x1F,0x0)"));
        assert_eq!(parse("0003", &bytes[..5]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(parse("0000", &data).is_some(), data.len() >= 6);
        }
    }
}
