//! What may be done on a link (`network.mode` and `network.silent`). Pure.

use crate::model::MacAddr;

/// What may be done on a link, from most to least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkRule {
    /// Whatever does no harm there.
    #[default]
    Auto,
    /// Never addresses; boot files also where another server boots machines.
    Proxy,
    /// Nothing.
    Silent,
    /// Nothing, until a person has looked at settings that could not be read.
    Held,
}

impl LinkRule {
    /// As it stands in the file. What is held is what nobody may write.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            LinkRule::Auto => "auto",
            LinkRule::Proxy => "proxy",
            LinkRule::Silent | LinkRule::Held => "silent",
        }
    }
}

/// What is no mode of a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a mode; known: auto, proxy, silent")]
pub struct NoMode(String);

impl std::str::FromStr for LinkRule {
    type Err = NoMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(LinkRule::Auto),
            "proxy" => Ok(LinkRule::Proxy),
            "silent" => Ok(LinkRule::Silent),
            other => Err(NoMode(other.to_owned())),
        }
    }
}

/// What may be done on which link.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LinkRules {
    pub all: LinkRule,
    /// Interface names and MACs in lower case.
    pub silent: Vec<String>,
}

impl LinkRules {
    /// For the link with this name and MAC.
    pub(super) fn rule(&self, name: &str, mac: MacAddr) -> LinkRule {
        let mac = mac.to_string();
        let named = self.silent.iter().any(|link| *link == name || *link == mac);
        // `Held` is less than silence.
        if named {
            self.all.max(LinkRule::Silent)
        } else {
            self.all
        }
    }
}
