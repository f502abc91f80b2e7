use std::fs::File;
use std::path::Path;
use std::sync::Condvar;

use dhcproto::v4::{DhcpOption, Opcode};

use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

use super::super::leases::LeaseTable;
use super::super::reply::Params;
use super::super::server::Network;
use super::*;
use crate::config::Subnet;
use crate::service::dhcp4::testing::{run, unix};
use crate::store::fs_ops::{Disk, Medium};
use crate::store::leases::Journal;

const FROM: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// A medium whose writes wait until it is told to go on.
#[derive(Default)]
struct Slow {
    held: Mutex<bool>,
    go: Condvar,
}

impl Slow {
    fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.go.notify_all();
    }
}

impl Medium for Slow {
    fn create(&self, path: &Path) -> io::Result<File> {
        Disk.create(path)
    }
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let held = self.held.lock().unwrap();
        drop(self.go.wait_while(held, |held| *held).unwrap());
        Disk.write(file, bytes)
    }
    fn sync_file(&self, file: &File) -> io::Result<()> {
        Disk.sync_file(file)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        Disk.remove_file(path)
    }
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        Disk.make_folder(path)
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        Disk.remove_folder(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        Disk.sync_folder(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        Disk.sync_all(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        Disk.free_bytes(path)
    }
}

fn network(subnet: Subnet) -> Network {
    Network {
        params: Params {
            subnet,
            lease: Default::default(),
            boot: Default::default(),
        },
        leases: Arc::new(Mutex::new(LeaseTable::new(subnet.lease_first, subnet.lease_last, []))),
    }
}

async fn worker(folder: &Path, medium: Arc<Slow>) -> Worker {
    let subnet = crate::config::Settings::default().subnet(0).unwrap();
    let (journal, _) = Journal::on(folder, true, 1, medium);
    Worker::new(Server {
        socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        link: network(subnet),
        routed: Vec::new(),
        node_table: Arc::default(),
        metrics: Arc::default(),
        journal: Arc::new(journal),
        arp: None,
        rival: Arc::default(),
    })
}

fn request(who: u8, kind: MessageType, options: impl IntoIterator<Item = DhcpOption>) -> Message {
    let mut message = Message::default();
    message.set_chaddr(&[2, 0, 0, 0, 0, who]);
    let class = DhcpOption::ClassIdentifier(b"PXEClient:Arch:00007:UNDI:003000".to_vec());
    for option in [DhcpOption::MessageType(kind), class].into_iter().chain(options) {
        message.opts_mut().insert(option);
    }
    message
}

fn wish(address: Ipv4Addr) -> [DhcpOption; 2] {
    let server = crate::config::Settings::default().subnet(0).unwrap().server;
    [
        DhcpOption::RequestedIpAddress(address),
        DhcpOption::ServerIdentifier(server),
    ]
}

#[tokio::test]
async fn an_acknowledgement_waits_for_the_journal_and_an_offer_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let medium = Arc::new(Slow::default());
    let mut worker = worker(folder.path(), Arc::clone(&medium)).await;
    let mut written = worker.server.journal.written();
    medium.hold(true);
    let mut numbers = Vec::new();
    for who in 1..=3 {
        worker.request(request(who, MessageType::Discover, []), FROM).await;
        assert_eq!(worker.waiting.unwritten(), numbers.len(), "the offer has left");
        let offered = worker
            .server
            .link
            .leases
            .lock()
            .unwrap()
            .offered(MacAddr([2, 0, 0, 0, 0, who]))
            .unwrap();
        worker
            .request(request(who, MessageType::Request, wish(offered)), FROM)
            .await;
        numbers.push(worker.waiting.last_number().expect("the acknowledgement waits"));
        worker.written(*written.borrow_and_update()).await;
        assert_eq!(worker.waiting.unwritten(), numbers.len(), "nothing is in the file yet");
    }
    medium.hold(false);
    let last = *numbers.last().unwrap();
    let number = *written.wait_for(|number| *number >= last).await.unwrap();
    worker.written(number).await;
    assert!(worker.waiting.unwritten() == 0);
    let path = folder.path().join("leases-1.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text.matches("\"bound\"").count(), 3, "{text}");
}

#[tokio::test]
async fn an_offer_moves_away_from_an_address_that_somebody_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path(), Arc::default()).await;
    worker.server.link.leases.lock().unwrap().probe_first();
    worker.request(request(1, MessageType::Discover, []), FROM).await;
    let waiting = |worker: &Worker| {
        worker
            .waiting
            .unprobed()
            .map(|waiting| waiting.address)
            .collect::<Vec<_>>()
    };
    let [first] = waiting(&worker)[..] else {
        panic!("the offer does not wait for the link");
    };
    // Its own answer, from an earlier stage of its boot, is no conflict; a stranger's is.
    worker
        .claimed(&conflicts::probe(MacAddr([2, 0, 0, 0, 0, 1]), first))
        .await;
    assert_eq!(waiting(&worker), [first]);
    worker
        .claimed(&conflicts::probe(MacAddr([2, 0, 0, 0, 0, 9]), first))
        .await;
    let [second] = waiting(&worker)[..] else {
        panic!("the offer is gone");
    };
    assert_ne!(first, second);
    assert_eq!(
        worker
            .server
            .link
            .leases
            .lock()
            .unwrap()
            .counts(clock::unix_time())
            .abandoned,
        1
    );
    // It gives up moving at some point.
    for _ in 0..10 {
        for address in waiting(&worker) {
            worker
                .claimed(&conflicts::probe(MacAddr([2, 0, 0, 0, 0, 9]), address))
                .await;
        }
    }
    assert!(worker.waiting.unprobed().next().is_none());
}

#[tokio::test]
async fn another_machine_with_the_servers_address_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path(), Arc::default()).await;
    let server = worker.server.link.params.subnet.server;
    let stranger = MacAddr([2, 0, 0, 0, 0, 9]);
    let probe = conflicts::probe(stranger, server);
    worker.claimed(&probe).await;
    assert_eq!(
        *worker.server.rival.lock().unwrap(),
        None,
        "it asks, and hears that we have it"
    );
    let mut announcement = probe;
    announcement[14..18].copy_from_slice(&server.octets());
    worker.claimed(&announcement).await;
    assert_eq!(*worker.server.rival.lock().unwrap(), Some(stranger));
}

#[tokio::test]
async fn a_neighbour_that_answers_for_everything_empties_no_pool() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path(), Arc::default()).await;
    worker.server.link.leases.lock().unwrap().probe_first();
    let proxy = MacAddr([2, 0xaa, 0, 0, 0, 1]);
    let (size, first) = {
        let leases = worker.server.link.leases.lock().unwrap();
        (
            leases.counts(unix(0)).size,
            worker.server.link.params.subnet.lease_first,
        )
    };
    // It answers every question at once, for as long as questions are asked.
    for at in 0..200 {
        let now = run(f64::from(at) * conflicts::TICK_SECONDS);
        let asked = {
            let mut leases = worker.server.link.leases.lock().unwrap();
            worker.prober.next(&mut leases, first, now, clock::unix_time())
        };
        for address in asked {
            worker.claimed(&conflicts::probe(proxy, address)).await;
        }
    }
    assert!(worker.claims.is_proxy(proxy));
    let counts = worker.server.link.leases.lock().unwrap().counts(clock::unix_time());
    assert_eq!((counts.size, counts.abandoned), (size, 0));
    worker.say_in_use();
    assert_eq!(worker.notices.counts().2, 0, "no word about single addresses");
    // An offer that has to wait is not moved by it; a host that really has the address still counts.
    let waiting = |worker: &Worker| worker.waiting.unprobed().next().map(|waiting| waiting.address);
    worker.server.link.leases.lock().unwrap().count_silent(unix(u64::MAX));
    worker.request(request(1, MessageType::Discover, []), FROM).await;
    let address = waiting(&worker).expect("the offer waits for the link");
    worker.claimed(&conflicts::probe(proxy, address)).await;
    assert_eq!(waiting(&worker), Some(address));
    worker
        .claimed(&conflicts::probe(MacAddr([2, 0, 0, 0, 0, 9]), address))
        .await;
    assert!(waiting(&worker).is_some_and(|moved| moved != address));
}

#[tokio::test]
async fn strangers_and_loops_are_filtered() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path(), Arc::default()).await;
    let mut stranger = request(1, MessageType::Discover, []);
    stranger.opts_mut().remove(dhcproto::v4::OptionCode::ClassIdentifier);
    worker.request(stranger, FROM).await;
    assert_eq!(worker.server.link.leases.lock().unwrap().iter().count(), 0);
    let mut answer = request(2, MessageType::Offer, []);
    answer.set_opcode(Opcode::BootReply);
    worker.request(answer, FROM).await;
    assert_eq!(
        worker.server.link.leases.lock().unwrap().iter().count(),
        0,
        "a server's word is no question"
    );
    for _ in 0..500 {
        worker.request(request(3, MessageType::Discover, []), FROM).await;
    }
    assert!(worker.retries.offers(MacAddr([2, 0, 0, 0, 0, 3]), clock::run_time()) < 100);
}

#[tokio::test]
async fn each_network_has_leases_of_its_own_and_one_that_nobody_wrote_down_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path(), Arc::default()).await;
    let settings = crate::config::Settings::parse("[[subnet]]\nsubnet = \"10.1.0.0/29\"\n").unwrap();
    let subnet = settings.routed(worker.server.link.params.subnet.server).next().unwrap();
    let routed = network(subnet);
    let table = Arc::clone(&routed.leases);
    worker.server.routed.push(routed);
    let through = |who: u8, relay: [u8; 4]| {
        let mut message = request(who, MessageType::Discover, []);
        message.set_giaddr(Ipv4Addr::from(relay));
        message
    };
    for who in 1..=9 {
        worker.request(through(who, [10, 1, 0, 1]), FROM).await;
    }
    let held: Vec<Ipv4Addr> = table.lock().unwrap().iter().map(|lease| lease.address).collect();
    assert_eq!(held.len(), 5, "six hosts, and one of them is the router");
    assert!(held.iter().all(|address| subnet.contains(*address)));
    assert_eq!(worker.notices.counts().0, [subnet.network]);
    assert_eq!(
        worker.server.link.leases.lock().unwrap().iter().count(),
        0,
        "the link's pool is the link's"
    );
    // A machine of the link is served all the same.
    worker.request(request(20, MessageType::Discover, []), FROM).await;
    assert_eq!(worker.server.link.leases.lock().unwrap().iter().count(), 1);
    for who in 30..=35 {
        worker.request(through(who, [10, 9, 0, who]), FROM).await;
    }
    assert_eq!(worker.notices.counts().1, 1, "one network, said once");
    assert_eq!(table.lock().unwrap().iter().count(), 5);
    for third in 0..=255 {
        worker.request(through(40, [10, 8, third, 1]), FROM).await;
    }
    assert!(worker.notices.counts().1 <= super::super::notices::MAX_UNKNOWN_SAID);
}

#[tokio::test]
async fn a_machine_without_a_system_is_named_and_takes_no_address() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path(), Arc::default()).await;
    let arm = DhcpOption::ClientSystemArchitecture(11u16.into());
    for _ in 0..3 {
        worker
            .request(request(1, MessageType::Discover, [arm.clone()]), FROM)
            .await;
    }
    assert_eq!(worker.server.link.leases.lock().unwrap().iter().count(), 0);
    let rows = worker.server.node_table.lock().unwrap().all();
    let failure = rows[0].failure.as_deref().unwrap();
    assert_eq!(
        (rows.len(), failure),
        (1, "ARM 64-bit UEFI: this image has no system for it")
    );
}

#[tokio::test]
async fn in_a_crowd_those_who_began_are_answered_first_and_the_queue_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let medium = Arc::new(Slow::default());
    let mut worker = worker(folder.path(), Arc::clone(&medium)).await;
    worker.request(request(1, MessageType::Discover, []), FROM).await;
    let first = MacAddr([2, 0, 0, 0, 0, 1]);
    let offered = worker.server.link.leases.lock().unwrap().offered(first).unwrap();
    medium.hold(true);
    let crowd = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = worker.server.socket.local_addr().unwrap();
    let mut packets: Vec<Message> = (2..42).map(|who| request(who, MessageType::Discover, [])).collect();
    packets.push(request(1, MessageType::Request, wish(offered)));
    for packet in &packets {
        crowd.send_to(&super::super::probe::encode(packet), server).unwrap();
    }
    worker.server.socket.readable().await.unwrap();
    let mut buffer = [0; wire::MAX_DATAGRAM];
    worker.read(&mut buffer).await.unwrap();
    assert_eq!(worker.waiting.unwritten(), 1, "the last one to ask is acknowledged");
    assert_eq!(worker.pending_discovers.len(), 40);
    assert_eq!(worker.server.link.leases.lock().unwrap().iter().count(), 1);
    worker.serve_discovers().await;
    assert_eq!(worker.pending_discovers.len(), 40 - DISCOVERS_AT_ONCE);
    assert_eq!(
        worker.server.link.leases.lock().unwrap().iter().count(),
        1 + DISCOVERS_AT_ONCE
    );

    worker.pending_discovers = vec![(Vec::new(), FROM); MAX_PENDING_DISCOVERS].into();
    crowd
        .send_to(&super::super::probe::encode(&packets[0]), server)
        .unwrap();
    worker.server.socket.readable().await.unwrap();
    worker.read(&mut buffer).await.unwrap();
    assert_eq!(worker.pending_discovers.len(), MAX_PENDING_DISCOVERS);
    assert!(
        !worker.pending_discovers.back().unwrap().0.is_empty(),
        "the newest has a place"
    );
    medium.hold(false);
}
