use super::*;
use crate::service::dhcp4::testing::unix;
use proptest::prelude::*;

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn table(size: u8) -> LeaseTable {
    LeaseTable::new(address(10), address(9 + size), [])
}

#[test]
fn a_machine_keeps_its_address() {
    let mut table = table(10);
    let first = table.choose(mac(1), None, unix(0)).unwrap();
    table.bind(mac(1), first, unix(100));
    assert_eq!(table.choose(mac(1), Some(address(12)), unix(50)), Some(first));
    assert_eq!(
        table.choose(mac(1), None, unix(500)),
        Some(first),
        "also after it ran out, while nobody took it"
    );
}

#[test]
fn an_exhausted_pool_says_so_and_expired_addresses_return() {
    let mut table = table(1);
    let only = table.choose(mac(1), None, unix(0)).unwrap();
    table.bind(mac(1), only, unix(100));
    assert_eq!(table.choose(mac(2), None, unix(99)), None);
    assert_eq!(table.choose(mac(2), None, unix(100)), Some(only));
    table.bind(mac(2), only, unix(200));
    assert!(table.get(mac(1)).is_none());
}

#[test]
fn of_several_old_addresses_the_oldest_is_given_first() {
    let mut table = table(3);
    for (who, end) in [(1, 300), (2, 100), (3, 200)] {
        let address = table.choose(mac(who), None, unix(0)).unwrap();
        table.bind(mac(who), address, unix(end));
    }
    let oldest = table.get(mac(2)).unwrap().address;
    assert_eq!(table.choose(mac(9), None, unix(1000)), Some(oldest));
}

#[test]
fn a_declined_address_rests_while_there_are_others() {
    let mut table = table(1);
    let only = table.choose(mac(1), None, unix(0)).unwrap();
    table.bind(mac(1), only, unix(100));
    assert!(!table.decline(mac(2), only, unix(0)), "only its holder can decline it");
    assert!(table.get(mac(1)).is_some());
    assert!(table.decline(mac(1), only, unix(0)));
    assert!(!table.may_have(mac(2), only, unix(ABANDONED_SECONDS - 1)));
    assert!(table.may_have(mac(2), only, unix(ABANDONED_SECONDS)));
    assert_eq!(
        table.choose(mac(2), None, unix(1)),
        Some(only),
        "there is nothing else, and what used it may have left"
    );
    table.offer(mac(2), only, unix(61), unix(1));
    assert!(table.may_have(mac(2), only, unix(2)));
}

#[test]
fn a_released_address_goes_to_others_but_its_machine_comes_first() {
    let mut table = table(1);
    table.bind(mac(1), address(10), unix(100));
    assert!(!table.release(mac(1), address(11), unix(5)), "not what it has");
    assert!(!table.release(mac(2), address(10), unix(5)), "not its own");
    assert_eq!(table.choose(mac(2), None, unix(5)), None);
    assert!(table.release(mac(1), address(10), unix(5)));
    assert_eq!(table.choose(mac(1), None, unix(6)), Some(address(10)));
    assert_eq!(table.choose(mac(2), None, unix(6)), Some(address(10)));
}

#[test]
fn an_offer_ends_by_itself_and_costs_no_lease() {
    let mut table = table(1);
    table.offer(mac(1), address(10), unix(60), unix(0));
    assert_eq!(table.choose(mac(2), None, unix(59)), None);
    assert_eq!(table.choose(mac(2), None, unix(60)), Some(address(10)));
    assert!(table.take_changes().is_empty(), "a restart need not know offers");
    table.bind(mac(1), address(10), unix(100));
    table.offer(mac(1), address(10), unix(60), unix(1));
    assert_eq!(
        table.get(mac(1)).unwrap().expires_unix,
        unix(100),
        "a running lease stays"
    );
    table.drop_offer(mac(1));
    assert!(table.get(mac(1)).is_some(), "and is no offer");
}

#[test]
fn a_reserved_address_is_for_its_machine_only() {
    let mut table = table(2);
    table.reserve([(mac(1), address(10)), (mac(2), address(200)), (mac(3), address(10))]);
    assert_eq!(table.choose(mac(1), Some(address(11)), unix(0)), Some(address(10)));
    assert_eq!(
        table.choose(mac(2), None, unix(0)),
        Some(address(200)),
        "beside the pool"
    );
    assert_eq!(table.choose(mac(9), Some(address(10)), unix(0)), Some(address(11)));
    table.bind(mac(9), address(11), unix(100));
    assert_eq!(
        table.choose(mac(8), None, unix(0)),
        None,
        "the reserved one is not free for others"
    );
    assert!(!table.may_have(mac(9), address(10), unix(0)));
    assert!(table.may_have(mac(1), address(10), unix(0)));
    assert_eq!(
        table.choose(mac(3), None, unix(200)),
        Some(address(11)),
        "the second entry for an address does not count"
    );
}

#[test]
fn a_reservation_made_later_waits_for_the_holder_and_then_wins() {
    let remembered = [(1, 10), (2, 11)].map(|(who, at)| Lease {
        mac: mac(who),
        address: address(at),
        expires_unix: unix(100),
    });
    let mut table = LeaseTable::new(address(10), address(12), remembered);
    table.reserve([(mac(1), address(11))]);
    assert_eq!(table.choose(mac(1), None, unix(50)), Some(address(10)));
    assert_eq!(table.choose(mac(1), None, unix(100)), Some(address(11)));
    table.offer(mac(1), address(11), unix(160), unix(100));
    assert_eq!(
        table.choose(mac(5), Some(address(10)), unix(100)),
        Some(address(10)),
        "its old one is free"
    );
}

#[test]
fn addresses_are_asked_for_until_they_are_known_to_be_silent() {
    let mut table = table(3);
    assert!(!table.needs_probe(mac(1), address(10), unix(0)), "nobody asks here");
    table.probe_first();
    assert!(table.needs_probe(mac(1), address(10), unix(0)));
    table.note_silent(address(11), unix(50));
    assert_eq!(
        table.choose(mac(1), None, unix(0)),
        Some(address(11)),
        "the known one comes first"
    );
    assert!(!table.needs_probe(mac(1), address(11), unix(0)));
    assert!(table.needs_probe(mac(1), address(11), unix(50)), "knowledge grows old");
    assert_eq!(table.unprobed(address(10), 9, unix(0)), [address(10), address(12)]);
    table.bind(mac(1), address(11), unix(100));
    assert_eq!(table.count_silent(unix(0)), 0, "what is leased is no candidate");
    assert!(!table.needs_probe(mac(1), address(11), unix(60)), "it uses that itself");
    assert!(
        table.needs_probe(mac(1), address(11), unix(100)),
        "it may have left, and another may have come"
    );
}

#[test]
fn a_stranger_on_an_address_takes_it_out_of_use_unless_it_is_leased() {
    let mut table = table(2);
    table.bind(mac(1), address(10), unix(100));
    assert!(!table.abandon(address(10), mac(7), unix(0)));
    assert!(table.abandon(address(11), mac(7), unix(0)));
    assert!(!table.abandon(address(99), mac(7), unix(0)), "none of ours");
    assert_eq!(
        table.choose(mac(2), None, unix(0)),
        Some(address(11)),
        "nothing else is left; it will be asked for again"
    );
    assert!(
        !table.may_have(mac(2), address(11), unix(0)),
        "but not without an offer"
    );
    assert!(
        table.may_have(mac(7), address(11), unix(0)),
        "the one that uses it may keep it"
    );
    assert_eq!(
        table.counts(unix(0)),
        Counts {
            size: 2,
            leased: 1,
            offered: 0,
            abandoned: 1
        }
    );
}

#[test]
fn what_rests_is_used_again_the_oldest_first_when_nothing_else_is_left() {
    let mut table = table(4);
    table.reserve([(mac(3), address(12))]);
    for (last, now) in [(12, 10), (11, 20), (13, 30)] {
        assert!(table.abandon(address(last), mac(7), unix(now)));
    }
    assert_eq!(table.choose(mac(1), None, unix(40)), Some(address(10)));
    table.offer(mac(1), address(10), unix(100), unix(40));
    assert_eq!(
        table.choose(mac(2), None, unix(40)),
        Some(address(11)),
        "12 is another's"
    );
    table.offer(mac(2), address(11), unix(100), unix(40));
    assert_eq!(table.choose(mac(4), None, unix(40)), Some(address(13)));
    // Somebody is still there: it is the next one's turn.
    assert!(table.abandon(address(11), mac(7), unix(50)));
    assert!(table.abandon(address(13), mac(7), unix(51)));
    assert_eq!(table.choose(mac(4), None, unix(52)), Some(address(11)));
    for (who, last) in [(4, 11), (5, 13)] {
        table.bind(mac(who), address(last), unix(1000));
    }
    assert_eq!(
        table.choose(mac(6), None, unix(52)),
        None,
        "all are leased, offered or reserved"
    );
}

#[test]
fn what_rests_for_a_liars_word_is_free_again() {
    let mut table = table(4);
    table.reserve([(mac(3), address(12))]);
    for last in [11, 12, 13] {
        assert!(table.abandon(address(last), mac(if last == 13 { 8 } else { 7 }), unix(10)));
    }
    table.take_changes();
    table.disbelieve(mac(7), unix(20));
    assert_eq!(table.counts(unix(20)).abandoned, 1, "the other's word counts");
    assert!(table.may_have(mac(1), address(11), unix(20)) && table.may_have(mac(3), address(12), unix(20)));
    assert!(!table.may_have(mac(1), address(12), unix(20)) && !table.may_have(mac(1), address(13), unix(20)));
    let mut changes = table.take_changes();
    changes.sort_by_key(|change| format!("{change:?}"));
    let free = |last| LeaseChange::Abandoned {
        address: address(last),
        until_unix: unix(20),
    };
    assert_eq!(changes, [free(11), free(12)], "a restart knows it too");
}

proptest! {
    #[test]
    fn no_address_is_given_twice(steps in proptest::collection::vec((0u8..12, 0u8..8, 0u64..50), 0..200)) {
        let mut table = table(6);
        table.reserve([(mac(3), address(12)), (mac(4), address(99))]);
        let mut now = unix(0);
        for (who, what, later) in steps {
            now = now + later;
            match what {
                0 | 1 => if let Some(address) = table.choose(mac(who), None, now) {
                    table.offer(mac(who), address, now + 20, now);
                    prop_assert!(table.may_have(mac(who), address, now));
                    table.bind(mac(who), address, now + 60);
                },
                2 => if let Some(address) = table.choose(mac(who), Some(address(10 + who % 6)), now) {
                    table.offer(mac(who), address, now + 20, now);
                },
                3 => if let Some(lease) = table.get(mac(who)).cloned() {
                    table.release(mac(who), lease.address, now);
                },
                4 => { table.abandon(address(10 + who % 6), mac(7), now); },
                5 => table.note_silent(address(10 + who % 6), now + 30),
                6 => table.disbelieve(mac(7), now),
                _ => if let Some(lease) = table.get(mac(who)).cloned() {
                    table.decline(mac(who), lease.address, now);
                },
            }
            let mut held: Vec<_> = table.iter().map(|lease| lease.address).collect();
            held.sort();
            let count = held.len();
            held.dedup();
            prop_assert_eq!(count, held.len());
            // The indexes agree with each other.
            let counts = table.counts(now);
            prop_assert_eq!(table.held(now) as u64, counts.leased + counts.offered);
            prop_assert_eq!(table.ends.len(), table.by_address.len());
            let abandoned = table.by_address.values().filter(|holder| matches!(holder, Holder::Abandoned { .. }));
            prop_assert_eq!(table.abandoned.len(), abandoned.count());
            for number in table.first..=table.last {
                let free = table.free.from(number).next() == Some(number);
                let spoken_for = table.by_address.contains_key(&number) || table.reserved_for.contains_key(&number);
                prop_assert_eq!(free, !spoken_for, "{}", Ipv4Addr::from(number));
            }
            for number in table.silent.keys() {
                prop_assert!(!table.by_address.contains_key(number));
            }
        }
    }
}
