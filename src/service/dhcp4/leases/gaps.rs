//! A set of addresses as the few stretches it is made of, so that a large pool costs what is leased of it and not what
//! it holds. Pure.

use std::collections::BTreeMap;

/// Stretches by their first address; the value is the last one. They neither touch nor overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Gaps(BTreeMap<u32, u32>);

impl Gaps {
    /// All addresses from `first` to `last`.
    pub(super) fn whole(first: u32, last: u32) -> Self {
        Gaps(BTreeMap::from([(first, last)]))
    }

    fn around(&self, address: u32) -> Option<(u32, u32)> {
        let (&first, &last) = self.0.range(..=address).next_back()?;
        (last >= address).then_some((first, last))
    }

    /// Takes one address out; false if it was not in.
    pub(super) fn take(&mut self, address: u32) -> bool {
        let Some((first, last)) = self.around(address) else {
            return false;
        };
        self.0.remove(&first);
        if first < address {
            self.0.insert(first, address - 1);
        }
        if address < last {
            self.0.insert(address + 1, last);
        }
        true
    }

    /// Puts one address in.
    pub(super) fn give(&mut self, address: u32) {
        if self.around(address).is_some() {
            return;
        }
        let before = address.checked_sub(1).and_then(|before| self.around(before));
        let after = address.checked_add(1).and_then(|after| self.around(after));
        let first = before.map_or(address, |(first, _)| first);
        let last = after.map_or(address, |(_, last)| last);
        if after.is_some() {
            self.0.remove(&(address + 1));
        }
        self.0.insert(first, last);
    }

    /// The addresses from `place` upwards, then those below it.
    pub(super) fn from(&self, place: u32) -> impl Iterator<Item = u32> {
        let begin = self.around(place).map_or(place, |(first, _)| first);
        let upwards = self
            .0
            .range(begin..)
            .flat_map(move |(&first, &last)| first.max(place)..=last);
        let below = self
            .0
            .range(..place)
            .flat_map(move |(&first, &last)| first..=last.min(place.saturating_sub(1)));
        upwards.chain(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_the_set_it_stands_for(steps in proptest::collection::vec((any::<bool>(), 10u32..40), 0..120), place in 5u32..45) {
            let mut gaps = Gaps::whole(10, 39);
            let mut model: BTreeSet<u32> = (10..40).collect();
            for (give, address) in steps {
                if give {
                    gaps.give(address);
                    model.insert(address);
                } else {
                    prop_assert_eq!(gaps.take(address), model.remove(&address));
                }
            }
            let want: Vec<u32> = model.range(place..).chain(model.range(..place)).copied().collect();
            prop_assert_eq!(gaps.from(place).collect::<Vec<_>>(), want);
            let stretches: Vec<_> = gaps.0.iter().collect();
            prop_assert!(stretches.windows(2).all(|pair| pair[0].1 + 1 < *pair[1].0), "{:?}", stretches);
        }
    }

    #[test]
    fn the_ends_of_the_number_range_hold() {
        let mut gaps = Gaps::whole(u32::MAX - 1, u32::MAX);
        assert!(gaps.take(u32::MAX));
        gaps.give(u32::MAX);
        assert_eq!(gaps.from(0).count(), 2);
        let mut low = Gaps::whole(0, 1);
        assert!(low.take(0));
        low.give(0);
        assert_eq!(low.from(0).collect::<Vec<_>>(), [0, 1]);
    }
}
