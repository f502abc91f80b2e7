//! What does a diskless node start next: the version that counts, the one before, or the failsafe system? Pure.
//!
//! A start counts as failed when kernel and first stage went to the node, and it asks for a script again before its own system said that
//! it is up. After as many as the settings allow, the version before comes, where this one was never up on any node; then failsafe, which
//! is left for another version or by a person's word (`recon node retry`), and never by itself. One bad image does not put a floor into
//! failsafe, and one bad machine does not take a good image from the others.

use serde::{Deserialize, Serialize};

use crate::model::{ImageName, ImageVersion, ImageWord, MacAddr};

/// Versions of which failed starts are remembered for one node; the oldest is forgotten.
const MAX_VERSIONS: usize = 8;

/// Of a machine's own words why it cannot start one.
const MAX_WHY_CHARS: usize = 300;

/// A version of an image.
pub(crate) type Version = (ImageName, ImageVersion);

/// What became of a node's starts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Attempts {
    /// What it was last given.
    trying: Option<Version>,
    /// Failed starts in a row, by version.
    failed: Vec<(Version, u32)>,
    /// What was up here last.
    last_up: Option<Version>,
    /// What failed last was an image, and nothing else that it was given since.
    is_last_failed: bool,
    /// What the machine itself said of versions that it cannot start.
    said: Vec<(Version, String)>,
}

/// What a later run of the master is to know of them, by the ports of their machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) macs: Vec<MacAddr>,
    #[serde(default)]
    failed: Vec<Failed>,
    /// What was up there last.
    #[serde(default)]
    up: Option<ImageWord>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Failed {
    image: ImageWord,
    /// In a row.
    starts: u32,
}

fn word((name, version): &Version) -> ImageWord {
    ImageWord {
        name: name.clone(),
        version: Some(version.clone()),
    }
}

fn version(word: ImageWord) -> Option<Version> {
    Some((word.name, word.version?))
}

impl Kept {
    pub(crate) fn attempts(&self) -> Attempts {
        let failed = self.failed.iter().take(MAX_VERSIONS);
        Attempts {
            failed: failed
                .filter_map(|failed| Some((version(failed.image.clone())?, failed.starts)))
                .collect(),
            last_up: self.up.clone().and_then(version),
            ..Attempts::default()
        }
    }
}

/// What there is to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choices {
    /// What the settings name.
    pub(crate) wanted: Version,
    /// The version of it that counted before; none where the settings pin one.
    pub(crate) previous: Option<ImageVersion>,
    /// The wanted one was up, on some node.
    pub(crate) was_up: bool,
    /// Failed starts of a version before it is given up; 0: never.
    pub(crate) limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Wanted,
    Previous,
    Failsafe,
}

impl Attempts {
    /// It starts this version, or none.
    pub(crate) fn will_start(&mut self, version: Option<Version>) {
        self.trying = version;
    }

    /// What it was given began, and its boot program is back.
    pub(crate) fn failed(&mut self) {
        self.is_last_failed = self.trying.is_some();
        let Some(version) = self.trying.take() else { return };
        match self.failed.iter_mut().find(|(known, _)| *known == version) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => {
                if self.failed.len() == MAX_VERSIONS {
                    self.failed.remove(0);
                }
                self.failed.push((version, 1));
            }
        }
    }

    /// The machine itself found that it cannot start this version, as it has too little memory for it: that is worth as many failed starts as
    /// make it be given up. True where it is what it was given; a master that was started since does not know what it gave.
    pub(crate) fn gave_up(&mut self, version: &Version, limit: u32, why: &str) -> bool {
        self.trying.get_or_insert_with(|| version.clone());
        if self.trying.as_ref() != Some(version) {
            return false;
        }
        while self.count(version) < limit {
            self.trying = Some(version.clone());
            self.failed();
        }
        self.trying = None;
        self.said.retain(|(of, _)| of != version);
        if self.said.len() == MAX_VERSIONS {
            self.said.remove(0);
        }
        self.said
            .push((version.clone(), why.chars().take(MAX_WHY_CHARS).collect()));
        true
    }

    /// Why the machine itself cannot start this version, in its own words.
    pub(crate) fn why(&self, version: &Version) -> Option<&str> {
        let said = self.said.iter().find(|(of, _)| of == version);
        said.map(|(_, why)| why.as_str())
    }

    /// Its system said that it is up, and which it is; `is_its`: it is certain that it was this machine that said so. True where that is
    /// what it was given, for certain; a master that was started since does not know what it gave.
    pub(crate) fn came_up(&mut self, version: &Version, is_its: bool) -> bool {
        if is_its {
            self.trying.get_or_insert_with(|| version.clone());
        }
        if self.trying.as_ref() != Some(version) {
            return false;
        }
        self.failed.retain(|(known, _)| known != version);
        self.said.retain(|(known, _)| known != version);
        if is_its {
            self.last_up = Some(version.clone());
        }
        is_its
    }

    /// What was known of the same machine by its ports. `is_later`: it was given something after this one.
    pub(crate) fn join(&mut self, old: Attempts, is_later: bool) {
        if is_later {
            self.trying = old.trying;
        }
        self.last_up = self.last_up.take().or(old.last_up);
        if self.said.is_empty() {
            self.said = old.said;
        }
        let has_room = self.failed.len() + old.failed.len() <= MAX_VERSIONS;
        for (version, count) in old.failed {
            match self.failed.iter_mut().find(|(known, _)| *known == version) {
                Some((_, mine)) => *mine = count.max(*mine),
                None if has_room => self.failed.push((version, count)),
                None => {}
            }
        }
    }

    /// For a later run of the master; nothing where there is nothing to know.
    pub(crate) fn kept(&self, macs: Vec<MacAddr>) -> Option<Kept> {
        let failed = self.failed.iter().map(|(version, starts)| Failed {
            image: word(version),
            starts: *starts,
        });
        let kept = Kept {
            macs,
            failed: failed.collect(),
            up: self.last_up.as_ref().map(word),
        };
        (!kept.macs.is_empty() && (!kept.failed.is_empty() || kept.up.is_some())).then_some(kept)
    }

    /// True where a later run would be told something else than by the others.
    pub(crate) fn is_news_after(&self, old: &Attempts) -> bool {
        (&self.failed, &self.last_up) != (&old.failed, &old.last_up)
    }

    /// A person wants it tried again.
    pub(crate) fn forget(&mut self) {
        self.failed.clear();
        self.said.clear();
    }

    /// Failed starts of a version in a row.
    pub(crate) fn count(&self, version: &Version) -> u32 {
        let known = self.failed.iter().find(|(known, _)| known == version);
        known.map_or(0, |(_, count)| *count)
    }

    /// What failed last was an image.
    pub(crate) fn is_last_failed(&self) -> bool {
        self.is_last_failed
    }

    /// What was up here last.
    pub(crate) fn last_up(&self) -> Option<&Version> {
        self.last_up.as_ref()
    }

    /// What it was last given, for a list.
    pub(crate) fn trying(&self) -> Option<&Version> {
        self.trying.as_ref()
    }

    pub(crate) fn decide(&self, choices: &Choices) -> Decision {
        let is_given_up = |version: &Version| choices.limit > 0 && self.count(version) >= choices.limit;
        if !is_given_up(&choices.wanted) {
            return Decision::Wanted;
        }
        let previous = choices
            .previous
            .clone()
            .map(|version| (choices.wanted.0.clone(), version));
        // What runs well here is no worse for it that the other one came up elsewhere.
        let is_meant = |previous: &Version| !choices.was_up || self.last_up.as_ref() == Some(previous);
        match previous.filter(|previous| *previous != choices.wanted && is_meant(previous) && !is_given_up(previous)) {
            Some(_) => Decision::Previous,
            None => Decision::Failsafe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

    fn version(digit: u8) -> Version {
        let digits = format!("{digit:x}").repeat(12);
        ("compute".parse().unwrap(), digits.parse().unwrap())
    }

    fn choices(wanted: u8, previous: Option<u8>, was_up: bool) -> Choices {
        Choices {
            wanted: version(wanted),
            previous: previous.map(|digit| version(digit).1),
            was_up,
            limit: 3,
        }
    }

    /// What is given, start after start, where none comes up.
    fn given(attempts: &mut Attempts, choices: &Choices, starts: usize) -> Vec<Decision> {
        let next = |_| {
            let decision = attempts.decide(choices);
            attempts.will_start(match decision {
                Decision::Wanted => Some(choices.wanted.clone()),
                Decision::Previous => choices
                    .previous
                    .clone()
                    .map(|version| (choices.wanted.0.clone(), version)),
                Decision::Failsafe => None,
            });
            attempts.failed();
            decision
        };
        (0..starts).map(next).collect()
    }

    #[test]
    fn the_version_before_comes_before_failsafe_where_this_one_was_never_up() {
        use Decision::{Failsafe as F, Previous as P, Wanted as W};
        for (choices, wanted) in [
            (choices(2, Some(1), false), [W, W, W, P, P, P, F, F]),
            (choices(2, Some(1), true), [W, W, W, F, F, F, F, F]),
            (choices(2, None, false), [W, W, W, F, F, F, F, F]),
            (choices(2, Some(2), false), [W, W, W, F, F, F, F, F]),
            (
                Choices {
                    limit: 0,
                    ..choices(2, Some(1), false)
                },
                [W; 8],
            ),
        ] {
            assert_eq!(given(&mut Attempts::default(), &choices, 8), wanted, "{choices:?}");
        }
    }

    #[test]
    fn failsafe_is_left_for_another_version_and_by_a_persons_word() {
        let (bad, better) = (choices(2, Some(1), false), choices(3, Some(2), false));
        let mut attempts = Attempts::default();
        given(&mut attempts, &bad, 20);
        assert_eq!(attempts.decide(&bad), Decision::Failsafe);
        assert_eq!(attempts.decide(&better), Decision::Wanted);
        // And back, the count is what it was.
        assert_eq!(attempts.decide(&bad), Decision::Failsafe);
        attempts.forget();
        assert_eq!(attempts.decide(&bad), Decision::Wanted);
    }

    #[test]
    fn what_is_up_on_the_version_before_does_not_try_the_bad_one_again() {
        let bad = choices(2, Some(1), false);
        let mut attempts = Attempts::default();
        given(&mut attempts, &bad, 3);
        attempts.will_start(Some(version(1)));
        // A word of the one that ran before.
        assert!(!attempts.came_up(&version(2), true));
        assert!(attempts.came_up(&version(1), true));
        assert_eq!(
            (attempts.count(&version(2)), attempts.decide(&bad)),
            (3, Decision::Previous)
        );
        // Another machine comes up with it.
        assert_eq!(attempts.decide(&choices(2, Some(1), true)), Decision::Previous);
        given(&mut attempts, &choices(2, Some(1), true), 3);
        assert_eq!(attempts.decide(&choices(2, Some(1), true)), Decision::Failsafe);
    }

    #[test]
    fn a_later_run_knows_what_failed_and_what_was_up() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.kept(vec![MAC]), None);
        given(&mut attempts, &choices(2, Some(1), false), 3);
        attempts.will_start(Some(version(1)));
        attempts.came_up(&version(1), true);
        assert_eq!(attempts.kept(Vec::new()), None);
        let kept = attempts.kept(vec![MAC]).unwrap();
        let line = serde_json::to_string(&kept).unwrap();
        assert_eq!(
            line,
            "{\"macs\":[\"52:54:00:00:00:01\"],\"failed\":[{\"image\":\"compute@222222222222\",\"starts\":3}],\"up\":\"compute@111111111111\"}"
        );
        let read: Kept = serde_json::from_str(&line).unwrap();
        assert!(!read.attempts().is_news_after(&attempts) && Attempts::default().is_news_after(&attempts));
        assert_eq!(read.attempts().decide(&choices(2, Some(1), true)), Decision::Previous);
        // Written by hand, or by another version of this program.
        let odd = "{\"macs\":[],\"failed\":[{\"image\":\"compute\",\"starts\":9}],\"up\":\"compute\"}";
        assert_eq!(
            serde_json::from_str::<Kept>(odd).unwrap().attempts(),
            Attempts::default()
        );
    }

    #[test]
    fn what_the_machine_itself_gives_up_needs_no_further_starts() {
        let mut attempts = Attempts::default();
        attempts.will_start(Some(version(2)));
        // That is not what it was given.
        assert!(!attempts.gave_up(&version(1), 3, "no"));
        assert!(attempts.gave_up(&version(2), 3, &"w".repeat(999)));
        assert_eq!(
            (attempts.why(&version(2)), attempts.why(&version(1))),
            (Some(&*"w".repeat(300)), None)
        );
        assert_eq!(attempts.decide(&choices(2, Some(1), false)), Decision::Previous);
        assert_eq!(attempts.decide(&choices(2, Some(1), true)), Decision::Failsafe);
        // Its boot program is back for the next one: that is no failure of it.
        attempts.failed();
        assert_eq!(attempts.count(&version(2)), 3);
        // Once it came up there, what was said of it before explains nothing.
        attempts.will_start(Some(version(2)));
        assert!(attempts.came_up(&version(2), true));
        assert_eq!(attempts.why(&version(2)), None);
        // Nothing is given up where the settings say so.
        let mut attempts = Attempts::default();
        let never = Choices {
            limit: 0,
            ..choices(2, None, false)
        };
        assert!(attempts.gave_up(&version(2), 0, "no"));
        assert_eq!(attempts.decide(&never), Decision::Wanted);
    }

    #[test]
    fn a_master_that_was_started_since_learns_what_runs() {
        let mut attempts = Attempts::default();
        assert!(!attempts.came_up(&version(1), false));
        assert_eq!(attempts.trying(), None);
        assert!(attempts.came_up(&version(1), true));
        assert_eq!(attempts.trying(), Some(&version(1)));
    }

    /// Its own count is for itself alone; what others go by has to be certain.
    #[test]
    fn a_word_that_is_not_certain_clears_its_own_count() {
        let mut attempts = Attempts::default();
        given(&mut attempts, &choices(2, None, false), 2);
        attempts.will_start(Some(version(2)));
        assert!(!attempts.came_up(&version(2), false));
        assert_eq!((attempts.count(&version(2)), attempts.last_up), (0, None));
    }

    #[test]
    fn of_two_rows_the_one_that_was_given_something_last_counts() {
        let of = |digit: u8, failures: u32| {
            let mut attempts = Attempts::default();
            for _ in 0..failures {
                attempts.will_start(Some(version(digit)));
                attempts.failed();
            }
            attempts.will_start(Some(version(digit)));
            attempts
        };
        for (is_later, trying) in [(true, 2), (false, 1)] {
            let mut one = of(1, 2);
            one.join(of(2, 3), is_later);
            assert_eq!(one.trying(), Some(&version(trying)));
            assert_eq!((one.count(&version(1)), one.count(&version(2))), (2, 3));
        }
    }

    proptest! {
        /// A node whose last word was that it is up is given the same again, whatever was before.
        #[test]
        fn what_came_up_is_not_given_up(
            before in proptest::collection::vec((0u8..12, any::<bool>()), 0..60), last in 0u8..12, previous in 0u8..12, was_up: bool,
        ) {
            let mut attempts = Attempts::default();
            for (digit, is_up) in before {
                attempts.will_start(Some(version(digit)));
                match is_up {
                    true => drop(attempts.came_up(&version(digit), true)),
                    false => attempts.failed(),
                }
            }
            attempts.will_start(Some(version(last)));
            attempts.came_up(&version(last), true);
            prop_assert_eq!(attempts.decide(&choices(last, Some(previous), was_up)), Decision::Wanted);
            prop_assert!(attempts.failed.len() <= MAX_VERSIONS);
        }
    }
}
