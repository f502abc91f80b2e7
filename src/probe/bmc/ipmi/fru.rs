//! Reads field replaceable units out of the controller.

use super::fru_area::{HEADER, extent, has_header, parse};
use super::sdr_record::FruContent;
use super::{Ipmi, Refusal, STORAGE};
use crate::formats::bytes::le16;
use crate::formats::spd;
use crate::model::inventory::Fru;

/// Bytes of one unit that are read. Everything known fits into 2 KiB; some controllers call 64 KiB their size.
const MAX_BYTES: usize = 8 * 1024;
/// The longest description of a memory module, that of DDR5.
const MEMORY_ID_BYTES: usize = 1024;
/// Units looked at: their numbers have a byte.
pub(crate) const MAX_UNITS: usize = 256;
/// Bytes asked for at once. Interfaces carry at least 32; a controller that cannot gets asked for less.
const PIECE: usize = 32;
const SMALLEST_PIECE: usize = 8;

/// Get FRU Inventory Area Info and Read FRU Data (34.1, 34.2) for one unit of the controller itself.
pub(crate) fn read(ipmi: &mut Ipmi<'_>, id: u8, content: FruContent) -> Result<Fru, Refusal> {
    let info = ipmi.send(STORAGE, 0x10, &[id])?;
    let size = le16(&info, 0).ok_or(Refusal::Short)?;
    // Some memories are addressed by words.
    let by_words = info.get(2).is_some_and(|flags| flags & 1 == 1);
    let size_bytes = u32::from(size) * if by_words { 2 } else { 1 };
    let limit = usize::try_from(size_bytes).unwrap_or(MAX_BYTES).min(MAX_BYTES);
    let mut bytes = Vec::new();
    let mut piece = PIECE;
    let mut short = None;
    loop {
        // Its first bytes tell how long an inventory is, and whether it is one: some makers list it as what it is not.
        let is_inventory = bytes.len() < HEADER || content == FruContent::Inventory || has_header(&bytes);
        let want = if is_inventory { extent(&bytes) } else { MEMORY_ID_BYTES };
        let want = want.min(limit);
        if bytes.len() >= want {
            break;
        }
        let count = (want - bytes.len()).min(piece);
        match read_piece(ipmi, id, bytes.len(), count, by_words) {
            Ok(more) => bytes.extend(more),
            // Too many bytes at once, in the words of several makers.
            Err(Refusal::Code(0xc6..=0xca | 0xff)) if piece > SMALLEST_PIECE => piece /= 2,
            Err(refusal) if bytes.len() < 8 || refusal.is_final() => return Err(refusal),
            Err(refusal) => {
                short = Some(format!("ends at byte {}: {refusal}", bytes.len()));
                break;
            }
        }
    }
    ipmi.root().keep(&format!("ipmi/fru-{id}.bin"), &bytes);
    let mut fru = match content {
        FruContent::MemoryId if !has_header(&bytes) => memory(id, &bytes),
        FruContent::Processor if !has_header(&bytes) => Fru { id, ..Fru::default() },
        _ => parse(id, &bytes),
    };
    fru.size_bytes = size_bytes;
    fru.damage.extend(short);
    Ok(fru)
}

fn memory(id: u8, bytes: &[u8]) -> Fru {
    let mut fru = Fru { id, ..Fru::default() };
    match spd::parse(bytes) {
        Ok(memory) => fru.memory = Some(memory),
        Err(damage) => fru.damage.push(damage.to_string()),
    }
    fru
}

/// Always at least one byte.
fn read_piece(ipmi: &mut Ipmi<'_>, id: u8, at: usize, count: usize, by_words: bool) -> Result<Vec<u8>, Refusal> {
    let unit = if by_words { 2 } else { 1 };
    let offset = u16::try_from(at / unit).map_err(|_| Refusal::Short)?;
    let units = u8::try_from(count.div_ceil(unit)).map_err(|_| Refusal::Short)?;
    let [low, high] = offset.to_le_bytes();
    let answer = ipmi.send(STORAGE, 0x11, &[id, low, high, units])?;
    let (told, data) = answer.split_first().ok_or(Refusal::Short)?;
    let got = data.len().min(usize::from(*told) * unit).min(usize::from(units) * unit);
    match data.get(..got - got % unit) {
        Some(data) if !data.is_empty() => Ok(data.to_vec()),
        _ => Err(Refusal::Short),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fru_area::testing::{area, text, unit};
    use super::super::testing::linked;
    use super::*;
    use proptest::prelude::*;

    fn example() -> Vec<u8> {
        let board = area(&[&[25, 0, 0, 0][..], &text("Example Inc."), &text("BOARD"), &text("S-1")].concat());
        let product = area(&[&[25][..], &text("Example Inc."), &text(&"x".repeat(60))].concat());
        let mut bytes = unit(&[], &board, &product, &[]);
        bytes.resize(256, 0xff);
        bytes
    }

    fn serve(
        bytes: Vec<u8>,
        unit: usize,
        most: u8,
    ) -> impl FnMut(u8, u8, &[u8]) -> Result<Vec<u8>, crate::sys::ipmi::BmcError> {
        move |_, cmd, data| {
            if cmd == 0x10 {
                let size = (bytes.len() / unit) as u16;
                return Ok([&[0][..], &size.to_le_bytes(), &[u8::from(unit == 2)]].concat());
            }
            if data[3] > most {
                return Ok(vec![0xca]);
            }
            let from = usize::from(u16::from_le_bytes([data[1], data[2]])) * unit;
            let piece = &bytes[from..from + usize::from(data[3]) * unit];
            Ok([&[0, data[3]], piece].concat())
        }
    }

    #[test]
    fn a_unit_is_read_in_pieces_and_no_further_than_its_areas() {
        for (unit, most) in [(1, 255), (1, 16), (1, 8), (2, 255)] {
            let fru = linked(serve(example(), unit, most), |ipmi| {
                read(ipmi, 0, FruContent::Inventory)
            })
            .unwrap();
            assert_eq!(fru.damage, Vec::<String>::new(), "{unit} {most}");
            assert_eq!(fru.size_bytes, 256);
            assert_eq!(fru.board.unwrap().serial.as_deref(), Some("S-1"));
            assert_eq!(fru.product.unwrap().product, Some("x".repeat(60)));
        }
    }

    #[test]
    fn a_controller_that_gives_up_half_way_leaves_the_first_half() {
        let mut inner = serve(example(), 1, 255);
        let fru = linked(
            move |netfn, cmd, data| match (cmd, data.get(1)) {
                (0x11, Some(64..)) => Ok(vec![0xcb]),
                _ => inner(netfn, cmd, data),
            },
            |ipmi| read(ipmi, 0, FruContent::Inventory),
        )
        .unwrap();
        assert_eq!(fru.board.unwrap().serial.as_deref(), Some("S-1"));
        assert!(
            fru.damage.iter().any(|text| text.starts_with("ends at byte")),
            "{:?}",
            fru.damage
        );
    }

    #[test]
    fn a_module_listed_as_such_is_read_by_its_own_layout() {
        let serve = |data: Vec<u8>, content| {
            let size = (data.len() as u16).to_le_bytes();
            linked(
                move |_, cmd, asked| {
                    if cmd == 0x10 {
                        return Ok(vec![0, size[0], size[1], 0]);
                    }
                    let at = usize::from(u16::from_le_bytes([asked[1], asked[2]]));
                    let piece = &data[at..(at + usize::from(asked[3])).min(data.len())];
                    Ok([&[0, piece.len() as u8][..], piece].concat())
                },
                move |ipmi| read(ipmi, 0x6e, content),
            )
            .unwrap()
        };
        let told = serve(spd::testing::ddr4(), FruContent::MemoryId);
        let memory = told.memory.unwrap();
        assert_eq!(
            (memory.size_bytes, memory.manufacturer.as_deref()),
            (Some(16 << 30), Some("Micron"))
        );
        assert_eq!(memory.serial.as_deref(), Some("15660001"));
        assert_eq!((told.damage, told.size_bytes), (Vec::<String>::new(), 512));
        // A maker who lists an inventory as a module's own.
        let told = serve(example(), FruContent::MemoryId);
        assert_eq!(told.board.unwrap().serial.as_deref(), Some("S-1"));
        assert_eq!(told.memory, None);
        assert_eq!(serve(vec![0xff; 256], FruContent::MemoryId).damage, ["blank"]);
        // A processor's own ROM has another layout, which is no damage.
        assert!(serve(vec![7; 128], FruContent::Processor).damage.is_empty());
        assert_eq!(
            serve(spd::testing::ddr4(), FruContent::Inventory).damage,
            ["no header of version 1"]
        );
    }

    proptest! {
        #[test]
        fn nonsense_is_read_within_bounds(answer in proptest::collection::vec(any::<u8>(), 1..40)) {
            let answer = [vec![0], answer].concat();
            let mut asked = 0;
            let _ = linked(
                move |_, _, _| {
                    asked += 1;
                    assert!(asked <= MAX_BYTES + 8);
                    Ok(answer.clone())
                },
                |ipmi| read(ipmi, 1, FruContent::Inventory),
            );
        }
    }
}
