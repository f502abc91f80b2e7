//! What a person at the running master had machines start, over what `recon.toml` says. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::mac_pattern::MacPattern;
use super::marks::Marks;
use crate::model::node::is_uuid;
use crate::model::{ImageWord, MacAddr, as_text};

/// More of them than a person makes.
const MAX_CHOICES: usize = 1000;

/// Whom a choice is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Whom {
    All,
    /// One port, or all that begin alike.
    Ports(MacPattern),
    /// SMBIOS UUID in lower case.
    Uuid(String),
}

/// What they start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Start {
    Image(ImageWord),
    Failsafe,
    /// What `recon.toml` says.
    AsSettings,
}

const ALL: &str = "all";
const FAILSAFE: &str = "failsafe";
const AS_SETTINGS: &str = "as-settings";

/// One choice, a line of the file that keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Choice {
    pub(crate) whom: Whom,
    pub(crate) start: Start,
    /// Nodes that are up with something else start again, so many at a time; none: they go on, and have it with their next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) roll: Option<Roll>,
}

/// A change that goes through a room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Roll {
    /// Nodes that may be on their way at a time; at least 1.
    pub(crate) batch: usize,
    /// Boot ports of those that were told to start again, in their order.
    #[serde(default)]
    pub(crate) told: Vec<MacAddr>,
}

/// All of them. Of those that fit a machine the last one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StartChoices(Vec<Choice>);

impl StartChoices {
    /// As a file kept them.
    pub(crate) fn new(choices: Vec<Choice>) -> Self {
        StartChoices(choices.into_iter().take(MAX_CHOICES).collect())
    }

    pub(crate) fn choices(&self) -> &[Choice] {
        &self.0
    }

    /// The same without what is known of changes that go through a room: what settings need.
    pub(crate) fn bare(&self) -> Self {
        let bare = |choice: &Choice| Choice {
            roll: None,
            ..choice.clone()
        };
        StartChoices(self.0.iter().map(bare).collect())
    }

    /// A further choice. What it hides is forgotten, and one change goes through the room at a time.
    ///
    /// # Errors
    /// There are too many; as a sentence.
    pub(crate) fn add(&mut self, choice: Choice) -> Result<(), String> {
        let stays = |old: &Choice| choice.whom != Whom::All && old.whom != choice.whom;
        let mut kept: Vec<Choice> = self.0.iter().filter(|old| stays(old)).cloned().collect();
        if kept.len() >= MAX_CHOICES {
            return Err(format!("more than {MAX_CHOICES} choices: they belong into recon.toml"));
        }
        if choice.roll.is_some() {
            for old in &mut kept {
                old.roll = None;
            }
        }
        // Over nothing it changes nothing.
        if !(kept.is_empty() && choice.start == Start::AsSettings) {
            kept.push(choice);
        }
        self.0 = kept;
        Ok(())
    }

    /// What a machine starts by a person's choice.
    pub(super) fn of(&self, macs: &[MacAddr], marks: Marks<'_>) -> Option<&Start> {
        let last = self.0.iter().rev().find(|choice| choice.whom.is(macs, marks));
        last.map(|choice| &choice.start)
    }

    /// The change that goes through the room, and what it brings.
    pub(crate) fn roll(&self) -> Option<(&Choice, &Roll)> {
        self.0.iter().find_map(|choice| Some((choice, choice.roll.as_ref()?)))
    }

    /// The change that a machine is part of.
    pub(crate) fn roll_of(&mut self, macs: &[MacAddr], marks: Marks<'_>) -> Option<&mut Roll> {
        let at = self.0.iter().rposition(|choice| choice.whom.is(macs, marks))?;
        self.0.get_mut(at)?.roll.as_mut()
    }
}

impl Whom {
    pub(crate) fn is(&self, macs: &[MacAddr], marks: Marks<'_>) -> bool {
        match self {
            Whom::All => true,
            Whom::Ports(pattern) => macs.iter().any(|mac| pattern.covers(*mac)),
            Whom::Uuid(uuid) => marks.are_of(Some(uuid), None),
        }
    }
}

impl FromStr for Whom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let uuid = text.to_ascii_lowercase();
        match text {
            ALL => Ok(Whom::All),
            _ if is_uuid(&uuid) => Ok(Whom::Uuid(uuid)),
            _ => text.parse().map(Whom::Ports).map_err(|_| {
                format!("{text:?} is no machine: a MAC such as 52:54:00:12:34:56, its beginning such as 52:54:00:*, a UUID, or {ALL}")
            }),
        }
    }
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whom::All => f.write_str(ALL),
            Whom::Ports(pattern) => pattern.fmt(f),
            Whom::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            FAILSAFE => Ok(Start::Failsafe),
            AS_SETTINGS => Ok(Start::AsSettings),
            text => text
                .parse()
                .map(Start::Image)
                .map_err(|error: crate::model::image::NoImageWord| error.to_string()),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Image(word) => word.fmt(f),
            Start::Failsafe => f.write_str(FAILSAFE),
            Start::AsSettings => f.write_str(AS_SETTINGS),
        }
    }
}

as_text!(String: Whom, Start);

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    const TWO: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);

    fn choice(whom: &str, start: &str, batch: Option<usize>) -> Choice {
        Choice {
            whom: whom.parse().unwrap(),
            start: start.parse().unwrap(),
            roll: batch.map(|batch| Roll { batch, told: vec![ONE] }),
        }
    }

    fn of(chosen: &StartChoices, mac: MacAddr) -> String {
        chosen
            .of(&[mac], Marks::default())
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    #[test]
    fn the_last_choice_that_fits_counts() {
        let mut chosen = StartChoices::default();
        let mut add = |whom: &str, start: &str| {
            chosen.add(choice(whom, start, None)).unwrap();
            [ONE, TWO].map(|mac| of(&chosen, mac))
        };
        assert_eq!(add("52:54:00:00:00:01", "as-settings"), ["", ""]);
        assert_eq!(add("52:54:00:*", "compute"), ["compute", "compute"]);
        assert_eq!(
            add("52:54:00:00:00:01", "gpu@3ea150742bbf"),
            ["gpu@3ea150742bbf", "compute"]
        );
        assert_eq!(
            add("52:54:00:00:00:02", "as-settings"),
            ["gpu@3ea150742bbf", "as-settings"]
        );
        // It stands behind the one for a single port, so it counts for that too.
        assert_eq!(add("52:54:00:*", "failsafe"), ["failsafe", "failsafe"]);
        assert_eq!(add("all", "as-settings"), ["", ""]);
        assert_eq!(chosen.choices(), []);
    }

    #[test]
    fn a_uuid_is_a_machine_and_other_words_are_not() {
        let uuid = "4c4c4544-0042-3510-8052-b4c04f4a3232";
        let chosen = StartChoices::new(vec![choice(&uuid.to_uppercase(), "failsafe", None)]);
        assert_eq!(chosen.of(&[], Marks::from(Some(uuid))), Some(&Start::Failsafe));
        assert_eq!(chosen.of(&[ONE], Marks::default()), None);
        for text in ["", "node7", "*", "52:54:00", "mac-525400000001"] {
            assert!(text.parse::<Whom>().is_err(), "{text}");
        }
        assert!("no name".parse::<Start>().is_err());
    }

    #[test]
    fn one_change_goes_through_the_room_at_a_time_and_a_file_keeps_it() {
        let mut chosen = StartChoices::default();
        chosen.add(choice("52:54:00:*", "compute", Some(2))).unwrap();
        chosen.add(choice("52:54:00:00:00:02", "gpu", Some(1))).unwrap();
        assert_eq!(chosen.roll().unwrap().0.whom.to_string(), "52:54:00:00:00:02");
        assert!(chosen.roll_of(&[ONE], Marks::default()).is_none());
        assert_eq!(chosen.roll_of(&[TWO], Marks::default()).unwrap().batch, 1);
        let lines: Vec<String> = chosen
            .choices()
            .iter()
            .map(|choice| serde_json::to_string(choice).unwrap())
            .collect();
        assert_eq!(
            lines,
            [
                "{\"whom\":\"52:54:00:*\",\"start\":\"compute\"}",
                "{\"whom\":\"52:54:00:00:00:02\",\"start\":\"gpu\",\"roll\":{\"batch\":1,\"told\":[\"52:54:00:00:00:01\"]}}",
            ]
        );
        let read = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(StartChoices::new(read), chosen);
        assert!(chosen.bare().roll().is_none());
    }
}
