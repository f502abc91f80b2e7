//! Load on TFTP and HTTP servers, whoever wrote them: what `run.py` measures with.
//!
//! ```text
//! netload tftp ADDRESS:PORT NAME BLOCK WINDOW CLIENTS TIMES
//! netload http ADDRESS:PORT PATH CLIENTS TIMES
//! netload hold ADDRESS:PORT PATH CLIENTS SECONDS
//! ```
//! Prints one line of JSON: `bytes`, `seconds`, the mean of the seconds until a client had its own, and what failed.

// Its answer is standard output, and nobody else writes words into it.
#![allow(clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What went wrong, in words.
type Done<T> = Result<T, String>;

trait Saying<T> {
    fn saying(self, what: &str) -> Done<T>;
}

impl<T, E: std::fmt::Display> Saying<T> for Result<T, E> {
    fn saying(self, what: &str) -> Done<T> {
        self.map_err(|error| format!("{what}: {error}"))
    }
}

fn main() -> Done<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().saying(text);
    match words.as_slice() {
        ["tftp", server, name, block, window, clients, times] => {
            let (server, name) = (server.parse().saying(server)?, (*name).to_owned());
            let (block, window, times) = (number(block)?, number(window)?, number(times)?);
            crowd(number(clients)?, move || {
                let mut bytes = 0;
                for _ in 0..times {
                    bytes += tftp(server, &name, block, window)?;
                }
                Ok(bytes)
            })
        }
        ["http", server, path, clients, times] => {
            let (server, path, times): (SocketAddr, _, _) =
                (server.parse().saying(server)?, (*path).to_owned(), number(times)?);
            crowd(number(clients)?, move || {
                let mut bytes = 0;
                for _ in 0..times {
                    bytes += http(server, &path)?;
                }
                Ok(bytes)
            })
        }
        ["hold", server, path, clients, seconds] => {
            hold(server.parse().saying(server)?, path, number(clients)?, number(seconds)?)
        }
        _ => Err("netload tftp|http|hold …: see the top of benches/net/load.rs".to_owned()),
    }
}

/// Runs `work` in as many threads at once and prints what all of them fetched.
fn crowd(clients: usize, work: impl Fn() -> Done<u64> + Send + Sync + 'static) -> Done<()> {
    let (work, bytes) = (Arc::new(work), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let (work, bytes) = (Arc::clone(&work), Arc::clone(&bytes));
            std::thread::spawn(move || {
                bytes.fetch_add(work()?, Ordering::Relaxed);
                Done::Ok(begun.elapsed().as_secs_f64())
            })
        })
        .collect();
    let (mut failure, mut waits) = (String::new(), 0.0);
    for thread in threads {
        match thread.join().map_err(|_| "a client panicked".to_owned())? {
            Ok(wait) => waits += wait,
            Err(error) => failure = error,
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{{\"bytes\": {}, \"seconds\": {seconds}, \"mean_seconds\": {}, \"failure\": {failure:?}}}",
        bytes.load(Ordering::Relaxed),
        waits / clients.max(1) as f64
    );
    Ok(())
}

/// One file, by the book; acknowledges at the end of a window, and repeats itself after half a second of silence.
fn tftp(server: SocketAddr, name: &str, block: usize, window: usize) -> Done<u64> {
    let socket = UdpSocket::bind("0.0.0.0:0").saying("a socket")?;
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .saying("a time-out")?;
    let mut request = format!("\0\x01{name}\0octet\0");
    if block != 512 {
        request.push_str(&format!("blksize\0{block}\0"));
    }
    if window > 1 {
        request.push_str(&format!("windowsize\0{window}\0"));
    }
    socket.send_to(request.as_bytes(), server).saying("sending")?;
    let mut buffer = vec![0; block + 4];
    let (mut have, mut in_window, mut bytes, mut silent) = (0u64, 0, 0, 0);
    let mut last: Option<SocketAddr> = None;
    let mut agreed = 1;
    loop {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(_) if silent < 20 => {
                silent += 1;
                match last {
                    Some(from) => socket.send_to(&[0, 4, (have >> 8) as u8, have as u8], from),
                    None => socket.send_to(request.as_bytes(), server),
                }
                .saying("sending")?;
                continue;
            }
            Err(error) => return Err(error).saying("TFTP: nothing for ten seconds"),
        };
        if last.is_some_and(|last| last != from) {
            continue;
        }
        last = Some(from);
        let acknowledge = |number: u64| {
            let sent = socket.send_to(&[0, 4, (number >> 8) as u8, number as u8], from);
            sent.saying("acknowledging")
        };
        match buffer[1] {
            // An option the server does not know is missing here, and then the window is one block.
            6 => {
                let text = String::from_utf8_lossy(&buffer[2..length]).to_lowercase();
                if text.contains("windowsize") {
                    agreed = window;
                }
                acknowledge(0)?;
            }
            3 if u16::from_be_bytes([buffer[2], buffer[3]]) == (have + 1) as u16 => {
                (have, in_window, silent) = (have + 1, in_window + 1, 0);
                bytes += (length - 4) as u64;
                let end = length - 4 < block;
                if end || in_window >= agreed {
                    in_window = 0;
                    acknowledge(have)?;
                }
                if end {
                    return Ok(bytes);
                }
            }
            3 => in_window = 0,
            5 => return Err(format!("TFTP error: {}", String::from_utf8_lossy(&buffer[4..length]))),
            _ => {}
        }
    }
}

/// Sends a request and reads the head; returns the length of the body and what of it came along.
fn request(server: SocketAddr, path: &str) -> Done<(TcpStream, u64, u64)> {
    let mut stream = TcpStream::connect(server).saying("connecting")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).saying("asking")?;
    let (mut head, mut buffer) = (Vec::new(), [0; 2048]);
    loop {
        let read = stream.read(&mut buffer).saying("reading the head")?;
        if read == 0 {
            return Err("HTTP: closed within the head".to_owned());
        }
        head.extend_from_slice(&buffer[..read]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&head[..end]).to_lowercase();
            if !text.contains(" 200 ") {
                return Err(format!("HTTP: {}", text.lines().next().unwrap_or_default()));
            }
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .ok_or("no length")?;
            return Ok((
                stream,
                length.trim().parse().saying(length)?,
                (head.len() - end - 4) as u64,
            ));
        }
    }
}

fn http(server: SocketAddr, path: &str) -> Done<u64> {
    let (mut stream, length, mut have) = request(server, path)?;
    let mut buffer = vec![0; 256 * 1024];
    while have < length {
        match stream.read(&mut buffer).saying("reading")? {
            0 => return Err(format!("HTTP: closed after {have} of {length} bytes")),
            read => have += read as u64,
        }
    }
    Ok(have)
}

/// Opens as many downloads, takes a little of each every second, and then closes them.
fn hold(server: SocketAddr, path: &str, clients: usize, seconds: usize) -> Done<()> {
    let begun = Instant::now();
    let mut open = Vec::new();
    for _ in 0..clients {
        let (stream, _, _) = request(server, path)?;
        stream.set_nonblocking(true).saying("a socket")?;
        open.push(stream);
    }
    println!("holding {}", open.len());
    let (mut bytes, mut buffer) = (0, vec![0; 64 * 1024]);
    while begun.elapsed() < Duration::from_secs(seconds as u64) {
        for stream in &mut open {
            bytes += stream.read(&mut buffer).unwrap_or(0) as u64;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    println!(
        "{{\"bytes\": {bytes}, \"seconds\": {}, \"failure\": \"\"}}",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}
