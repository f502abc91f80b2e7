//! Fetches what a script wants started into memory, checks it, and has the kernel take it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::machine;
use super::plan::{self, Sum};
use super::session::Session;
use crate::formats::bytes::hex;
use crate::formats::{boot_image, cpio};
use crate::model::console::console;
use crate::model::start_report::StartedFile;
use crate::model::{BootMethod, shown};
use crate::probe::text::decimal_size;
use crate::service::boot_script::{Initrd, Plan};
use crate::service::fetch::client::{PEEK_BYTES, Piece};
use crate::sys::kexec;

/// How often a download says how far it is.
const TELL: Duration = Duration::from_secs(5);
/// Longest single file: what an initrd's length in the kernel's boot header can say.
const MAX_FILE_BYTES: u64 = u32::MAX as u64;
/// After so many bytes it is looked again whether what is here leaves room for loading it: a server need not say how much comes, and others
/// take memory meanwhile.
const LOOK_BYTES: u64 = 1 << 20;

/// Bytes that programs may take; `None`: nobody knows.
pub(super) type Available<'a> = &'a dyn Fn() -> Option<u64>;

/// Files in memory, whole and checked.
pub(super) struct Ready {
    kernel: File,
    initrd: Option<File>,
    command_line: String,
    /// What it is made of: the kernel, and the initrds in their order.
    pub(super) files: Vec<StartedFile>,
}

/// One download on its way into a file in memory.
struct Sink<'a> {
    name: &'a str,
    file: &'a File,
    start: u64,
    at: u64,
    total: Option<u64>,
    digest: Sha256,
    told: Instant,
    /// Bytes of the files before it.
    held: u64,
    available: Available<'a>,
    /// With so many bytes of this one it is looked next.
    look_at: u64,
}

impl Sink<'_> {
    fn take(&mut self, piece: Piece<'_>) -> io::Result<()> {
        match piece {
            Piece::Anew => {
                self.file.set_len(self.start)?;
                (self.at, self.digest, self.look_at) = (self.start, Sha256::new(), 0);
            }
            Piece::Bytes(bytes) => {
                self.fits()?;
                self.file.write_all_at(bytes, self.at)?;
                self.at += bytes.len() as u64;
                self.digest.update(bytes);
            }
        }
        if self.told.elapsed() >= TELL {
            self.told = Instant::now();
            let total = self
                .total
                .map(|total| format!(" of {}", decimal_size(total)))
                .unwrap_or_default();
            console!("{}: {}{total}", self.name, decimal_size(self.at - self.start));
        }
        Ok(())
    }
}

impl Sink<'_> {
    /// # Errors
    /// It could not be loaded with what is here by now, and with what is known to come.
    fn fits(&mut self) -> io::Result<()> {
        let have = self.at - self.start;
        if have < self.look_at {
            return Ok(());
        }
        self.look_at = have + LOOK_BYTES;
        let files = self.held + self.total.unwrap_or_default().max(have);
        let Some(why) = plan::memory(files, self.held + have, (self.available)()).refusal() else {
            return Ok(());
        };
        let unsaid = match self.total {
            Some(_) => "",
            None => "; more of it comes, and its server does not say how much",
        };
        Err(io::Error::other(format!("{why}{unsaid}")))
    }
}

fn told(error: &io::Error) -> String {
    format!("keeping it in memory: {error}")
}

/// What is fetched by.
struct Fetching<'a> {
    session: &'a Session,
    sums: &'a [Sum],
    available: Available<'a>,
}

impl Fetching<'_> {
    /// Fetches one image to `start` of a file in memory, beside `held` bytes of others, holds it against the sums of its name, and gives
    /// what came: its length too.
    async fn fetched(
        &self,
        (image, url): (usize, &str),
        name: &str,
        file: &File,
        start: u64,
        held: u64,
    ) -> Result<StartedFile, String> {
        let found = self.session.found(image).ok_or("it was never found")?;
        let mut sink = Sink {
            name,
            file,
            start,
            at: start,
            total: found.seen.bytes(),
            digest: Sha256::new(),
            told: Instant::now(),
            held,
            available: self.available,
            look_at: 0,
        };
        let length = self
            .session
            .client()
            .download(&found.target, &found.form, MAX_FILE_BYTES, |piece| sink.take(piece))
            .await;
        let length = length.map_err(|error| error.to_string())?;
        let sum: [u8; 32] = sink.digest.finalize().into();
        let own = hex(&sum);
        console!("{name}: {}, SHA-256 {own}", decimal_size(length));
        let wanted = plan::sums_of(self.sums, name, url);
        match wanted.iter().find(|wanted| wanted.sha256 != sum) {
            None => Ok(StartedFile::new(name, length, &sum)),
            Some(wanted) => Err(format!(
                "it has another SHA-256 than it should: {own}, not {}",
                hex(&wanted.sha256)
            )),
        }
    }
}

fn head(file: &File, start: u64) -> Result<Vec<u8>, String> {
    let mut head = vec![0; PEEK_BYTES];
    let length = file.read_at(&mut head, start).map_err(|error| told(&error))?;
    head.truncate(length);
    Ok(head)
}

/// All that the script wants started, whole.
///
/// # Errors
/// What stands against it, in words.
pub(super) async fn fetch(
    session: &Session,
    wanted: &Plan,
    sums: &[Sum],
    available: Available<'_>,
) -> Result<Ready, String> {
    let fetching = Fetching {
        session,
        sums,
        available,
    };
    let (seen, by) = (|image| session.seen(image), BootMethod::Kexec);
    let boot = plan::boot(wanted, seen, sums, available(), by);
    if !boot.problems.is_empty() {
        return Err(boot.problems.join("; "));
    }
    let named = |name: &str, why: String| format!("{name}: {why}");
    let kernel = kexec::memory_file("kernel").map_err(|error| told(&error))?;
    let first = whole_kernel(&fetching, wanted, &kernel)
        .await
        .map_err(|why| named(&boot.kernel.name, why))?;
    let (mut held, mut files) = (first.bytes, vec![first]);
    let mut initrd = None;
    if !wanted.initrds.is_empty() {
        let file = kexec::memory_file("initrd").map_err(|error| told(&error))?;
        let mut end = 0;
        for wanted in &wanted.initrds {
            let name = shown::line(&wanted.name);
            let (next, came) = one_initrd(&fetching, wanted, &file, end, held)
                .await
                .map_err(|why| named(&name, why))?;
            end = next;
            files.push(came);
        }
        held += end;
        initrd = Some(kexec::read_only(file).map_err(|error| told(&error))?);
    }
    let kernel = kexec::read_only(kernel).map_err(|error| told(&error))?;
    match plan::memory(held, held, available()).refusal() {
        Some(why) => Err(why),
        None => Ok(Ready {
            kernel,
            initrd,
            command_line: wanted.command_line.clone(),
            files,
        }),
    }
}

/// Fetches the kernel, and looks at it once it is whole.
async fn whole_kernel(fetching: &Fetching<'_>, wanted: &Plan, file: &File) -> Result<StartedFile, String> {
    let image = (wanted.kernel, wanted.url.as_str());
    let came = fetching
        .fetched(image, plan::last_part(&wanted.url), file, 0, 0)
        .await?;
    let read = boot_image::kernel(&head(file, 0)?)?;
    let problems = plan::unfit(&read, Some(came.bytes), &wanted.command_line);
    match problems.into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(came),
    }
}

/// Puts one more archive behind the others, beside a kernel of so many bytes, and gives where the next one begins, and what came.
async fn one_initrd(
    fetching: &Fetching<'_>,
    wanted: &Initrd,
    file: &File,
    start: u64,
    kernel_bytes: u64,
) -> Result<(u64, StartedFile), String> {
    let header = |size| match &wanted.place {
        Some(place) => cpio::before_file(&place.path, place.mode, place.folders, size),
        None => Ok(Vec::new()),
    };
    // As long as the one with the true size, which comes when it is known.
    let before = header(0).map_err(|error| error.to_string())?;
    let content = start + before.len() as u64;
    let image = (wanted.image, wanted.url.as_str());
    let held = kernel_bytes + start;
    let came = fetching.fetched(image, &wanted.name, file, content, held).await?;
    let mut end = content + came.bytes;
    let put = |bytes: &[u8], at: u64| file.write_all_at(bytes, at).map_err(|error| told(&error));
    if wanted.place.is_some() {
        put(&header(came.bytes).map_err(|error| error.to_string())?, start)?;
        put(&[cpio::padding(end), &cpio::trailer()].concat(), end)?;
        end = end.next_multiple_of(4) + cpio::trailer().len() as u64;
    } else {
        boot_image::initrd(&head(file, content)?)?;
    }
    put(cpio::padding(end), end)?;
    Ok((end + cpio::padding(end).len() as u64, came))
}

/// Has the kernel take it.
///
/// # Errors
/// Why it does not, and what helps.
pub(super) fn take_in(ready: &Ready) -> Result<(), String> {
    kexec::load(&ready.kernel, ready.initrd.as_ref(), &ready.command_line).map_err(|error| {
        let why = machine::kexec_facts().refusal(error.raw_os_error().unwrap_or_default());
        format!("{why} ({error})")
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::session::Came;
    use super::*;
    use crate::formats::boot_image::tests::bzimage;
    use crate::service::fetch::client::{Client, Patience};
    use crate::service::fetch::proxy::Proxies;
    use crate::service::fetch::tls;
    use crate::service::fetch::url::Target;

    /// More than any file here has.
    pub(in super::super) const WHOLE: usize = 1 << 20;

    /// A server of files; each connection breaks after so many bytes.
    pub(in super::super) async fn serve(files: HashMap<&'static str, Vec<u8>>, breaks_after: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let files = Arc::new(files);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let Some(file) = files.get(path) else {
                    stream
                        .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                        .await
                        .ok();
                    continue;
                };
                let asked = request
                    .split_once("range: bytes=")
                    .and_then(|(_, range)| range.split('-').next()?.parse().ok());
                let (first, last, total) = (asked.unwrap_or(0), file.len() - 1, file.len());
                let mut answer = format!(
                    "HTTP/1.1 206 Partial Content\r\nETag: \"{total}\"\r\nContent-Range: bytes {first}-{last}/{total}\r\nContent-Length: {}\r\n\r\n",
                    total - first
                );
                if !request.contains("range:") {
                    answer = format!("HTTP/1.1 200 OK\r\nETag: \"{total}\"\r\nContent-Length: {total}\r\n\r\n");
                }
                let mut bytes = [answer.as_bytes(), &file[first..]].concat();
                bytes.truncate(answer.len() + breaks_after);
                stream.write_all(&bytes).await.ok();
                stream.shutdown().await.ok();
            }
        });
        base
    }

    fn files() -> HashMap<&'static str, Vec<u8>> {
        let script = b"#!ipxe\nkernel linux a=b\ninitrd one.img\ninitrd extra /etc/extra mode=600 mkdir=1\ninitrd --name two one.img?2\nboot\n";
        HashMap::from([
            ("/boot.ipxe", script.to_vec()),
            ("/linux", bzimage()),
            ("/one.img", b"070701one".to_vec()),
            ("/one.img?2", b"070702two!".to_vec()),
            ("/extra", b"<html>anything".to_vec()),
        ])
    }

    pub(in super::super) async fn session(base: &str) -> Session {
        let patience = Patience {
            scale: 0.0,
            ..Patience::USUAL
        };
        let client = Client {
            tls: tls::config(Some(b""), &[]).unwrap(),
            proxies: Proxies::default(),
            headers: None,
            bearer: None,
            patience,
        };
        let target = Target::read(&format!("{base}/boot.ipxe")).unwrap();
        Session::begin(client, &target, true).await.unwrap()
    }

    async fn run(files: HashMap<&'static str, Vec<u8>>, breaks_after: usize, sums: &[Sum]) -> Result<Ready, String> {
        let base = serve(files, breaks_after).await;
        let mut session = session(&base).await;
        let Ok(Came::Boot(wanted)) = session.next(None).await else {
            panic!("{:?}", session.said)
        };
        fetch(&session, &wanted, sums, &machine::available_bytes).await
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; 10_000];
        let length = file.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(length);
        bytes
    }

    #[tokio::test]
    #[cfg(target_arch = "x86_64")]
    async fn archives_follow_one_another_in_the_kernels_way() {
        for breaks_after in [WHOLE, 1000, 700] {
            // The script itself is read in one piece.
            let ready = run(files(), breaks_after, &[])
                .await
                .unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(content(&ready.kernel), bzimage());
            assert_eq!(ready.command_line, "a=b");
            let archive = content(ready.initrd.as_ref().unwrap());
            assert!(archive.len().is_multiple_of(4) && archive.starts_with(b"070701one\x00\x00\x00070701"));
            let expected = [
                &b"070701one\x00\x00\x00"[..],
                &cpio::before_file("etc/extra", 0o600, 1, 14).unwrap(),
                b"<html>anything\0\0",
                &cpio::trailer(),
                b"070702two!\0\0",
            ]
            .concat();
            assert_eq!(archive, expected);
        }
    }

    /// A file of which nobody says how long it is, as a script on a server may send it.
    async fn serve_unsaid(file: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/main.img", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let file = file.clone();
                tokio::spawn(async move {
                    let mut request = vec![0; 4096];
                    assert!(stream.read(&mut request).await.unwrap() > 0);
                    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                    stream.write_all(head).await.ok();
                    for piece in file.chunks(100_000) {
                        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                        if stream.write_all(&chunk).await.is_err() {
                            return;
                        }
                    }
                    stream.write_all(b"0\r\n\r\n").await.ok();
                });
            }
        });
        url
    }

    #[tokio::test]
    #[cfg(target_arch = "x86_64")]
    async fn a_file_of_unknown_length_ends_where_it_could_not_be_loaded() {
        let mut file = b"070701".to_vec();
        file.resize(12_000_000, 0);
        let url = serve_unsaid(file).await;
        let script = format!("#!ipxe\nkernel linux\ninitrd {url}\nboot\n");
        let files = HashMap::from([("/boot.ipxe", script.into_bytes()), ("/linux", bzimage())]);
        let base = serve(files, WHOLE).await;
        for (available, fits) in [(40_000_000, true), (20_000_000, false), (1_000, false)] {
            let mut session = session(&base).await;
            let Ok(Came::Boot(wanted)) = session.next(None).await else {
                panic!("{:?}", session.said)
            };
            let looked = std::cell::Cell::new(0_u64);
            let available = || {
                looked.set(looked.get() + 1);
                Some(available)
            };
            let ready = fetch(&session, &wanted, &[], &available).await;
            assert!(looked.get() < 25, "{}", looked.get());
            match ready {
                Ok(ready) => assert!(fits && content(ready.initrd.as_ref().unwrap()).starts_with(b"070701")),
                Err(why) if looked.get() == 1 => assert!(!fits && why.starts_with("too little memory"), "{why}"),
                Err(why) => {
                    // 3.1 times 6.5 MB are too much: it does not come whole before that is seen.
                    assert!(!fits, "{why}");
                    assert!(
                        why.starts_with("main.img: it cannot be kept: too little memory: "),
                        "{why}"
                    );
                    assert!(
                        why.ends_with("more of it comes, and its server does not say how much"),
                        "{why}"
                    );
                    assert!(looked.get() <= 10, "{}", looked.get());
                }
            }
        }
    }

    #[tokio::test]
    #[cfg(target_arch = "x86_64")]
    async fn a_kernel_of_unknown_length_that_lacks_its_end_is_not_loaded() {
        let mut kernel = bzimage();
        // One paragraph more than there is.
        kernel[0x1f4] = 1;
        let script = format!("#!ipxe\nkernel {}\nboot\n", serve_unsaid(kernel).await);
        let base = serve(HashMap::from([("/boot.ipxe", script.into_bytes())]), WHOLE).await;
        let mut session = session(&base).await;
        let Ok(Came::Boot(wanted)) = session.next(None).await else {
            panic!("{:?}", session.said)
        };
        let why = fetch(&session, &wanted, &[], &|| None).await.err().unwrap();
        assert_eq!(
            why,
            "main.img: the kernel is cut short: by its own head it has 1040 bytes, and its file has 1024"
        );
    }

    #[tokio::test]
    #[cfg(target_arch = "x86_64")]
    async fn what_is_not_what_it_should_be_is_not_loaded() {
        let sum = |name: &str, bytes: &[u8]| {
            let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{name}={hex}").parse::<Sum>().unwrap()
        };
        // By the name that the script gives, or by the URL's.
        let right = [
            sum("linux", &bzimage()),
            sum("one.img", &files()["/one.img"]),
            sum("extra", &files()["/extra"]),
            sum("two", &files()["/one.img?2"]),
        ];
        assert!(run(files(), WHOLE, &right).await.is_ok());
        for (wrong, name) in [(0, "linux"), (1, "one.img"), (2, "extra"), (3, "two")] {
            let mut sums = right.clone();
            sums[wrong] = sum(name, b"another");
            let why = run(files(), WHOLE, &sums).await.err().unwrap();
            assert!(
                why.starts_with(&format!("{name}: it has another SHA-256 than it should: ")),
                "{why}"
            );
            // That of "another", which sha256sum names as well.
            let given = "ae448ac86c4e8e4dec645729708ef41873ae79c6dff84eff73360989487f08e5";
            assert!(why.ends_with(&format!(", not {given}")), "{why}");
        }
        // One that is right does not hide one of the same name that is not.
        let twice = [&right[..], &[sum("linux", b"another")]].concat();
        let why = run(files(), WHOLE, &twice).await.err().unwrap();
        assert_eq!(why, "two sums are given for linux, and no file has both");
        let other = run(files(), WHOLE, &[&right[..], &[sum("vmlinuz", &bzimage())]].concat())
            .await
            .err()
            .unwrap();
        assert_eq!(other, "no file is called vmlinuz; there are linux, one.img, extra, two");
        let bare = run(files(), WHOLE, &right[..3]).await;
        assert!(bare.is_err_and(|why| why.starts_with("two: it has another SHA-256")));
        let bare = run(files(), WHOLE, &[&right[..2], &right[3..]].concat()).await;
        assert!(bare.is_err_and(|why| why == "no sum is given for extra"));
        let mut page = files();
        page.insert("/one.img", b"<html><title>Sign in</title>".to_vec());
        let page = run(page, WHOLE, &[]).await.err().unwrap();
        assert_eq!(page, "one.img: it is no initrd but a web page (HTML): \"Sign in\"");
    }
}
