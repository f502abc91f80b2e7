//! Which client has which IPv6 address on one link. Pure: time comes in.

use std::collections::HashMap;
use std::net::Ipv6Addr;

use crate::formats::bytes::hex;
use crate::model::lease::Lease6;
use crate::model::ula::Prefix64;
use crate::model::{MacAddr, UnixTime};

use super::wire::MAX_DUID;

/// Who holds an address: a client's identity association (RFC 8415 §4.2), at a port where the DUID may be two machines'.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder {
    pub duid: Vec<u8>,
    pub iaid: u32,
    /// The port that asks, for a DUID made of a UUID (RFC 6355): firmware exists that gives one UUID to every board.
    pub port: Option<MacAddr>,
}

impl Holder {
    /// `mac` is the port that asks, where it is known.
    pub fn new(duid: Vec<u8>, iaid: u32, mac: Option<MacAddr>) -> Self {
        let of_uuid = duid.starts_with(&[0, 4]);
        Holder {
            duid,
            iaid,
            port: mac.filter(|_| of_uuid),
        }
    }
}

#[derive(Debug, Clone)]
struct Bound {
    address: Ipv6Addr,
    mac: Option<MacAddr>,
    expires_unix: UnixTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Use {
    Held(Holder),
    /// Somebody declined it. Free again at this time.
    Declined(UnixTime),
}

/// Leases of one link.
#[derive(Debug, Clone)]
pub struct LeaseTable6 {
    prefix: Prefix64,
    by_holder: HashMap<Holder, Bound>,
    by_address: HashMap<Ipv6Addr, Use>,
}

/// Leases kept at once. A broadcast domain holds fewer machines; the bound stops one that invents identities.
pub const MAX_LEASES: usize = 16_384;
/// How long a declined address stays unused, in seconds.
const DECLINED_SECONDS: u64 = 600;
/// Host part of the first address of the pool: apart from the server's and from what people write by hand.
const POOL: u64 = 1 << 32;
/// Addresses tried for one client before the pool counts as exhausted.
const TRIES: u64 = 64;

impl LeaseTable6 {
    /// A table over the pool of `prefix`. Remembered leases outside of it, and damaged ones, are forgotten.
    pub fn new(prefix: Prefix64, remembered: impl IntoIterator<Item = Lease6>) -> Self {
        let mut table = LeaseTable6 {
            prefix,
            by_holder: HashMap::new(),
            by_address: HashMap::new(),
        };
        for lease in remembered {
            let Some(duid) = from_hex(&lease.duid) else { continue };
            let holder = Holder::new(duid, lease.iaid, lease.mac);
            let free = !table.by_address.contains_key(&lease.address) && !table.by_holder.contains_key(&holder);
            if table.in_pool(lease.address) && free && table.by_holder.len() < MAX_LEASES {
                table.put(holder, lease.address, lease.mac, lease.expires_unix);
            }
        }
        table
    }

    /// True for an address that this table may give.
    pub fn in_pool(&self, address: Ipv6Addr) -> bool {
        (0..=u64::from(u32::MAX)).contains(&(host_part(address).wrapping_sub(POOL))) && self.prefix.contains(address)
    }

    pub fn get(&self, holder: &Holder) -> Option<Ipv6Addr> {
        self.by_holder.get(holder).map(|bound| bound.address)
    }

    /// Leases that still run.
    pub fn held(&self, now_unix: UnixTime) -> usize {
        let running = |bound: &&Bound| bound.expires_unix > now_unix;
        self.by_holder.values().filter(running).count()
    }

    pub fn len(&self) -> usize {
        self.by_holder.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_holder.is_empty()
    }

    /// Every address with the port that has it.
    pub fn addresses(&self) -> impl Iterator<Item = (Option<MacAddr>, Ipv6Addr)> + '_ {
        self.by_holder.values().map(|bound| (bound.mac, bound.address))
    }

    /// Every lease, as it is written to the stick.
    pub fn iter(&self) -> impl Iterator<Item = Lease6> + '_ {
        self.by_holder.iter().map(|(holder, bound)| Lease6 {
            duid: hex(&holder.duid),
            iaid: holder.iaid,
            address: bound.address,
            mac: bound.mac,
            expires_unix: bound.expires_unix,
        })
    }

    /// Address to offer: the one it has, else one that follows from who it is, so that it is the same in every run with
    /// this prefix and also if the lease was lost. `None`: the table is full or the places of this client are taken.
    pub fn choose(&mut self, holder: &Holder, now_unix: UnixTime) -> Option<Ipv6Addr> {
        if let Some(bound) = self.by_holder.get(holder) {
            return Some(bound.address);
        }
        if self.by_holder.len() >= MAX_LEASES {
            self.drop_expired(now_unix);
            if self.by_holder.len() >= MAX_LEASES {
                return None;
            }
        }
        let start = place(holder);
        (0..TRIES)
            .map(|step| self.prefix.host(POOL + (start + step) % (1 << 32)))
            .find(|address| self.is_free(*address, holder, now_unix))
    }

    /// True if `holder` may have `address` now.
    pub fn may_have(&self, holder: &Holder, address: Ipv6Addr, now_unix: UnixTime) -> bool {
        match self.by_holder.get(holder) {
            Some(bound) => bound.address == address,
            None => {
                self.by_holder.len() < MAX_LEASES && self.in_pool(address) && self.is_free(address, holder, now_unix)
            }
        }
    }

    fn is_free(&self, address: Ipv6Addr, holder: &Holder, now_unix: UnixTime) -> bool {
        match self.by_address.get(&address) {
            None => true,
            Some(Use::Declined(until)) => *until <= now_unix,
            Some(Use::Held(other)) => {
                other == holder
                    || self
                        .by_holder
                        .get(other)
                        .is_none_or(|bound| bound.expires_unix <= now_unix)
            }
        }
    }

    /// Gives the address until `expires_unix`. The caller has asked [`Self::choose`] or [`Self::may_have`].
    pub fn bind(&mut self, holder: &Holder, address: Ipv6Addr, mac: Option<MacAddr>, expires_unix: UnixTime) {
        self.release(holder);
        if let Some(Use::Held(expired)) = self.by_address.get(&address).cloned() {
            self.by_holder.remove(&expired);
        }
        self.put(holder.clone(), address, mac, expires_unix);
    }

    /// Takes the lease away; true if there was one.
    pub fn release(&mut self, holder: &Holder) -> bool {
        let Some(bound) = self.by_holder.remove(holder) else {
            return false;
        };
        self.by_address.remove(&bound.address);
        true
    }

    /// Takes an address out of use for a while, because its holder found it in use. True if it was the holder's.
    pub fn decline(&mut self, holder: &Holder, address: Ipv6Addr, now_unix: UnixTime) -> bool {
        if self.get(holder) != Some(address) {
            return false;
        }
        self.release(holder);
        if self.by_address.len() < 2 * MAX_LEASES {
            self.by_address
                .insert(address, Use::Declined(now_unix + DECLINED_SECONDS));
        }
        true
    }

    fn drop_expired(&mut self, now_unix: UnixTime) {
        self.by_holder.retain(|_, bound| bound.expires_unix > now_unix);
        let by_holder = &self.by_holder;
        self.by_address.retain(|_, used| match used {
            Use::Held(holder) => by_holder.contains_key(holder),
            Use::Declined(until) => *until > now_unix,
        });
    }

    fn put(&mut self, holder: Holder, address: Ipv6Addr, mac: Option<MacAddr>, expires_unix: UnixTime) {
        self.by_address.insert(address, Use::Held(holder.clone()));
        self.by_holder.insert(
            holder,
            Bound {
                address,
                mac,
                expires_unix,
            },
        );
    }
}

fn host_part(address: Ipv6Addr) -> u64 {
    u128::from(address) as u64
}

/// Place of a client in the pool: FNV-1a over DUID and IAID, folded to 32 bits. Only has to spread, not to hide.
fn place(holder: &Holder) -> u64 {
    let bytes = holder.duid.iter().copied().chain(holder.iaid.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash >> 32) ^ (hash & 0xffff_ffff)
}

/// Bytes of a DUID's hex text; `None` if it is none.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let fits = text.len().is_multiple_of(2) && (2..=2 * MAX_DUID).contains(&text.len()) && text.is_ascii();
    if !fits {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ula::Ula;
    use crate::service::dhcp4::testing::unix;
    use proptest::prelude::*;

    fn prefix() -> Prefix64 {
        Ula::drawn(7).link(0)
    }

    fn holder(last: u8) -> Holder {
        Holder::new(vec![0, 3, 0, 1, 2, 0, 0, 0, 0, last], 1, None)
    }

    #[test]
    fn a_client_gets_the_same_address_in_every_run() {
        let mut first = LeaseTable6::new(prefix(), []);
        let address = first.choose(&holder(1), unix(0)).unwrap();
        assert!(first.in_pool(address) && prefix().contains(address));
        assert_ne!(first.choose(&holder(2), unix(0)), Some(address));
        let mut second = LeaseTable6::new(prefix(), []);
        assert_eq!(
            second.choose(&holder(1), unix(99)),
            Some(address),
            "also if its lease was lost"
        );
        let other_port = Holder { iaid: 2, ..holder(1) };
        assert_ne!(second.choose(&other_port, unix(99)), Some(address));
    }

    /// EDK II makes its DUID of the SMBIOS UUID, and boards of one firmware may share that.
    #[test]
    fn two_ports_with_one_duid_of_a_uuid_are_two_holders() {
        let duid = [[0, 4].as_slice(), &[0x93; 16]].concat();
        let port = |last: u8| Some(MacAddr([2, 0, 0, 0, 0, last]));
        let board = |last: u8| Holder::new(duid.clone(), 1, port(last));
        let mut table = LeaseTable6::new(prefix(), []);
        let first = table.choose(&board(1), unix(0)).unwrap();
        table.bind(&board(1), first, port(1), unix(100));
        let second = table.choose(&board(2), unix(0)).unwrap();
        assert_ne!(first, second);
        assert!(!table.may_have(&board(2), first, unix(0)));
        table.bind(&board(2), second, port(2), unix(100));
        assert_eq!(
            (table.get(&board(1)), table.get(&board(2))),
            (Some(first), Some(second))
        );
        // Also in the next run.
        let again = LeaseTable6::new(prefix(), table.iter().collect::<Vec<_>>());
        assert_eq!(
            (again.get(&board(1)), again.get(&board(2))),
            (Some(first), Some(second))
        );
        // A DUID of a port is that port's, from wherever it asks.
        let of_port = |last: u8| Holder::new(vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 9], 1, port(last));
        assert_eq!(of_port(1), of_port(2));
    }

    #[test]
    fn leases_are_remembered_and_damaged_ones_are_not() {
        let mut table = LeaseTable6::new(prefix(), []);
        let address = table.choose(&holder(1), unix(0)).unwrap();
        table.bind(&holder(1), address, Some(MacAddr([2, 0, 0, 0, 0, 1])), unix(100));
        let mut kept: Vec<Lease6> = table.iter().collect();
        assert_eq!(LeaseTable6::new(prefix(), kept.clone()).get(&holder(1)), Some(address));
        let elsewhere = Ula::drawn(8).link(0);
        assert!(LeaseTable6::new(elsewhere, kept.clone()).is_empty(), "another prefix");
        for duid in ["", "0", "zz", "0é", &"00".repeat(MAX_DUID + 1)] {
            kept[0].duid = duid.to_owned();
            assert!(LeaseTable6::new(prefix(), kept.clone()).is_empty(), "{duid}");
        }
    }

    #[test]
    fn a_declined_address_rests_and_only_its_holder_can_decline_it() {
        let mut table = LeaseTable6::new(prefix(), []);
        let address = table.choose(&holder(1), unix(0)).unwrap();
        table.bind(&holder(1), address, None, unix(100));
        assert!(!table.decline(&holder(2), address, unix(0)));
        assert!(table.decline(&holder(1), address, unix(0)));
        assert!(!table.may_have(&holder(1), address, unix(DECLINED_SECONDS - 1)));
        assert_ne!(table.choose(&holder(1), unix(DECLINED_SECONDS - 1)), Some(address));
        assert!(table.may_have(&holder(1), address, unix(DECLINED_SECONDS)));
    }

    #[test]
    fn the_table_is_bounded_and_expired_leases_make_room() {
        let mut table = LeaseTable6::new(prefix(), []);
        for iaid in 0..MAX_LEASES as u32 {
            let holder = Holder { iaid, ..holder(1) };
            let address = table.choose(&holder, unix(0)).unwrap();
            table.bind(&holder, address, None, unix(100));
        }
        assert_eq!(table.choose(&holder(2), unix(99)), None);
        assert!(table.choose(&holder(2), unix(100)).is_some());
        assert!(table.is_empty());
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice(steps in proptest::collection::vec((0u8..12, 0u8..4, 0u64..50), 0..200)) {
            let mut table = LeaseTable6::new(prefix(), []);
            let mut now = unix(0);
            for (who, what, later) in steps {
                now = now + later;
                match what {
                    0 | 1 => if let Some(address) = table.choose(&holder(who), now) {
                        prop_assert!(table.may_have(&holder(who), address, now));
                        table.bind(&holder(who), address, None, now + 60);
                    },
                    2 => { table.release(&holder(who)); }
                    _ => if let Some(address) = table.get(&holder(who)) {
                        table.decline(&holder(who), address, now);
                    },
                }
                let mut held: Vec<_> = table.iter().map(|lease| lease.address).collect();
                held.sort();
                let count = held.len();
                held.dedup();
                prop_assert_eq!(count, held.len());
            }
        }
    }
}
