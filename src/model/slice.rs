//! A run of bytes within a file or device.

use std::path::PathBuf;

/// `length` bytes of `path` from `offset`, with some of them replaced.
///
/// ```
/// use recon::model::slice::{Patch, Slice};
///
/// let kernel = Slice {
///     path: "/dev/sdb".into(),
///     offset: 1 << 20,
///     length: 8,
///     patches: vec![Patch { offset: 2, bytes: b"XY".to_vec() }],
/// };
/// // The second half, as it was read from the medium; the patch ends before it.
/// assert!(!kernel.touches(4, 4));
/// let mut first_half = *b"abcd";
/// kernel.overlay(0, &mut first_half);
/// assert_eq!(&first_half, b"abXY");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    pub path: PathBuf,
    pub offset: u64,
    pub length: u64,
    /// What stands in the place of the bytes on the medium.
    pub patches: Vec<Patch>,
}

/// Bytes at an offset from the start of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

impl Slice {
    /// Puts the patches over `chunk`, which was read at `at` from the start of the slice.
    pub fn overlay(&self, at: u64, chunk: &mut [u8]) {
        for patch in &self.patches {
            for (index, byte) in patch.bytes.iter().enumerate() {
                let place = (patch.offset + index as u64)
                    .checked_sub(at)
                    .and_then(|place| usize::try_from(place).ok());
                if let Some(target) = place.and_then(|place| chunk.get_mut(place)) {
                    *target = *byte;
                }
            }
        }
    }

    /// True if a chunk of `length` bytes at `at` is not as it is on the medium.
    pub fn touches(&self, at: u64, length: usize) -> bool {
        let end = at + length as u64;
        self.patches
            .iter()
            .any(|patch| patch.offset < end && patch.offset + patch.bytes.len() as u64 > at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_of_any_size_make_the_same_whole(
            size in 1usize..40, offset in 0u64..60, bytes in proptest::collection::vec(1u8..=255, 0..30)
        ) {
            let patch = Patch { offset, bytes };
            let slice = Slice { path: PathBuf::new(), offset: 0, length: 64, patches: vec![patch.clone()] };
            let mut whole = [0u8; 64];
            for (index, chunk) in whole.chunks_mut(size).enumerate() {
                let at = (index * size) as u64;
                if slice.touches(at, chunk.len()) {
                    slice.overlay(at, chunk);
                }
            }
            let want: Vec<u8> = (0..64u64)
                .map(|at| at.checked_sub(offset).and_then(|i| patch.bytes.get(i as usize)).copied().unwrap_or(0))
                .collect();
            prop_assert_eq!(&whole[..], &want[..]);
        }
    }
}
