//! Asks the name servers of this machine.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::FetchError;
use super::names::{Reply, Resolver, by_turns, in_hosts, question, reply};
use crate::sys::netif;

/// How long a server may take, and how often all of them are asked (resolv.conf(5) has 5 s and 2).
const ANSWER: Duration = Duration::from_secs(3);
const ROUNDS: usize = 2;
/// Longest file of the system's that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// All addresses of a name, in the order in which they are to be tried.
///
/// # Errors
/// There is none, or nobody could be asked.
pub(crate) async fn addresses(name: &str) -> Result<Vec<IpAddr>, FetchError> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let written = in_hosts(&read(Path::new("/etc/hosts")), name);
    if !written.is_empty() {
        return Ok(written);
    }
    let resolver = Resolver::read(&read(Path::new("/etc/resolv.conf")), |name| {
        netif::index_named(Path::new("/sys"), name)
    });
    if resolver.servers.is_empty() {
        return Err(FetchError::Refused(format!(
            "nobody can be asked for the address of {name}: /etc/resolv.conf names no server. A URL with an address needs none"
        )));
    }
    let mut why = FetchError::Refused(format!("there is no host {name}, say the name servers"));
    for candidate in resolver.candidates(name) {
        let (six, four) = tokio::join!(
            ask(&resolver.servers, &candidate, RecordType::AAAA),
            ask(&resolver.servers, &candidate, RecordType::A)
        );
        // A server that is silent about one kind does not hide the other.
        let both = match (six, four) {
            (Err(error), Err(_)) => {
                why = error;
                continue;
            }
            (six, four) => by_turns(six.unwrap_or_default(), four.unwrap_or_default()),
        };
        if !both.is_empty() {
            return Ok(both);
        }
    }
    Err(why)
}

fn read(path: &Path) -> String {
    let read = crate::config::load::small_file(path, MAX_FILE_BYTES).ok().flatten();
    String::from_utf8_lossy(&read.unwrap_or_default()).into_owned()
}

async fn ask(servers: &[SocketAddr], name: &str, kind: RecordType) -> Result<Vec<IpAddr>, FetchError> {
    let asked = question(rand::random(), name, kind);
    let asked = asked.ok_or_else(|| FetchError::Refused(format!("{name} cannot be asked for")))?;
    let mut why = "no name server answers".to_owned();
    for _ in 0..ROUNDS {
        for server in servers {
            let mut heard = timeout(ANSWER, datagram(*server, &asked)).await;
            if matches!(heard, Ok(Ok(Reply::Cut))) {
                heard = timeout(ANSWER, stream(*server, &asked)).await;
            }
            match heard {
                Ok(Ok(Reply::Addresses(found))) => return Ok(found),
                Ok(Ok(Reply::NotKnown(said))) => why = format!("the name server {} answers {said}", server.ip()),
                Ok(Err(error)) => why = format!("the name server {}: {error}", server.ip()),
                Ok(Ok(Reply::Cut | Reply::Other)) | Err(_) => {}
            }
        }
    }
    Err(FetchError::broke(format!("asking for the address of {name}: {why}")))
}

async fn datagram(server: SocketAddr, asked: &[u8]) -> std::io::Result<Reply> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(asked).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match reply(&buffer[..length], asked) {
            Reply::Other => {}
            reply => return Ok(reply),
        }
    }
}

/// RFC 7766: the length in two bytes goes before each message.
async fn stream(server: SocketAddr, asked: &[u8]) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(asked.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), asked].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    Ok(reply(&buffer, asked))
}
