//! SCSI log pages that tell of a disk's health (SPC-4 7.3, SBC-3 6.4). Pure.

use crate::formats::bytes::{be16, be32, be64};
use crate::model::inventory::Smart;

/// Pages worth asking for, if the disk lists them.
pub(crate) const WANTED: [u8; 7] = [0x02, 0x03, 0x0d, 0x0e, 0x11, 0x15, 0x2f];
/// Real parameters are few; this is far above.
const MAX_PARAMETERS: usize = 512;

/// Page 00h: the pages a disk has.
pub(crate) fn supported(page: &[u8]) -> Vec<u8> {
    let Some(length) = be16(page, 2).filter(|_| page.first().is_some_and(|code| code & 0x3f == 0)) else {
        return Vec::new();
    };
    let listed = page.get(4..).unwrap_or_default();
    listed.iter().take(usize::from(length)).copied().collect()
}

/// Adds what one page tells.
pub(crate) fn add(smart: &mut Smart, page: &[u8]) {
    let Some(code) = page.first().map(|code| code & 0x3f) else {
        return;
    };
    for (parameter, value) in parameters(page) {
        add_parameter(smart, code, parameter, value);
    }
}

fn add_parameter(smart: &mut Smart, page: u8, parameter: u16, value: &[u8]) {
    let degrees = |at: usize| {
        value
            .get(at)
            .filter(|degrees| **degrees != 0xff)
            .map(|degrees| i32::from(*degrees))
    };
    match (page, parameter) {
        // Error counters of writing and reading: the total that stayed uncorrected.
        (0x02 | 0x03, 0x0006) => {
            let sum = smart.uncorrected_errors.unwrap_or(0);
            smart.uncorrected_errors = number(value).map(|errors| sum.saturating_add(errors));
        }
        (0x0d, 0x0000) => smart.temperature_celsius = degrees(1),
        (0x0e, 0x0004) => smart.power_cycles = be32(value, 0).map(u64::from),
        (0x11, 0x0001) => smart.percentage_used = value.get(3).copied(),
        (0x15, 0x0000) => smart.power_on_hours = be32(value, 0).map(|minutes| u64::from(minutes / 60)),
        // Informational exceptions: the sense code the disk would raise by itself.
        (0x2f, 0x0000) => match (value.first(), value.get(1)) {
            (Some(0), _) => smart.passed = Some(true),
            (Some(0x5d), Some(reason)) => {
                smart.passed = Some(false);
                smart
                    .warnings
                    .push(format!("expects to fail (sense code 5dh/{reason:02x}h)"));
            }
            (Some(0x0b), Some(reason)) => {
                smart.passed = Some(true);
                let what = match reason {
                    1 => "temperature is out of bounds".to_owned(),
                    2 => "the enclosure is degraded".to_owned(),
                    other => format!("warns with sense code 0bh/{other:02x}h"),
                };
                smart.warnings.push(what);
            }
            _ => {}
        },
        _ => {}
    }
}

/// Parameters of a page: number and value.
fn parameters(page: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    let length = be16(page, 2).map_or(0, usize::from);
    let mut rest = page.get(4..).unwrap_or_default();
    rest = rest.get(..length).unwrap_or(rest);
    while let [high, low, _, length, tail @ ..] = rest {
        let Some((value, after)) = tail.split_at_checked(usize::from(*length)) else {
            break;
        };
        found.push((u16::from_be_bytes([*high, *low]), value));
        if found.len() == MAX_PARAMETERS {
            break;
        }
        rest = after;
    }
    found
}

/// A counter of one to eight bytes.
fn number(value: &[u8]) -> Option<u64> {
    let mut wide = [0u8; 8];
    let start = wide.len().checked_sub(value.len())?;
    wide.get_mut(start..)?.copy_from_slice(value);
    be64(&wide, 0).filter(|_| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(code: u8, parameters: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (number, value) in parameters {
            body.extend(number.to_be_bytes());
            body.extend([0x03, value.len() as u8]);
            body.extend(*value);
        }
        let mut page = vec![code, 0];
        page.extend((body.len() as u16).to_be_bytes());
        page.extend(body);
        page
    }

    #[test]
    fn pages_add_up_to_the_state_of_a_disk() {
        let mut smart = Smart::default();
        for page in [
            page(0x02, &[(0, &[0, 0, 0, 9]), (6, &[0, 0, 0, 2])]),
            page(0x03, &[(6, &[1])]),
            page(0x0d, &[(0, &[0, 34]), (1, &[0, 60])]),
            page(0x0e, &[(3, &[0, 0, 0x27, 0x10]), (4, &[0, 0, 0, 57])]),
            page(0x11, &[(1, &[0, 0, 0, 4])]),
            page(0x15, &[(0, &[0, 0x08, 0x07, 0x00, 0, 0, 0, 0])]),
            page(0x2f, &[(0, &[0, 0, 34])]),
        ] {
            add(&mut smart, &page);
        }
        assert_eq!(smart.uncorrected_errors, Some(3));
        assert_eq!(smart.temperature_celsius, Some(34));
        assert_eq!(smart.power_cycles, Some(57));
        assert_eq!(smart.percentage_used, Some(4));
        assert_eq!(smart.power_on_hours, Some(0x80700 / 60));
        assert_eq!((smart.passed, smart.warnings.len()), (Some(true), 0));
        add(&mut smart, &page(0x2f, &[(0, &[0x5d, 0x32, 34])]));
        assert_eq!(smart.passed, Some(false));
        assert_eq!(smart.warnings, ["expects to fail (sense code 5dh/32h)"]);
    }

    #[test]
    fn the_list_of_pages() {
        assert_eq!(supported(&[0, 0, 0, 3, 0, 0x02, 0x2f, 0xff]), [0, 0x02, 0x2f]);
        assert!(supported(&[0x2f, 0, 0, 3, 0, 0x02, 0x2f]).is_empty());
        assert!(supported(&[0]).is_empty());
    }

    proptest! {
        #[test]
        fn any_page_is_read(mut page in proptest::collection::vec(any::<u8>(), 0..600), code in 0usize..7) {
            if let Some(first) = page.first_mut() {
                *first = WANTED[code];
            }
            let mut smart = Smart::default();
            add(&mut smart, &page);
            prop_assert!(parameters(&page).len() <= MAX_PARAMETERS);
            let _ = supported(&page);
        }
    }
}
