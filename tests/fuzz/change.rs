//! How an input becomes another one.

use rand::Rng;
use rand::rngs::StdRng;

const ODD_BYTES: [u8; 8] = [0, 1, 0x20, 0x7f, 0x80, 0xfe, 0xff, b'\n'];

/// One to eight small changes; `other` lends pieces, `words` are what a protocol is made of.
pub(crate) fn change(input: &mut Vec<u8>, other: &[u8], words: &[&[u8]], dice: &mut StdRng) {
    for _ in 0..dice.random_range(1..=8) {
        if input.is_empty() {
            input.push(dice.random());
        }
        let at = dice.random_range(0..input.len());
        match dice.random_range(0..10) {
            0 => input[at] ^= 1 << dice.random_range(0..8),
            1 => input[at] = dice.random(),
            2 => input[at] = ODD_BYTES[dice.random_range(0..ODD_BYTES.len())],
            3 => input[at] = input[at].wrapping_add(dice.random_range(0..=6)).wrapping_sub(3),
            4 => input.truncate(at),
            5 => {
                let end = dice.random_range(at..input.len()) + 1;
                input.drain(at..end.min(at + 64));
            }
            6 => {
                let end = (at + dice.random_range(1..=64)).min(input.len());
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            7 if !other.is_empty() => {
                let from = dice.random_range(0..other.len());
                let piece = &other[from..(from + dice.random_range(1..=128)).min(other.len())];
                input.splice(at..at, piece.iter().copied());
            }
            8 if !words.is_empty() => {
                let word = words[dice.random_range(0..words.len())];
                let end = if dice.random() {
                    at
                } else {
                    (at + word.len()).min(input.len())
                };
                input.splice(at..end, word.iter().copied());
            }
            _ => input.insert(at, dice.random()),
        }
    }
}
