//! What a port says in an election so that others of this site know it for theirs, and whether what it hears was said by one.
//! Pure: chance comes from outside.
//!
//! Every question carries a number that was never used before; who answers it proves with the site's key that it heard that
//! very question, which number and port it has, and what it serves at which address. So an answer that was recorded, or given to
//! another question, or said by another port, proves nothing. What a proof cannot show is how far away its maker is.

use std::collections::VecDeque;

use crate::config::site_key::{Nonce, SiteKey, Tag};
use crate::model::MacAddr;
use crate::service::dhcp4::probe::{Proof, Question, Role, Said, ServerMessage};

const LABEL: &str = "recon election 1";
/// Questions of this port that may still be answered. They go out every 4 s at most as a rule, so an answer is
/// fresh for some 16 s.
const OPEN_QUESTIONS: usize = 4;
/// Machines of one site that answer a question, times the open questions, times what each of them says to one.
const MAX_USED: usize = 256;

#[derive(Debug, Clone)]
pub(crate) struct Voice {
    key: SiteKey,
    machine: MacAddr,
    mac: MacAddr,
    open: VecDeque<Nonce>,
    /// Proofs that counted: a second time they are replays. The oldest are forgotten, whose questions are no longer open.
    used: VecDeque<Tag>,
    /// The last question of another machine.
    asked: Option<Question>,
}

impl Voice {
    /// `machine`: this machine's number; `mac`: the port's.
    pub(crate) fn new(key: SiteKey, machine: MacAddr, mac: MacAddr) -> Self {
        Voice {
            key,
            machine,
            mac,
            open: VecDeque::new(),
            used: VecDeque::new(),
            asked: None,
        }
    }

    /// The next question, and the proof for the last one heard.
    pub(crate) fn ask(&mut self, nonce: Nonce) -> (Question, Option<Proof>) {
        if self.open.len() >= OPEN_QUESTIONS {
            self.open.pop_front();
        }
        self.open.push_back(nonce);
        let machine = self.machine;
        let question = Question { machine, nonce };
        (question, self.proof(&Said::asking(self.machine, self.mac)))
    }

    /// What this port says of itself, with the proof for the last question heard.
    pub(crate) fn announce(&self, role: Role, server: std::net::Ipv4Addr) -> (Said, Option<Proof>) {
        let said = Said {
            role,
            machine: self.machine,
            mac: self.mac,
            server,
        };
        (said, self.proof(&said))
    }

    /// Another machine asked.
    pub(crate) fn heard(&mut self, question: Question) {
        self.asked = Some(question);
    }

    /// Whether this was said in answer to a question of this port, by one that has the key, for the first time.
    pub(crate) fn is_proven(&mut self, said: &Said, proof: Option<Proof>) -> bool {
        let Some(proof) = proof.filter(|proof| proof.role == said.role) else {
            return false;
        };
        if self.used.contains(&proof.tag) {
            return false;
        }
        let proven = self.open.iter().any(|nonce| {
            let (machine, nonce) = (self.machine, *nonce);
            let question = Question { machine, nonce };
            with_parts(&question, said, |parts| self.key.proves(LABEL, parts, &proof.tag))
        });
        if proven {
            if self.used.len() >= MAX_USED {
                self.used.pop_front();
            }
            self.used.push_back(proof.tag);
        }
        proven
    }

    /// Whether a server proved that it is a master of this site. `from`: the port that it spoke from.
    pub(crate) fn is_proven_master(&mut self, from: MacAddr, message: &ServerMessage) -> bool {
        let proof = message.proof.filter(|proof| proof.role != Role::Ask && message.recon);
        let said = |role| Said {
            role,
            machine: message.machine.unwrap_or(from),
            mac: from,
            server: message.server,
        };
        proof.is_some_and(|given| self.is_proven(&said(given.role), proof))
    }

    fn proof(&self, said: &Said) -> Option<Proof> {
        let question = self.asked.as_ref()?;
        let tag: Tag = with_parts(question, said, |parts| self.key.tag(LABEL, parts));
        Some(Proof { role: said.role, tag })
    }
}

fn with_parts<T>(question: &Question, said: &Said, then: impl FnOnce(&[&[u8]]) -> T) -> T {
    then(&[
        &question.nonce,
        &question.machine.0,
        &[said.role as u8],
        &said.machine.0,
        &said.mac.0,
        &said.server.octets(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 219, 1);

    fn voice(key: u8, machine: MacAddr) -> Voice {
        let mut random = [key; 32];
        random[0] = 0;
        Voice::new(SiteKey::new(random), machine, machine)
    }

    #[test]
    fn who_has_the_key_proves_it_for_this_question_and_no_other() {
        let (mut asker, mut master) = (voice(1, A), voice(1, B));
        assert_eq!(master.announce(Role::Serve, SERVER).1, None, "nobody asked");
        master.heard(asker.ask([1; 16]).0);
        let (said, proof) = master.announce(Role::Serve, SERVER);
        assert!(asker.is_proven(&said, proof));
        assert!(!asker.is_proven(&said, proof), "a replay while the question is open");
        master.heard(asker.ask([2; 16]).0);
        let (said, proof) = master.announce(Role::Serve, SERVER);
        for other in [
            Said { machine: A, ..said },
            Said { mac: A, ..said },
            Said {
                role: Role::Proxy,
                ..said
            },
            Said {
                server: Ipv4Addr::new(192, 168, 219, 2),
                ..said
            },
        ] {
            assert!(!asker.is_proven(&other, proof), "{other:?}");
            let relabelled = proof.map(|proof| Proof {
                role: other.role,
                ..proof
            });
            assert!(!asker.is_proven(&other, relabelled), "{other:?}");
        }
        assert!(!asker.is_proven(&said, None));
        // The question is no longer open.
        for nonce in 3..=6 {
            asker.ask([nonce; 16]);
        }
        assert!(!asker.is_proven(&said, proof));
        // The answer to another machine's question.
        let mut third = voice(1, MacAddr([2, 0, 0, 0, 0, 3]));
        third.ask([2; 16]);
        assert!(!third.is_proven(&said, proof));
    }

    #[test]
    fn who_has_another_key_proves_nothing() {
        let (mut asker, mut stranger) = (voice(1, A), voice(2, B));
        stranger.heard(asker.ask([1; 16]).0);
        let (said, proof) = stranger.announce(Role::Serve, SERVER);
        assert!(!asker.is_proven(&said, proof));
        let (question, proof) = stranger.ask([7; 16]);
        assert!(!asker.is_proven(&Said::asking(question.machine, B), proof));
    }

    #[test]
    fn a_question_proves_as_well() {
        let (mut one, mut two) = (voice(1, A), voice(1, B));
        two.heard(one.ask([1; 16]).0);
        let (question, proof) = two.ask([2; 16]);
        assert!(one.is_proven(&Said::asking(question.machine, B), proof));
        assert!(
            !one.is_proven(&two.announce(Role::Serve, SERVER).0, proof),
            "and only that it asks"
        );
    }
}
