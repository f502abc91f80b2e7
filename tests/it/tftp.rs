//! What TFTP clients get, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use recon::model::{MacAddr, RunTime};
use recon::service::boot::loaders::Loaders;
use recon::service::http::site::Site;
use recon::service::tftp;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::site;

/// async-tftp as a server, which `benches/net` measures ours against.
#[path = "../../benches/net/asynctftpd.rs"]
#[allow(dead_code, unreachable_pub)]
mod theirs;

/// Held by tests with hundreds of clients, of which one counts what is sent twice: on a busy machine the other's would be late.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const GRUB: &[u8] = b"grub with the distribution's signature";

fn content() -> Vec<u8> {
    (0..300_000u32).map(|n| (n / 509 + n * 3) as u8).collect()
}

async fn start() -> (
    SocketAddr,
    Arc<Site>,
    CancellationToken,
    JoinHandle<std::io::Result<()>>,
) {
    let folder = tempfile::tempdir().unwrap().keep();
    std::fs::write(folder.join("ipxe.efi"), content()).unwrap();
    // As openSUSE ships them.
    std::fs::write(folder.join("shim.efi"), b"shim").unwrap();
    std::fs::write(folder.join("grub.efi"), GRUB).unwrap();
    let mut site = site(&folder);
    Arc::get_mut(&mut site).unwrap().boot.loaders = Loaders::find(std::slice::from_ref(&folder));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(tftp::run(
        socket,
        "127.0.0.1:80".parse().unwrap(),
        Arc::clone(&site),
        stop.clone(),
    ));
    (address, site, stop, running)
}

async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    let within = Duration::from_secs(20);
    Some(
        tokio::time::timeout(within, socket.recv_from(buffer))
            .await
            .ok()?
            .unwrap(),
    )
}

/// Fetches by the book; `lose` names packets, by their count, that this client drops.
async fn fetch(server: SocketAddr, options: &str, block: usize, window: u64, lose: &[usize]) -> (Vec<u8>, Vec<u8>) {
    fetch_from("127.0.0.1:0", server, options, block, window, lose).await
}

/// The same from an address of the client's choice.
async fn fetch_from(
    client: &str,
    server: SocketAddr,
    options: &str,
    block: usize,
    window: u64,
    lose: &[usize],
) -> (Vec<u8>, Vec<u8>) {
    let socket = UdpSocket::bind(client).await.unwrap();
    let request = format!("\0\x01ipxe.efi\0octet\0{options}");
    socket.send_to(request.as_bytes(), server).await.unwrap();
    let mut buffer = vec![0; 70_000];
    let (mut file, mut oack, mut have, mut in_window, mut count) = (Vec::new(), Vec::new(), 0u64, 0, 0);
    loop {
        let (length, from) = receive(&socket, &mut buffer).await.expect("the server goes on");
        assert_ne!(from, server, "a transfer has its own port");
        assert_eq!(from.ip(), server.ip());
        count += 1;
        if lose.contains(&count) {
            continue;
        }
        let acknowledge = async |number: u64| {
            socket
                .send_to(&[0, 4, (number >> 8) as u8, number as u8], from)
                .await
                .unwrap();
        };
        let data = &buffer[4..length];
        match (buffer[1], u16::from_be_bytes([buffer[2], buffer[3]])) {
            (6, _) => {
                oack = buffer[2..length].to_vec();
                acknowledge(0).await;
            }
            (3, number) if number == (have + 1) as u16 => {
                have += 1;
                in_window += 1;
                file.extend_from_slice(data);
                if data.len() < block || in_window == window {
                    in_window = 0;
                    acknowledge(have).await;
                }
                if data.len() < block {
                    return (file, oack);
                }
            }
            (3, _) => {
                in_window = 0;
                acknowledge(have).await;
            }
            (5, code) => panic!("error {code}: {:?}", String::from_utf8_lossy(data)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_arrives_with_every_option() {
    let (server, site, stop, running) = start().await;
    let mut files = 0;
    for (options, block, window, answer) in [
        ("", 512, 1, ""),
        ("blksize\x001468\0", 1468, 1, "blksize\x001468\0"),
        (
            "tsize\x000\0blksize\x008192\0",
            8192,
            1,
            "blksize\x008192\0tsize\x00300000\0",
        ),
        ("windowsize\x0016\0", 512, 16, "windowsize\x0016\0"),
        (
            "blksize\x001468\0windowsize\x0016\0timeout\x002\0",
            1468,
            16,
            "blksize\x001468\0timeout\x002\0windowsize\x0016\0",
        ),
        (
            "blksize\x0060000\0windowsize\x0016\0",
            60000,
            1,
            "blksize\x0060000\0windowsize\x001\0",
        ),
    ] {
        let (file, oack) = fetch(server, options, block, window, &[]).await;
        assert!(file == content(), "{options:?}: {} bytes", file.len());
        assert_eq!(oack, answer.as_bytes(), "{options:?}");
        files += 1;
    }
    while site.metrics.tftp_running.get() > 0 {
        tokio::task::yield_now().await;
    }
    let text = site.metrics.text(&Default::default());
    for (result, count) in [
        ("done", files),
        ("aborted", 0),
        ("timed_out", 0),
        ("refused", 0),
        ("not_found", 0),
    ] {
        let line = format!("recon_tftp_transfers_total{{result=\"{result}\"}} {count}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_firmware_reads_behind_a_name_in_dhcp_does_no_harm() {
    let (server, _, stop, running) = start().await;
    let mut buffer = [0; 1024];
    for (name, opcode) in [
        (&b"ipxe.efi\xff"[..], 3),
        (b"/ipxe.efi\xff\xff", 3),
        (b"ipxe.efi\x03", 3),
        // The code and the length of option 97.
        (b"ipxe.efia\x11", 3),
        (b"ipxe.efia", 5),
        (b"ipxe\xe9.efi", 5),
        (b"\xff", 5),
    ] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let request = [b"\0\x01", name, b"\0octet\0"].concat();
        socket.send_to(&request, server).await.unwrap();
        let (_, from) = receive(&socket, &mut buffer).await.unwrap();
        assert_eq!(buffer[1], opcode, "{}", name.escape_ascii());
        socket.send_to(b"\0\x05\0\0enough\0", from).await.unwrap();
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_packets_are_sent_again() {
    let (server, site, stop, running) = start().await;
    let lose = [1, 2, 5, 6, 7, 40, 41, 100];
    let (file, _) = fetch(server, "blksize\x001468\0", 1468, 1, &lose[1..5]).await;
    assert!(file == content());
    let (file, _) = fetch(server, "blksize\x001468\0windowsize\x0016\0", 1468, 16, &lose).await;
    assert!(file == content());
    while site.metrics.tftp_running.get() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(site.metrics.tftp_resends.get() >= 4);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_and_fifty_six_at_once() {
    let _alone = ALONE.lock().await;
    let (server, site, stop, running) = start().await;
    let crowd: Vec<_> = (0..256)
        .map(|_| {
            tokio::spawn(async move {
                fetch(server, "blksize\x001468\0windowsize\x004\0", 1468, 4, &[])
                    .await
                    .0
            })
        })
        .collect();
    for one in crowd {
        assert!(one.await.unwrap() == content());
    }
    assert_eq!(
        site.metrics.tftp_resends.get(),
        0,
        "nothing was lost, so nothing is sent twice"
    );
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn firmware_that_asks_for_the_size_first_is_served_from_the_same_port() {
    let (server, _, stop, running) = start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut buffer = [0; 1024];
    socket
        .send_to(b"\0\x01ipxe.efi\0octet\0tsize\x000\0", server)
        .await
        .unwrap();
    let (length, first) = receive(&socket, &mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], b"\0\x06tsize\x00300000\0");
    // Without a word to the first transfer, whose OACK may come again: firmware does that.
    socket.send_to(b"\0\x01ipxe.efi\0octet\0", server).await.unwrap();
    loop {
        let (length, second) = receive(&socket, &mut buffer).await.unwrap();
        if second != first {
            assert_eq!((length, &buffer[..4]), (516, &[0, 3, 0, 1][..]));
            break;
        }
    }
    for (request, code) in [
        (&b"\0\x01../ipxe.efi\0octet\0"[..], 1),
        (b"\0\x02ipxe.efi\0octet\0", 2),
        (b"\0\x01ipxe.efi\0netascii\0", 4),
    ] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(request, server).await.unwrap();
        receive(&socket, &mut buffer).await.unwrap();
        assert_eq!(&buffer[..4], &[0, 5, 0, code]);
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// The first packet of an answer: what it says, behind the operation code.
async fn first(server: SocketAddr, path: &str) -> (u8, Vec<u8>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let request = format!("\0\x01{path}\0octet\0");
    socket.send_to(request.as_bytes(), server).await.unwrap();
    let mut buffer = [0; 1024];
    let (length, from) = receive(&socket, &mut buffer).await.unwrap();
    if buffer[1] == 3 {
        socket.send_to(&[0, 4, 0, 1], from).await.unwrap();
    }
    (buffer[1], buffer[2..length].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn shim_finds_its_grub_by_the_name_that_is_built_into_it() {
    let (server, site, stop, running) = start().await;
    let mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let here = std::net::IpAddr::from([127, 0, 0, 1]);
    site.node_table().heard(mac, true, RunTime::from_seconds(1.0));
    site.node_table().addressed(mac, here, RunTime::from_seconds(1.0));
    for path in [
        "grub.efi",
        "/grub.efi",
        "GRUB.EFI",
        "\\GRUBX64.EFI",
        "/EFI/BOOT/grubx64.efi",
        "grubx64.efi",
    ] {
        assert_eq!(first(server, path).await, (3, [&[0, 1], GRUB].concat()), "{path}");
    }
    for path in ["grub.cfg", "GRUB.CFG", "/boot/grub2/grub.cfg", "grub/grub.cfg"] {
        let (kind, data) = first(server, path).await;
        assert!(
            kind == 3 && data.ends_with(b"exit\n"),
            "{path}: {kind} {}",
            String::from_utf8_lossy(&data)
        );
    }
    // What shim and GRUB look for first and do without: RFC 1350 error 1, and nothing in the machine's row.
    let before = site.node_table().all();
    for path in [
        "revocations.efi",
        "shim_certificate_0.efi",
        "mmx64.efi",
        "MokManager.efi",
        "grub.cfg-01-02-00-00-00-00-09",
        "grub.cfg-7F000001",
    ] {
        assert_eq!(
            first(server, path).await,
            (5, b"\0\x01no such file\0".to_vec()),
            "{path}"
        );
    }
    let after = site.node_table().all();
    assert_eq!(
        (&after[0].message, &after[0].failure),
        (&before[0].message, &before[0].failure)
    );
    let text = site.metrics.text(&Default::default());
    assert!(
        text.contains("recon_tftp_transfers_total{result=\"not_found\"} 6\n"),
        "{text}"
    );
    assert!(
        text.contains("recon_tftp_transfers_total{result=\"refused\"} 0\n"),
        "{text}"
    );
    // The program itself counts by its own name, however it was written.
    assert_eq!(first(server, "SHIMX64.EFI").await.1, b"\0\x01shim");
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while site.metrics.tftp_running.get() > 0 {
        assert!(tokio::time::Instant::now() < end, "the transfer goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    site.node_table()
        .script(here, &Default::default(), RunTime::from_seconds(3.0));
    assert_eq!(site.node_table().all()[0].loader.as_deref(), Some("shimx64.efi"));
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_a_block_and_leaves_at_once_is_not_sent_more_for_long() {
    let (server, site, stop, running) = start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(b"\0\x01ipxe.efi\0octet\0", server).await.unwrap();
    let mut buffer = [0; 600];
    let (_, from) = receive(&socket, &mut buffer).await.unwrap();
    socket.send_to(&[0, 4, 0, 1], from).await.unwrap();
    socket.send_to(b"\0\x05\0\0enough\0", from).await.unwrap();
    // Far less than the half minute after which a silent client counts as gone.
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while site.metrics.tftp_running.get() > 0 {
        assert!(tokio::time::Instant::now() < end, "the transfer goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Requests that nobody goes on with, as of forged senders, from so many ports of an address.
async fn abandon(server: SocketAddr, client: &str, count: usize) -> Vec<UdpSocket> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = UdpSocket::bind((client, 0)).await.unwrap();
        socket.send_to(b"\0\x01ipxe.efi\0octet\0", server).await.unwrap();
        sockets.push(socket);
        // No more at once than the server's socket holds.
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    sockets
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_leaves_half_of_the_transfers_to_others_and_forged_ones_give_way() {
    let _alone = ALONE.lock().await;
    let (server, site, stop, running) = start().await;
    let _held = abandon(server, "127.0.0.2", 600).await;
    let (file, _) = fetch_from("127.0.0.3:0", server, "blksize\x001468\0", 1468, 1, &[]).await;
    assert!(file == content());
    let (busy, now) = (site.metrics.tftp_busy.get(), site.metrics.tftp_running.get());
    assert!((250..=260).contains(&now), "{now} transfers run");
    assert!(busy >= 300, "{busy} were put off");
    // Many addresses take all that are left.
    let mut others = Vec::new();
    for last in 10..210 {
        others.extend(abandon(server, &format!("127.0.0.{last}"), 3).await);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(
        site.metrics.tftp_running.get() >= 400,
        "{} run",
        site.metrics.tftp_running.get()
    );
    let (file, _) = fetch_from("127.0.0.4:0", server, "blksize\x001468\0", 1468, 1, &[]).await;
    assert!(file == content());
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// The same file served by async-tftp, what it lets its server see, and its end.
async fn start_theirs(patience: Duration) -> (SocketAddr, theirs::Seen, JoinHandle<()>) {
    let files = [("ipxe.efi", content()), ("grub.efi", GRUB.to_vec())];
    let shelf = theirs::Shelf::new(
        files
            .map(|(name, bytes)| (name.to_owned(), bytes.into()))
            .into_iter()
            .collect(),
    );
    let seen = Arc::clone(&shelf.seen);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let server = theirs::server(socket, shelf, patience).await.unwrap();
    let running = tokio::spawn(async move { server.serve().await.unwrap() });
    (address, seen, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn async_tftp_and_ours_give_the_same_client_the_same_file() {
    let (ours, _, stop, running) = start().await;
    let (theirs, _, their_running) = start_theirs(Duration::from_millis(200)).await;
    for (options, block, window, lose) in [
        ("", 512, 1, &[][..]),
        ("blksize\x001468\0", 1468, 1, &[]),
        ("blksize\x001468\0windowsize\x0016\0", 1468, 16, &[]),
        ("blksize\x001468\0", 1468, 1, &[2, 9, 10]),
    ] {
        let (from_ours, our_oack) = fetch(ours, options, block, window, lose).await;
        let (from_theirs, their_oack) = fetch(theirs, options, block, window, lose).await;
        assert!(from_ours == content() && from_theirs == content(), "{options:?}");
        assert_eq!(our_oack.to_ascii_lowercase(), their_oack.to_ascii_lowercase());
    }
    their_running.abort();
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Holds what src/service/tftp says of async-tftp. Once this fails, a release of it can what we need: read its changes, and
/// that comment and README's table again.
#[tokio::test(flavor = "multi_thread")]
async fn async_tftp_sends_on_after_an_error() {
    let (server, _, running) = start_theirs(Duration::from_millis(50)).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(b"\0\x01ipxe.efi\0octet\0", server).await.unwrap();
    let mut buffer = [0; 600];
    let (_, from) = receive(&socket, &mut buffer).await.unwrap();
    assert_eq!(&buffer[..4], &[0, 3, 0, 1]);
    socket.send_to(b"\0\x05\0\0enough\0", from).await.unwrap();
    // The first may have crossed the ERROR.
    for _ in 0..3 {
        let (_, again) = receive(&socket, &mut buffer).await.expect("it sends again");
        assert_eq!((&buffer[..4], again), (&[0, 3, 0, 1][..], from));
    }
    running.abort();
}

/// The same about its word on how a transfer ended: there is none.
#[tokio::test(flavor = "multi_thread")]
async fn async_tftp_tells_one_who_took_the_file_and_one_who_left_apart_by_nothing() {
    let (server, seen, running) = start_theirs(Duration::from_millis(20)).await;
    let mut clients = Vec::new();
    for takes in [true, false] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(b"\0\x01grub.efi\0octet\0", server).await.unwrap();
        let mut buffer = [0; 600];
        let (length, from) = receive(&socket, &mut buffer).await.unwrap();
        assert_eq!(&buffer[4..length], GRUB);
        if takes {
            socket.send_to(&[0, 4, 0, 1], from).await.unwrap();
        }
        clients.push(socket);
    }
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while seen.lock().unwrap().iter().filter(|(_, what)| *what == "gone").count() < 2 {
        assert!(tokio::time::Instant::now() < end, "the transfers end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let of = |client: &UdpSocket| {
        let address = client.local_addr().unwrap();
        let seen = seen.lock().unwrap();
        let seen = seen.iter().filter(|(from, _)| *from == address);
        seen.map(|(_, what)| *what).collect::<Vec<_>>()
    };
    assert_eq!(of(&clients[0]), ["read to the end", "gone"]);
    assert_eq!(of(&clients[1]), ["read to the end", "gone"], "though it took nothing");
    running.abort();
}
