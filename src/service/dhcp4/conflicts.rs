//! Which addresses to ask the link for before they are offered, and what answers mean (RFC 5227 §2.1.1). Pure: time
//! comes in as seconds.
//!
//! Some free addresses are asked for prober of time, more while machines come; so an offer hardly ever waits. One that
//! has to wait does so for [`ANSWER_SECONDS`]: hosts answer ARP within milliseconds, and one that does not is found by
//! the client's own probe and its DECLINE.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacket};

use crate::model::{MacAddr, RunTime, UnixTime};

use super::leases::LeaseTable;

/// How long an answer is waited for.
pub const ANSWER_SECONDS: f64 = 0.15;
/// How often [`Prober::next`] wants to be asked.
pub const TICK_SECONDS: f64 = 0.05;
/// How long silence counts.
pub const SILENT_SECONDS: u64 = 60;
/// Addresses known to be free when the service starts, and while machines come.
const TARGET_FREE: usize = 256;
/// Addresses asked for in one tick, at most two for every new machine: no more broadcasts than the machines themselves make,
/// and enough for all that a processor core can answer.
const PROBES_PER_TICK: usize = 1024;
const PROBES_PER_TICK_AT_START: usize = 16;
/// Without a new machine for this long, nothing is asked prober any more.
const IDLE_SECONDS: f64 = 20.0;

/// The ARP packet that asks whether somebody has an address, without claiming it: RFC 5227's probe.
pub fn probe(own: MacAddr, address: Ipv4Addr) -> [u8; ArpEthIpv4Packet::LEN] {
    let probe = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: own.0,
        sender_ipv4: [0; 4],
        target_mac: [0; 6],
        target_ipv4: address.octets(),
    };
    probe.to_bytes()
}

/// Who says by an ARP packet that it has or is about to take an address. The packet may be padded.
pub fn claim(packet: &[u8]) -> Option<(MacAddr, Ipv4Addr)> {
    let arp = ArpPacket::from_slice(packet).ok()?.try_eth_ipv4().ok()?;
    let address = match (arp.sender_ipv4, arp.operation) {
        // A probe: it wants the address.
        ([0, 0, 0, 0], ArpOperation::REQUEST) => arp.target_ipv4_addr(),
        ([0, 0, 0, 0], _) => return None,
        (_, ArpOperation::REQUEST | ArpOperation::REPLY) => arp.sender_ipv4_addr(),
        _ => return None,
    };
    Some((MacAddr(arp.sender_mac), address)).filter(|(mac, address)| !mac.is_unusable() && !address.is_unspecified())
}

/// Who uses which address as its own, by an ARP packet. A probe uses none.
pub fn uses(packet: &[u8]) -> Option<(MacAddr, Ipv4Addr)> {
    let sender = packet.get(14..18)?;
    claim(packet).filter(|(_, address)| sender == address.octets())
}

/// Asks prober of time.
#[derive(Debug, Default)]
pub struct Prober {
    /// Asked for, and when.
    asked: HashMap<Ipv4Addr, RunTime>,
    started: bool,
    /// The last new machine.
    wanted_at: Option<RunTime>,
    /// New machines since the last tick.
    wanted: usize,
}

impl Prober {
    /// A machine took an address from the stock, or had to wait for one.
    pub fn wanted(&mut self, now: RunTime) {
        self.wanted_at = Some(now);
        self.wanted += 1;
    }

    /// Notes who kept silent, and says which addresses to ask for now.
    pub fn next(
        &mut self,
        leases: &mut LeaseTable,
        first: Ipv4Addr,
        now: RunTime,
        now_unix: UnixTime,
    ) -> Vec<Ipv4Addr> {
        let over: Vec<Ipv4Addr> = self
            .asked
            .iter()
            .filter(|(_, at)| now - **at >= ANSWER_SECONDS)
            .map(|(address, _)| *address)
            .collect();
        for address in over {
            self.asked.remove(&address);
            leases.note_silent(address, now_unix + SILENT_SECONDS);
        }
        let known = leases.count_silent(now_unix);
        let busy = self.wanted_at.is_some_and(|at| now - at < IDLE_SECONDS);
        let wanted = std::mem::take(&mut self.wanted);
        let count = match (busy, self.started) {
            (true, _) => (2 * wanted + 32).min(PROBES_PER_TICK),
            (false, false) => PROBES_PER_TICK_AT_START,
            (false, true) => 0,
        };
        let room = (TARGET_FREE + 8 * wanted).saturating_sub(known + self.asked.len());
        if room == 0 {
            self.started = true;
        }
        let candidates = leases.unprobed(first, count.min(room) + self.asked.len(), now_unix);
        let new: Vec<Ipv4Addr> = candidates
            .into_iter()
            .filter(|address| !self.asked.contains_key(address))
            .take(count.min(room))
            .collect();
        if new.is_empty() && self.asked.is_empty() {
            // A small pool is known as a whole.
            self.started = true;
        }
        self.asked.extend(new.iter().map(|address| (*address, now)));
        new
    }

    /// True for an address that was asked for lately.
    pub fn asks(&self, address: Ipv4Addr) -> bool {
        self.asked.contains_key(&address)
    }

    /// Somebody has the address. True if it was asked for.
    pub fn heard(&mut self, address: Ipv4Addr) -> bool {
        self.asked.remove(&address).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::dhcp4::testing::{run, unix};
    use proptest::prelude::*;

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

    fn table(last: Ipv4Addr) -> LeaseTable {
        let mut table = LeaseTable::new(FIRST, last, []);
        table.probe_first();
        table
    }

    fn reply(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
        let mut packet = probe(mac, OWN_ADDRESS).to_vec();
        packet[7] = 2;
        packet[14..18].copy_from_slice(&address.octets());
        packet.resize(46, 0);
        packet
    }

    const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    #[test]
    fn a_probe_claims_nothing_and_asks_for_the_address() {
        // RFC 5227 §2.1.1: sender address zero.
        let packet = probe(OWN, FIRST);
        assert_eq!(packet[14..18], [0; 4]);
        assert_eq!(
            claim(&packet),
            Some((OWN, FIRST)),
            "which tells others that somebody wants it"
        );
        assert_eq!(uses(&packet), None);
        let stranger = MacAddr([2, 0, 0, 0, 0, 9]);
        assert_eq!(uses(&reply(stranger, FIRST)), Some((stranger, FIRST)));
        assert_eq!(claim(&reply(stranger, FIRST)), Some((stranger, FIRST)));
    }

    #[test]
    fn what_is_no_arp_of_ethernet_and_ipv4_or_says_nothing_is_no_claim() {
        let stranger = MacAddr([2, 0, 0, 0, 0, 9]);
        let claimed = |at: usize, value: &[u8]| {
            let mut packet = reply(stranger, FIRST).to_vec();
            packet[at..at + value.len()].copy_from_slice(value);
            claim(&packet)
        };
        assert_eq!(claimed(0, &[]), Some((stranger, FIRST)));
        assert_eq!(claimed(14, &[0; 4]), None, "an answer from nowhere");
        for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3), (7, 0), (6, 1)] {
            assert_eq!(claimed(at, &[value]), None, "byte {at}");
        }
        let padded = [&reply(stranger, FIRST)[..], &[7; 18]].concat();
        assert_eq!(claim(&padded), Some((stranger, FIRST)));
        assert_eq!(claim(&padded[..27]), None);
    }

    #[test]
    fn a_small_pool_is_known_before_anybody_comes_and_then_it_is_quiet() {
        let mut leases = table(Ipv4Addr::new(10, 0, 0, 40));
        let mut prober = Prober::default();
        let mut asked = Vec::new();
        for tick in 0..40 {
            let now = run(f64::from(tick) * TICK_SECONDS);
            let new = prober.next(&mut leases, FIRST, now, unix(0));
            assert!(new.len() <= PROBES_PER_TICK_AT_START);
            for address in &new {
                if *address == Ipv4Addr::new(10, 0, 0, 12) {
                    assert!(prober.heard(*address));
                    assert!(leases.abandon(*address, OWN, unix(0)));
                }
            }
            asked.extend(new);
        }
        assert_eq!(asked.len(), 31, "each once");
        assert_eq!(leases.count_silent(unix(0)), 30);
        assert_eq!(leases.count_silent(unix(SILENT_SECONDS)), 0);
        assert!(
            prober.next(&mut leases, FIRST, run(100.0), unix(100)).is_empty(),
            "no machine, no question"
        );
        prober.wanted(run(100.0));
        assert!(!prober.next(&mut leases, FIRST, run(100.0), unix(100)).is_empty());
    }

    #[test]
    fn a_large_pool_is_asked_for_piece_by_piece_as_fast_as_machines_come() {
        let mut leases = table(Ipv4Addr::new(10, 0, 255, 250));
        let mut prober = Prober::default();
        let (mut machine, mut waited) = (0u32, 0);
        for tick in 0..400u32 {
            let now = run(f64::from(tick) * TICK_SECONDS);
            let new = prober.next(&mut leases, FIRST, now, unix(0));
            assert!(new.len() <= PROBES_PER_TICK);
            // After two seconds 2000 machines a second come.
            for _ in 0..if tick >= 40 { 100 } else { 0 } {
                machine += 1;
                let [a, b, c, d] = machine.to_be_bytes();
                let mac = MacAddr([2, 9, a, b, c, d]);
                let address = leases.choose(mac, None, unix(0)).unwrap();
                waited += u32::from(leases.needs_probe(mac, address, unix(0)));
                leases.bind(mac, address, unix(1000));
                prober.wanted(now);
            }
        }
        assert!(waited < machine / 20, "{waited} of {machine} offers had to wait");
    }

    proptest! {
        #[test]
        fn any_packet_is_a_claim_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = claim(&bytes);
        }

        #[test]
        fn a_damaged_claim_does_no_harm(at in 0usize..28, value in any::<u8>()) {
            let mut packet = probe(OWN, FIRST);
            packet[at] = value;
            if let Some((mac, address)) = claim(&packet) {
                prop_assert!(!mac.is_unusable() && !address.is_unspecified());
            }
        }
    }
}
