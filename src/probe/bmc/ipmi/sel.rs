//! Reads the system event log out of the controller: how much there is, and the newest entries.

use crate::formats::bytes::{le16, le32};
use std::collections::VecDeque;

use super::sdr_record::SensorRecord;
use super::sel_text::{entry, timestamp};
use super::{Ipmi, Refusal, STORAGE};
use crate::model::inventory::Sel;

/// Entries that are told, the newest.
pub(crate) const MAX_ENTRIES: usize = 512;
/// Steps of a walk from the oldest entry; the numbers of entries have 16 bits.
const MAX_STEPS: u32 = 0x1_0000;
/// Bytes of one entry (32.1).
const ENTRY: usize = 16;
const FIRST: u16 = 0x0000;
const LAST: u16 = 0xffff;

/// Get SEL Info, Get SEL Time (31.2, 31.10), and the entries with the names that `sensors` give them.
pub(crate) fn read(ipmi: &mut Ipmi<'_>, sensors: &[SensorRecord]) -> Result<(Sel, Option<Refusal>), Refusal> {
    let info = ipmi.send(STORAGE, 0x40, &[])?;
    let mut sel = read_info(&info).ok_or(Refusal::Short)?;
    match ipmi.send(STORAGE, 0x48, &[]) {
        Ok(data) => sel.clock = le32(&data, 0).and_then(timestamp),
        Err(refusal) if refusal.is_final() => return Ok((sel, Some(refusal))),
        Err(_) => {}
    }
    let wanted = usize::from(sel.entries_total).min(MAX_ENTRIES);
    let (entries, trouble) = newest(ipmi, wanted);
    sel.complete = trouble.is_none() && entries.len() >= wanted;
    let mut raw = Vec::new();
    for bytes in &entries {
        raw.extend(bytes);
        sel.entries.push(entry(bytes, sensors));
    }
    ipmi.root().keep("ipmi/sel.bin", &raw);
    Ok((sel, trouble))
}

fn read_info(info: &[u8]) -> Option<Sel> {
    Some(Sel {
        entries_total: le16(info, 1)?,
        free_bytes: le16(info, 3).filter(|free| *free != 0xffff),
        last_added_at: le32(info, 5).and_then(timestamp),
        last_cleared_at: le32(info, 9).and_then(timestamp),
        overflow: info.get(13).map(|support| support & 0x80 != 0),
        ..Sel::default()
    })
}

/// Get SEL Entry (31.5): the number of the next entry and this one. Whole entries need no reservation.
fn get(ipmi: &mut Ipmi<'_>, id: u16) -> Result<(u16, [u8; ENTRY]), Refusal> {
    let [low, high] = id.to_le_bytes();
    let answer = ipmi.send(STORAGE, 0x43, &[0, 0, low, high, 0, 0xff])?;
    let next = le16(&answer, 0).ok_or(Refusal::Short)?;
    let bytes = answer.get(2..2 + ENTRY).and_then(|bytes| bytes.try_into().ok());
    Ok((next, bytes.ok_or(Refusal::Short)?))
}

/// The newest `wanted` entries, oldest of them first. Entries lead forward only, and a log may hold thousands, so we go
/// backwards by number from the last one as long as every entry leads to the one we came from; where numbers are
/// not consecutive, the walk begins at the oldest.
fn newest(ipmi: &mut Ipmi<'_>, wanted: usize) -> (Vec<[u8; ENTRY]>, Option<Refusal>) {
    let mut entries = VecDeque::new();
    if wanted == 0 {
        return (Vec::new(), None);
    }
    let mut id = match get(ipmi, LAST) {
        Ok((_, last)) => {
            entries.push_front(last);
            u16::from_le_bytes([last[0], last[1]])
        }
        Err(refusal) if refusal.is_final() => return (Vec::new(), Some(refusal)),
        Err(_) => return forward(ipmi, wanted, Vec::new()),
    };
    while entries.len() < wanted {
        let Some(before) = id.checked_sub(1).filter(|before| *before != FIRST) else {
            return forward(ipmi, wanted, entries.into());
        };
        match get(ipmi, before) {
            Ok((next, bytes)) if next == id && u16::from_le_bytes([bytes[0], bytes[1]]) == before => {
                entries.push_front(bytes);
                id = before;
            }
            Err(refusal) if refusal.is_final() => return (entries.into(), Some(refusal)),
            _ => return forward(ipmi, wanted, entries.into()),
        }
    }
    (entries.into(), None)
}

/// From the oldest entry on, keeping the newest. `newest` is what is known already, in case this walk does not get far.
fn forward(ipmi: &mut Ipmi<'_>, wanted: usize, newest: Vec<[u8; ENTRY]>) -> (Vec<[u8; ENTRY]>, Option<Refusal>) {
    let mut entries = VecDeque::new();
    let mut id = FIRST;
    for _ in 0..MAX_STEPS {
        let (next, bytes) = match get(ipmi, id) {
            Ok(found) => found,
            // Without the newest end the walk is worth less than what the other one found.
            Err(refusal) if newest.is_empty() => return (entries.into(), Some(refusal)),
            Err(refusal) => return (newest, Some(refusal)),
        };
        if entries.len() == wanted {
            entries.pop_front();
        }
        entries.push_back(bytes);
        // A list that leads to its start or to itself would never end.
        if next == LAST || next == FIRST || next == id {
            break;
        }
        id = next;
    }
    (entries.into(), None)
}

#[cfg(test)]
mod tests {
    use super::super::testing::linked;
    use super::*;
    use crate::sys::ipmi::BmcError;
    use proptest::prelude::*;

    /// A log whose entries carry these numbers.
    fn log(ids: Vec<u16>) -> impl FnMut(u8, u8, &[u8]) -> Result<Vec<u8>, BmcError> + Send + 'static {
        move |netfn, cmd, data| {
            assert_eq!(netfn, STORAGE);
            Ok(match cmd {
                0x40 => {
                    let count = (ids.len() as u16).to_le_bytes();
                    [
                        &[0, 0x51][..],
                        &count,
                        &[0, 0x10],
                        &[0, 0, 0, 0x60],
                        &[0xff; 4],
                        &[0x82],
                    ]
                    .concat()
                }
                0x48 => vec![0, 0, 0, 0, 0x61],
                _ => {
                    let id = u16::from_le_bytes([data[2], data[3]]);
                    let at = match id {
                        FIRST => Some(0),
                        LAST => ids.len().checked_sub(1),
                        id => ids.iter().position(|known| *known == id),
                    };
                    let Some(at) = at else { return Ok(vec![0xcb]) };
                    let next = ids.get(at + 1).copied().unwrap_or(LAST);
                    let mut entry = [0; ENTRY];
                    entry[..2].copy_from_slice(&ids[at].to_le_bytes());
                    entry[2] = 0x02;
                    [&[0][..], &next.to_le_bytes(), &entry].concat()
                }
            })
        }
    }

    fn ids(sel: &Sel) -> Vec<u16> {
        sel.entries.iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn the_newest_entries_are_read_without_walking_the_whole_log() {
        let mut asked = 0;
        let mut log = log((1..=3000).collect());
        let (sel, trouble) = linked(
            move |netfn, cmd, data| {
                asked += 1;
                assert!(asked < 520, "walked from the start");
                log(netfn, cmd, data)
            },
            |ipmi| read(ipmi, &[]),
        )
        .unwrap();
        assert_eq!((trouble, sel.complete, sel.entries_total), (None, true, 3000));
        assert_eq!(ids(&sel), (2489..=3000).collect::<Vec<u16>>());
        assert_eq!(sel.overflow, Some(true));
        assert_eq!(sel.last_added_at.as_deref(), Some("2021-01-14T08:25:36Z"));
        assert_eq!(sel.last_cleared_at, None);
        assert_eq!(sel.clock.as_deref(), Some("2021-07-27T12:45:52Z"));
    }

    #[test]
    fn numbers_with_gaps_are_walked_from_the_oldest() {
        let numbers: Vec<u16> = (1..=600).map(|n| n * 20).collect();
        let (sel, _) = linked(log(numbers.clone()), |ipmi| read(ipmi, &[])).unwrap();
        assert_eq!(ids(&sel), numbers[600 - MAX_ENTRIES..]);
        assert!(sel.complete);
    }

    #[test]
    fn an_empty_log_and_one_that_falls_silent() {
        let (sel, trouble) = linked(log(Vec::new()), |ipmi| read(ipmi, &[])).unwrap();
        assert_eq!((sel.entries.len(), sel.complete, trouble), (0, true, None));
        let mut log = log((1..=10).collect());
        let (sel, trouble) = linked(
            move |netfn, cmd, data| match (cmd, data.get(2)) {
                (0x43, Some(7)) => Err(BmcError::Dead),
                _ => log(netfn, cmd, data),
            },
            |ipmi| read(ipmi, &[]),
        )
        .unwrap();
        assert_eq!(ids(&sel), [8, 9, 10]);
        assert!(!sel.complete && trouble.unwrap().is_final());
    }

    proptest! {
        #[test]
        fn any_numbers_give_the_newest(mut ids_in in proptest::collection::btree_set(1u16..2000, 0..700)) {
            ids_in.remove(&0);
            let numbers: Vec<u16> = ids_in.into_iter().collect();
            let (sel, trouble) = linked(log(numbers.clone()), |ipmi| read(ipmi, &[])).unwrap();
            prop_assert_eq!(trouble, None);
            prop_assert_eq!(ids(&sel), &numbers[numbers.len().saturating_sub(MAX_ENTRIES)..]);
        }

        #[test]
        fn nonsense_is_read_within_bounds(answers in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..20), 1..5,
        )) {
            let mut asked = 0;
            let result = linked(
                move |_, _, _| {
                    asked += 1;
                    Ok([&[0][..], answers[asked % answers.len()].as_slice()].concat())
                },
                |ipmi| read(ipmi, &[]),
            );
            if let Ok((sel, _)) = result {
                prop_assert!(sel.entries.len() <= MAX_ENTRIES);
            }
        }
    }
}
