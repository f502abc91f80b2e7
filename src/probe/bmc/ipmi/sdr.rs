//! Reads the sensor data repository out of the controller.

use super::sdr_record::{FruDevice, Record, SensorRecord, length, parse};
use super::{Ipmi, Refusal, SENSOR, STORAGE};
use crate::formats::bytes::le16;

/// Records of one repository, and bytes of all together. Large servers have a few hundred. A walk that ends here is not
/// `complete`.
const MAX_RECORDS: usize = 4096;
const MAX_BYTES: usize = 256 * 1024;
/// The first five bytes of a record tell how long it is.
const HEADER: u8 = 5;
/// Bytes asked for at once; a controller that cannot gets asked for less.
const PIECE: u8 = 64;
const SMALLEST_PIECE: u8 = 8;
/// Reservations that may get lost, to firmware that updates its repository while we read it.
const MAX_RESERVATIONS: u32 = 8;
const NO_RECORD: u16 = 0xffff;

/// What the repository holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Repository {
    /// Records it says it has.
    pub told: Option<u16>,
    pub read: u32,
    /// The walk came to the last record.
    pub complete: bool,
    pub sensors: Vec<SensorRecord>,
    pub frus: Vec<FruDevice>,
    /// Why the walk ended early, or what was skipped.
    pub trouble: Option<Refusal>,
}

/// The three commands of one kind of repository.
struct Commands {
    netfn: u8,
    reserve: u8,
    get: u8,
}

/// Reserve and Get SDR (33.11, 33.12).
const REPOSITORY: Commands = Commands {
    netfn: STORAGE,
    reserve: 0x22,
    get: 0x23,
};
/// The same for the sensors of a controller without a repository (35.4, 35.3).
const DEVICE: Commands = Commands {
    netfn: SENSOR,
    reserve: 0x22,
    get: 0x21,
};

/// All records. What was read before a controller gave up is kept.
pub(crate) fn read(ipmi: &mut Ipmi<'_>) -> Result<Repository, Refusal> {
    // Get SDR Repository Info (33.9).
    let (told, commands) = match ipmi.send(STORAGE, 0x20, &[]) {
        Ok(info) => (le16(&info, 1), REPOSITORY),
        Err(refusal) if refusal.is_final() => return Err(refusal),
        Err(refusal) => {
            // Get Device SDR Info (35.2) with the count of sensors.
            let Ok(_) = ipmi.send(SENSOR, 0x20, &[]) else {
                return Err(refusal);
            };
            (None, DEVICE)
        }
    };
    let mut repository = Repository {
        told,
        ..Repository::default()
    };
    let mut raw = Vec::new();
    let mut reader = Reader {
        reservation: reserve(ipmi, &commands)?,
        commands,
        piece: PIECE,
        lost: 0,
    };
    let (mut id, mut walked) = (0, 0);
    loop {
        walked += 1;
        let (next, record) = match reader.record(ipmi, id) {
            Ok(found) => found,
            Err(refusal) => {
                repository.trouble = Some(refusal);
                break;
            }
        };
        match record {
            Ok(record) => {
                repository.read += 1;
                raw.extend(&record);
                match parse(&record) {
                    Some(Record::Sensors(sensors)) => repository.sensors.extend(sensors),
                    Some(Record::FruDevice(device)) => repository.frus.push(device),
                    Some(Record::Other(_)) | None => {}
                }
            }
            // One record that cannot be read is skipped; the way to the next is known.
            Err(refusal) => repository.trouble = Some(refusal),
        }
        if next == NO_RECORD {
            repository.complete = repository.trouble.is_none();
            break;
        }
        // A list that leads back into itself would never end, whether its records can be read or not.
        if next == 0 || next == id || walked >= MAX_RECORDS || raw.len() >= MAX_BYTES {
            break;
        }
        id = next;
    }
    ipmi.root().keep("ipmi/sdr.bin", &raw);
    if repository.read == 0 {
        return Err(repository.trouble.unwrap_or(Refusal::Short));
    }
    Ok(repository)
}

fn reserve(ipmi: &mut Ipmi<'_>, commands: &Commands) -> Result<u16, Refusal> {
    match ipmi.send(commands.netfn, commands.reserve, &[]) {
        Ok(data) => le16(&data, 0).ok_or(Refusal::Short),
        // The simplest controllers have no reservations and take 0.
        Err(refusal) if refusal.is_unsupported() => Ok(0),
        Err(refusal) => Err(refusal),
    }
}

struct Reader {
    commands: Commands,
    reservation: u16,
    piece: u8,
    lost: u32,
}

impl Reader {
    /// The number of the next record, and this one, or why only its rest could not be read.
    #[allow(clippy::type_complexity)] // the two ways to fail differ in whether the walk goes on
    fn record(&mut self, ipmi: &mut Ipmi<'_>, id: u16) -> Result<(u16, Result<Vec<u8>, Refusal>), Refusal> {
        'again: loop {
            let (next, mut record) = match self.get(ipmi, id, 0, HEADER) {
                Ok(found) => found,
                Err(Refusal::Code(0xc5)) => {
                    self.renew(ipmi)?;
                    continue;
                }
                Err(refusal) => return Err(refusal),
            };
            let length = length(&record).ok_or(Refusal::Short)?;
            while record.len() < length {
                let left = u8::try_from(length - record.len()).unwrap_or(u8::MAX);
                let at = match u8::try_from(record.len()) {
                    Ok(at) => at,
                    Err(_) => return Ok((next, Ok(record))),
                };
                match self.get(ipmi, id, at, left.min(self.piece)) {
                    Ok((_, more)) => record.extend(more.iter().take(usize::from(left))),
                    Err(Refusal::Code(0xc5)) => {
                        self.renew(ipmi)?;
                        continue 'again;
                    }
                    Err(Refusal::Code(0xc6..=0xca | 0xff)) if self.piece > SMALLEST_PIECE => self.piece /= 2,
                    Err(refusal) if refusal.is_final() => return Err(refusal),
                    Err(refusal) => return Ok((next, Err(refusal))),
                }
            }
            return Ok((next, Ok(record)));
        }
    }

    /// A piece of a record; always at least one byte.
    fn get(&self, ipmi: &mut Ipmi<'_>, id: u16, at: u8, count: u8) -> Result<(u16, Vec<u8>), Refusal> {
        let [r0, r1] = self.reservation.to_le_bytes();
        let [i0, i1] = id.to_le_bytes();
        // The reservation differs from run to run; in a capture it is zero.
        let named = [0, 0, i0, i1, at, count];
        let data = [r0, r1, i0, i1, at, count];
        let answer = ipmi.send_as(&named, 0, self.commands.netfn, self.commands.get, &data)?;
        let next = le16(&answer, 0).ok_or(Refusal::Short)?;
        match answer.get(2..) {
            Some(piece) if !piece.is_empty() => {
                let piece = piece.get(..usize::from(count)).unwrap_or(piece);
                Ok((next, piece.to_vec()))
            }
            _ => Err(Refusal::Short),
        }
    }

    fn renew(&mut self, ipmi: &mut Ipmi<'_>) -> Result<(), Refusal> {
        self.lost += 1;
        if self.lost > MAX_RESERVATIONS {
            return Err(Refusal::Code(0xc5));
        }
        self.reservation = reserve(ipmi, &self.commands)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::sdr_record::testing::{full, record};
    use super::super::testing::linked;
    use super::*;
    use crate::sys::ipmi::BmcError;
    use proptest::prelude::*;

    fn repository() -> Vec<Vec<u8>> {
        let mut records = vec![
            full(&[(7, 1), (12, 1), (13, 1), (24, 1)], "Inlet Temp"),
            record(0x02, 32, 31, &[(7, 2), (12, 8), (13, 0x6f)], "PS1 Status"),
            record(0x12, 16, 15, &[(5, 0x20)], "BMC"),
            record(
                0x11,
                16,
                15,
                &[(5, 0x20), (6, 1), (7, 0x80), (12, 10), (13, 1)],
                "PS1 FRU",
            ),
        ];
        for (id, record) in records.iter_mut().enumerate() {
            record[0] = id as u8 + 1;
        }
        records
    }

    /// Answers from `records`, refusing pieces above `most` and losing the reservation before question number `lose`.
    fn serve(
        records: Vec<Vec<u8>>,
        most: u8,
        lose: u32,
    ) -> impl FnMut(u8, u8, &[u8]) -> Result<Vec<u8>, BmcError> + Send + 'static {
        let mut reservation = 7u16;
        let mut asked = 0;
        move |netfn, cmd, data| {
            asked += 1;
            assert_eq!(netfn, STORAGE);
            Ok(match cmd {
                0x20 => [&[0, 0x51][..], &(records.len() as u16).to_le_bytes(), &[0; 11]].concat(),
                0x22 => {
                    reservation += 1;
                    [&[0][..], &reservation.to_le_bytes()].concat()
                }
                _ => {
                    if asked == lose {
                        reservation += 1;
                    }
                    if data[..2] != reservation.to_le_bytes() {
                        return Ok(vec![0xc5]);
                    }
                    if data[5] > most {
                        return Ok(vec![0xca]);
                    }
                    let at = usize::from(data[2]).max(1) - 1;
                    let next = if at + 1 == records.len() { 0xffff } else { at as u16 + 2 };
                    let from = usize::from(data[4]);
                    let piece = &records[at][from..from + usize::from(data[5])];
                    [&[0][..], &next.to_le_bytes(), piece].concat()
                }
            })
        }
    }

    #[test]
    fn the_whole_repository_is_read() {
        for (most, lose) in [(255, 0), (16, 0), (8, 0), (255, 6)] {
            let found = linked(serve(repository(), most, lose), read).unwrap();
            assert_eq!(
                (found.told, found.read, found.complete),
                (Some(4), 4, true),
                "{most} {lose}"
            );
            let names: Vec<&str> = found.sensors.iter().map(|sensor| sensor.name.as_str()).collect();
            assert_eq!(names, ["Inlet Temp", "PS1 Status"]);
            assert_eq!(found.frus[0].name.as_deref(), Some("PS1 FRU"));
        }
    }

    #[test]
    fn a_repository_that_goes_in_circles_is_left() {
        let found = linked(
            |_, cmd, data| {
                Ok(match cmd {
                    0x20 => vec![0, 0x51, 2, 0],
                    0x22 => vec![0, 1, 0],
                    _ => vec![0, if data[2] == 1 { 2 } else { 1 }, 0, 0, 0, 0x51, 0x12, 0],
                })
            },
            read,
        )
        .unwrap();
        assert!(!found.complete);
        assert_eq!(found.read as usize, MAX_RECORDS);
    }

    #[test]
    fn what_was_read_before_the_silence_is_kept() {
        let mut inner = serve(repository(), 255, 0);
        let found = linked(
            move |netfn, cmd, data| match (cmd, data.get(2)) {
                (0x23, Some(3)) => Err(BmcError::Dead),
                _ => inner(netfn, cmd, data),
            },
            read,
        )
        .unwrap();
        assert_eq!((found.read, found.complete, found.sensors.len()), (2, false, 2));
        assert!(found.trouble.unwrap().is_final());
    }

    proptest! {
        #[test]
        fn nonsense_is_read_within_bounds(answers in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 1..12), 1..6,
        )) {
            let mut asked = 0;
            let _ = linked(
                move |_, _, _| {
                    asked += 1;
                    assert!(asked < MAX_RECORDS * 300);
                    Ok([&[0][..], answers[asked % answers.len()].as_slice()].concat())
                },
                read,
            );
        }
    }
}
