//! Why a link is in its mode, as a person reads it on the screen. Pure.

use crate::config::LinkRule;
use crate::model::api::ForeignServer;

use super::state::{Election, State, Verdict};

/// Why nothing is sent while settings wait for a person.
pub(crate) const HELD: &str = "the settings were not read whole: nothing is sent until a person decides";

impl Election {
    /// Plain sentence: why this mode.
    pub(crate) fn reason(&self) -> String {
        let names = |which: fn(&ForeignServer) -> bool| {
            let named = self.foreign().filter(|server| !server.ours && which(server));
            let list: Vec<String> = named.map(|s| format!("{} ({})", s.address, s.mac)).collect();
            list.join(", ")
        };
        let stranger = self.foreign().any(|server| server.recon && !server.ours);
        let reason = match &self.state {
            State::Down => "no carrier: plug in a cable or check the switch port".to_owned(),
            State::Probing { .. } => "asking who serves this network".to_owned(),
            State::Serve => "no other DHCP server answered: this machine serves".to_owned(),
            State::Foreign { verdict: None, .. } => {
                format!(
                    "another DHCP server is here: {}; asking whether it boots machines",
                    names(|_| true)
                )
            }
            State::Foreign {
                verdict: Some(Verdict::Proxy),
                ..
            } => format!(
                "another DHCP server is here: {}; boot files only, no addresses from here",
                names(|_| true)
            ),
            State::Foreign { .. } if self.foreign().any(|server| server.boots && !server.ours) => format!(
                "another server boots machines here: {}; nothing is handed out (network.mode = \"proxy\" in recon.toml changes that at the next start)",
                names(|server| server.boots)
            ),
            State::Foreign { .. } => {
                "recon.toml says network.mode = \"proxy\" and no DHCP server is here: nothing is handed out".to_owned()
            }
            State::Disabled if self.rule == LinkRule::Held => HELD.to_owned(),
            State::Disabled => "recon.toml says so: nothing is sent".to_owned(),
            State::SameSegment { name, .. } => format!("on the same network as {name}, which speaks for both"),
            State::Yield {
                master: Some(master), ..
            } => format!("recon master {master} serves this network"),
            State::Yield { rival, .. } => format!("recon machine {rival} is about to serve this network"),
        };
        match &self.state {
            State::Foreign { .. } if stranger => format!(
                "{reason}. It calls itself a recon master and does not have this stick's key: if both sticks are yours, copy the file site.key from \
                 that one's RECON-DATA to this one's, and start this machine again"
            ),
            _ => reason,
        }
    }
}
