//! Data Center Manageability Interface 1.5: power reading and asset tag. A controller without it refuses the first
//! question and is asked no other.

use super::{GROUP, Ipmi, Refusal};
use crate::formats::bytes::le16;
use crate::formats::text::burnt;
use crate::model::inventory::Dcmi;

/// Marks every DCMI message (DCMI 1.5, 6.1).
const GROUP_ID: u8 = 0xdc;
/// An asset tag has at most 63 bytes, given in pieces of at most 16.
const TAG_LIMIT: usize = 63;
const TAG_PIECE: usize = 16;

/// Get DCMI Capabilities, Get Power Reading, Get Asset Tag.
pub(crate) fn dcmi(ipmi: &mut Ipmi<'_>) -> Result<Dcmi, Refusal> {
    let capabilities = ipmi.send(GROUP, 0x01, &[GROUP_ID, 0x01])?;
    let mut dcmi = Dcmi {
        version: match capabilities.as_slice() {
            [GROUP_ID, major, minor, ..] => Some(format!("{major}.{minor}")),
            _ => return Err(Refusal::Short),
        },
        ..Dcmi::default()
    };
    match ipmi.send(GROUP, 0x02, &[GROUP_ID, 0x01, 0, 0]) {
        Ok(data) => read_power(&data, &mut dcmi),
        Err(refusal) if refusal.is_final() => return Err(refusal),
        // Power readings are an option of its own.
        Err(_) => {}
    }
    dcmi.asset_tag = asset_tag(ipmi)?;
    Ok(dcmi)
}

/// 6.6.1. All zero where measuring is off.
fn read_power(data: &[u8], dcmi: &mut Dcmi) {
    let told = |at: usize| le16(data, at).filter(|watts| *watts != 0);
    dcmi.power_watts = told(1);
    dcmi.power_min_watts = told(3);
    dcmi.power_max_watts = told(5);
    dcmi.power_average_watts = told(7);
}

/// 6.4.2.
fn asset_tag(ipmi: &mut Ipmi<'_>) -> Result<Option<String>, Refusal> {
    let mut tag = Vec::new();
    while tag.len() < TAG_LIMIT {
        let offset = u8::try_from(tag.len()).unwrap_or(u8::MAX);
        let answer = match ipmi.send(GROUP, 0x06, &[GROUP_ID, offset, TAG_PIECE as u8]) {
            Ok(answer) => answer,
            Err(refusal) if refusal.is_final() => return Err(refusal),
            Err(_) => break,
        };
        let Some((&[_, total], piece)) = answer.split_first_chunk::<2>() else {
            break;
        };
        tag.extend(piece.iter().take(TAG_PIECE));
        let total = usize::from(total).min(TAG_LIMIT);
        if piece.is_empty() || tag.len() >= total {
            tag.truncate(total);
            break;
        }
    }
    Ok(burnt(&tag))
}

#[cfg(test)]
mod tests {
    use super::super::testing::linked;
    use super::*;

    #[test]
    fn power_and_asset_tag_are_read_in_pieces() {
        let dcmi = linked(
            |netfn, cmd, data| {
                assert_eq!((netfn, data[0]), (GROUP, GROUP_ID));
                let tag = b"RACK-7/UNIT-12 row B";
                Ok(match cmd {
                    1 => vec![0, GROUP_ID, 1, 5, 2, 0],
                    2 => vec![
                        0, GROUP_ID, 0xd2, 0, 0x90, 0, 0x5e, 1, 0xc8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40,
                    ],
                    _ => {
                        let from = usize::from(data[1]);
                        let piece = &tag[from..(from + 16).min(tag.len())];
                        [&[0, GROUP_ID, tag.len() as u8], piece].concat()
                    }
                })
            },
            dcmi,
        )
        .unwrap();
        assert_eq!(dcmi.version.as_deref(), Some("1.5"));
        assert_eq!(
            [
                dcmi.power_watts,
                dcmi.power_min_watts,
                dcmi.power_max_watts,
                dcmi.power_average_watts
            ],
            [Some(210), Some(144), Some(350), Some(200)]
        );
        assert_eq!(dcmi.asset_tag.as_deref(), Some("RACK-7/UNIT-12 row B"));
    }

    #[test]
    fn a_controller_without_it_is_asked_once() {
        let mut asked = 0;
        let refusal = linked(
            move |_, _, _| {
                asked += 1;
                assert_eq!(asked, 1);
                Ok(vec![0xc1])
            },
            |ipmi| dcmi(ipmi).unwrap_err(),
        );
        assert!(refusal.is_unsupported());
    }

    #[test]
    fn an_endless_tag_ends() {
        let answer = |_: u8, _: u8, _: &[u8]| Ok([vec![0, GROUP_ID, 255], vec![b'x'; 16]].concat());
        assert!(linked(answer, asset_tag).unwrap().unwrap().len() <= TAG_LIMIT);
    }
}
