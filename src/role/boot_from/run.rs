//! Runs `recon boot-from`, and tells what came of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::asked::{Config, WantedEnd};
use super::last_report;
use super::load::{self, Ready};
use super::look::{IMPATIENT, look};
use super::machine;
use super::session::{Came, Session, are_enough};
use super::way::{Way, client};
use crate::model::BootMethod;
use crate::model::console::console;
use crate::model::start_report::StartedFile;
use crate::service::fetch::client::Patience;
use crate::stick::medium;
use crate::sys::{kexec, power};

/// Before the same kernel is fetched once more.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// For whoever reads why a machine starts again.
pub(crate) const READING: Duration = Duration::from_secs(10);

/// No other try changes it: this machine's kernel does not start another one, or not what it is given.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct KernelRefuses(String);

/// How that ended, where it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is as far as it was to go, or this machine is on its way: by systemd, or by its firmware.
    Started,
    /// There is nothing to start: this machine's own disk has its turn.
    LocalDisk,
}

/// Starts what the script says, or goes as far on the way as is wanted. Returns also where this machine is to be left to its disk, which is said.
pub(crate) async fn boot(config: &Config) -> anyhow::Result<()> {
    boot_to_end(config, &mut None).await.map(drop)
}

/// The same for whoever can have the disk started. What is put into `held` is for the next try with these settings.
pub(crate) async fn boot_to_end(config: &Config, held: &mut Option<Way>) -> anyhow::Result<Ended> {
    if config.end == WantedEnd::Started && !config.is_agreed && !is_for_this() {
        bail!(
            "this would end everything that runs on this machine, without asking anybody: --yes says that this is meant, --plan \
             shows what would be started, --verify fetches and checks it, --no-jump only loads it"
        );
    }
    if config.method == BootMethod::Reboot {
        return start_again(config, held_way(config, held, IMPATIENT)?).await;
    }
    let take: fn(&Ready) -> Result<(), String> = match config.end {
        WantedEnd::Verified => |_| Ok(()),
        WantedEnd::Loaded | WantedEnd::Started => {
            let kexec = machine::kexec_facts();
            if !kexec.is_root || !kexec.verdict().is_possible {
                let why = kexec.verdict().notes.join("; ");
                bail!(KernelRefuses(format!("no other kernel can be started here: {why}")));
            }
            load::take_in
        }
    };
    let (target, client) = held_way(config, held, Patience::USUAL)?;
    let mut session = Session::begin(Arc::clone(client), target, true).await?;
    session.until = config.script_patience.map(|time| tokio::time::Instant::now() + time);
    let files = match take_in(&mut session, config, take, REFUSED_PAUSE).await? {
        Taken::In(files) => files,
        Taken::Nothing => {
            console!("{LEFT}");
            return Ok(Ended::LocalDisk);
        }
    };
    match config.end {
        WantedEnd::Started => return start(&session, files, last_report::ANSWER, kexec::start).await,
        WantedEnd::Loaded => {
            console!("it is loaded: `systemctl kexec` starts it, after stopping what runs, and `kexec -e` at once")
        }
        WantedEnd::Verified => {
            let compared = match session.sums(&config.sums).is_empty() {
                true => "no sum was given to hold them against",
                false => "their sums are right",
            };
            console!(
                "every file came, as long as its server says, and looks as it should; {compared}. Nothing was loaded"
            );
        }
    }
    Ok(Ended::Started)
}

/// Starts what is loaded, once a recon master whose script it is knows of it, or does not answer in time.
async fn start(
    session: &Session,
    files: Vec<StartedFile>,
    answer: Duration,
    jump: impl AsyncFnOnce() -> io::Result<()>,
) -> anyhow::Result<Ended> {
    last_report::tell(session, files, answer).await;
    console!("starting it");
    jump().await.context("starting what was loaded")?;
    Ok(Ended::Started)
}

fn held_way<'a>(config: &Config, held: &'a mut Option<Way>, patience: Patience) -> anyhow::Result<&'a Way> {
    let way = match held.take() {
        Some(way) => way,
        None => client(config, patience)?,
    };
    Ok(held.insert(way))
}

/// Leaves the start to the firmware.
async fn start_again(config: &Config, way: &Way) -> anyhow::Result<Ended> {
    look(config, way).await?;
    console!(
        "all that the boot script names is there. Nothing is started from here (method reboot): in {} s this machine starts again, and its \
         firmware goes by its own order of boot devices",
        READING.as_secs()
    );
    restart_after(READING).await?;
    Ok(Ended::Started)
}

/// Starts this machine again, once somebody had the time to read why.
pub(crate) async fn restart_after(time: Duration) -> anyhow::Result<()> {
    tokio::time::sleep(time).await;
    power::reboot().await.context("starting this machine again")
}

/// What is said where this machine's own disk is what has to start.
const LEFT: &str =
    "assisted-service has nothing to start here: this machine is installed, or about to be. It boots from its disk";

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// These files.
    In(Vec<StartedFile>),
    Nothing,
}

/// Has the kernel take what the script wants started; what it does not take is told the script, which may know another way.
async fn take_in(
    session: &mut Session,
    config: &Config,
    take_in: impl Fn(&Ready) -> Result<(), String>,
    pause: Duration,
) -> anyhow::Result<Taken> {
    let mut failed: Option<Refused> = None;
    let mut refused: Vec<String> = Vec::new();
    loop {
        let came = session.next(failed.as_ref().map(|last| last.why.clone())).await;
        let end = match came {
            Ok(Came::Boot(wanted)) => Ok(wanted),
            Ok(Came::LocalDisk) => return Ok(Taken::Nothing),
            // A plan in JSON knows no other way.
            Ok(Came::Exit(0)) if session.is_plan => Err(anyhow!("the plan cannot be started")),
            Ok(Came::Exit(0)) => Err(anyhow!("the boot script ended, and wants nothing started")),
            Ok(Came::Exit(code)) => Err(anyhow!("the boot script ended with the error {code}")),
            Ok(Came::Shell) => Err(anyhow!("the boot script wants a shell opened: that is left to you")),
            Ok(Came::Reboot) => Err(anyhow!(
                "the boot script wants this machine rebooted: that is left to you"
            )),
            Ok(Came::PowerOff) => Err(anyhow!(
                "the boot script wants this machine switched off: that is left to you"
            )),
            Err(error) => Err(error),
        };
        let mut wanted = end.map_err(|error| ended(error, failed.as_ref(), session.has_missed))?;
        config.append_to(&mut wanted.command_line);
        if refused.contains(&wanted.url) {
            tokio::time::sleep(pause).await;
        }
        let ready = load::fetch(session, &wanted, &session.sums(&config.sums), &machine::available_bytes).await;
        let (why, is_of_kernel) = match ready {
            Ok(ready) => match take_in(&ready) {
                Ok(()) => return Ok(Taken::In(ready.files)),
                Err(why) => (why, true),
            },
            Err(why) => (why, false),
        };
        refused.push(wanted.url);
        if are_enough(&refused) {
            let tries = refused.len();
            let why = format!("what the boot script wants started does not: {why} ({tries} tries)");
            match is_of_kernel {
                true => bail!(KernelRefuses(why)),
                false => bail!("{why}"),
            }
        }
        failed = Some(Refused { why, is_of_kernel });
    }
}

/// What did not start last.
struct Refused {
    why: String,
    is_of_kernel: bool,
}

/// How a script ended that nothing came of. Where this kernel refused what it wanted started, and another way was not looked for in vain,
/// the next try comes to the same.
fn ended(error: anyhow::Error, last: Option<&Refused>, has_missed: bool) -> anyhow::Error {
    let Some(last) = last else { return error };
    let mut why = format!("{error:#}");
    // The script may have ended by just that.
    if !why.contains(&last.why) {
        why += &format!("; what it wanted started did not: {}", last.why);
    }
    match last.is_of_kernel && !has_missed {
        true => KernelRefuses(why).into(),
        false => anyhow!(why),
    }
}

/// Whether starting something else is what this system is there for: process 1 of a first stage, or a live image.
fn is_for_this() -> bool {
    std::process::id() == 1 || medium::is_live()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::load::tests::{WHOLE, serve, session};
    use super::super::look::plan;
    use super::*;
    use crate::formats::boot_image::tests::bzimage;
    use crate::model::start_report::StartReport;

    /// A server that answers every path with what `answer` gives, and where it writes down what it was asked. Where that is nothing, it says
    /// nothing, and the connection stays.
    async fn witness<A: Into<Vec<u8>>>(
        answer: impl Fn(&str) -> A + Send + 'static,
    ) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = request(&mut stream).await;
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                kept.lock().unwrap().push(request);
                let answer: Vec<u8> = answer(&path).into();
                if answer.is_empty() {
                    silent.push(stream);
                    continue;
                }
                stream.write_all(&answer).await.ok();
                stream.shutdown().await.ok();
            }
        });
        (base, asked)
    }

    /// One request, with its body.
    async fn request(stream: &mut TcpStream) -> String {
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 4096]);
        loop {
            let length = stream.read(&mut piece).await.unwrap();
            bytes.extend_from_slice(&piece[..length]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let lower = text.to_ascii_lowercase();
            let body = lower
                .split_once("content-length: ")
                .and_then(|(_, rest)| rest.lines().next()?.parse().ok());
            let is_whole = lower
                .split_once("\r\n\r\n")
                .is_some_and(|(_, came)| came.len() >= body.unwrap_or(0));
            if is_whole || length == 0 {
                return text;
            }
        }
    }

    /// What a recon master is told, in its order with the start itself, and how long all of that took.
    async fn started(master: &'static str, report_answer: &'static str) -> (Vec<String>, Duration) {
        let (base, asked) = witness(move |path| match path {
            "/boot.ipxe" => {
                let script = "#!ipxe\nkernel /vm/linux?token=s3cret quiet\ninitrd --name first /one.img\nboot\n";
                page(script).replacen("\r\n", &format!("\r\n{master}"), 1).into_bytes()
            }
            "/api/v1/starts" => report_answer.into(),
            "/one.img" => page("070701").into_bytes(),
            _ => [page_head(bzimage().len()).into_bytes(), bzimage()].concat(),
        })
        .await;
        let mut session = session(&base).await;
        let taken = take_in(&mut session, &Config::default(), |_| Ok(()), Duration::ZERO).await;
        let Taken::In(files) = taken.unwrap() else {
            panic!("nothing")
        };
        let began = std::time::Instant::now();
        let jump = async || {
            asked.lock().unwrap().push("the start".to_owned());
            Ok(())
        };
        let ended = start(&session, files, Duration::from_millis(300), jump).await;
        assert_eq!(ended.unwrap(), Ended::Started);
        let asked = asked.lock().unwrap().clone();
        let is_late = |request: &&String| request.contains(" /api/") || *request == "the start";
        (asked.iter().filter(is_late).cloned().collect(), began.elapsed())
    }

    #[tokio::test]
    #[cfg(target_arch = "x86_64")]
    async fn a_master_knows_what_is_started_before_that_starts() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let (told, _) = started("Server: recon/0.1.0\r\n", ok).await;
        let [report, start] = &told[..] else { panic!("{told:?}") };
        assert_eq!(start, "the start");
        assert!(report.starts_with("POST /api/v1/starts HTTP/1.1\r\n"), "{report}");
        assert!(!report.contains("s3cret"), "{report}");
        let body = report.split_once("\r\n\r\n").unwrap().1;
        let report = StartReport::read(body.as_bytes()).unwrap();
        let hex = |bytes: &[u8]| -> String {
            use sha2::Digest;
            sha2::Sha256::digest(bytes)[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        let kernel = bzimage();
        let expected = [("linux", &kernel[..]), ("first", b"070701")];
        let said: Vec<_> = report
            .files
            .iter()
            .map(|file| (file.name.as_str(), file.bytes, file.sha256_head.clone()))
            .collect();
        assert_eq!(
            said,
            expected.map(|(name, bytes)| (name, bytes.len() as u64, hex(bytes)))
        );
        // Another server is told nothing.
        for other in ["", "Server: nginx/1.26\r\n"] {
            assert_eq!(started(other, ok).await.0, ["the start"]);
        }
    }

    /// Anybody may, wherever it is: nothing of this machine is needed.
    #[tokio::test]
    #[cfg(target_arch = "x86_64")]
    async fn what_is_verified_is_fetched_whole_and_not_started() {
        let sums = |hex: &str| {
            ["linux", "one.img"]
                .map(|name| format!("{name}={hex}").parse().unwrap())
                .to_vec()
        };
        for (sums, initrd, words) in [
            (Vec::new(), &b"070701"[..], ""),
            (sums(&"0".repeat(64)), b"070701", "linux: it has another SHA-256"),
            (Vec::new(), b"<html>", "it is no initrd but a web page (HTML)"),
        ] {
            let script = b"#!ipxe\nkernel linux\ninitrd one.img\nboot\n".to_vec();
            let files = HashMap::from([
                ("/boot.ipxe", script),
                ("/linux", bzimage()),
                ("/one.img", initrd.to_vec()),
            ]);
            let base = serve(files, WHOLE).await;
            let config = Config {
                url: format!("{base}/boot.ipxe"),
                end: WantedEnd::Verified,
                sums,
                ..Config::default()
            };
            match boot_to_end(&config, &mut None).await {
                Ok(ended) => assert_eq!((ended, words), (Ended::Started, "")),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!words.is_empty() && error.contains(words), "{error}");
                    // Once: by the script's own end.
                    assert_eq!(error.matches(words).count(), 1, "{error}");
                }
            }
        }
    }

    /// Whoever named the script may name another one by now.
    #[tokio::test]
    async fn a_script_that_begins_again_for_ever_has_its_end() {
        let script = "#!ipxe\n:again\nkernel /none ||\nsleep 1\ngoto again\n";
        let (base, asked) = witness(move |path| match path {
            "/boot.ipxe" => page(script),
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        })
        .await;
        let mut session = session(&base).await;
        session.until = Some(tokio::time::Instant::now() + Duration::from_millis(1500));
        let ended = tokio::time::timeout(Duration::from_secs(20), session.next(None)).await;
        let why = ended.expect("it has its end").err().unwrap().to_string();
        assert!(why.contains("still waits"), "{why}");
        assert_eq!(asked.lock().unwrap().len(), 4, "the script, and three tries");
    }

    /// Two tries where another may do, and the start in the end.
    #[tokio::test]
    #[cfg(target_arch = "x86_64")]
    async fn a_master_that_does_not_answer_keeps_nobody_from_starting() {
        for (answer, tries) in [
            ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 2),
            // It takes the connection and says nothing.
            ("", 2),
            // One that is older.
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 1),
            (
                "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
                2,
            ),
        ] {
            let (told, took) = started("Server: recon/0.1.0\r\n", answer).await;
            assert_eq!(told.len(), tries + 1, "{answer}: {told:?}");
            assert_eq!(told[tries], "the start", "{answer}");
            assert!(took < Duration::from_secs(5), "{answer}: {took:?}");
        }
    }

    fn page(body: &str) -> String {
        page_head(body.len()) + body
    }

    fn page_head(bytes: usize) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n")
    }

    /// A script is a stranger's text: it may name any server, and any server may send elsewhere.
    #[tokio::test]
    async fn a_token_goes_to_the_server_of_the_url_alone() {
        let (other, others) = witness(|_| page("070701")).await;
        let away = other.clone();
        let (base, own) = witness(move |path| match path {
            "/boot.ipxe" => page(&format!(
                "#!ipxe\nkernel linux\ninitrd {away}/a\ninitrd /sent-away\nchain {away}/b ||\nboot\n"
            ))
            .into_bytes(),
            "/sent-away" => {
                format!("HTTP/1.1 302 Found\r\nLocation: {away}/c\r\nContent-Length: 0\r\n\r\n").into_bytes()
            }
            _ => [page_head(bzimage().len()).into_bytes(), bzimage()].concat(),
        })
        .await;
        let config = Config {
            url: format!("{base}/boot.ipxe"),
            headers: vec!["Authorization: Bearer s3cret".to_owned(), "X-Site: one".to_owned()],
            ..Config::default()
        };
        let report = plan(&config).await.unwrap();
        assert!(!report.text().contains("s3cret"));
        let has = |asked: &Arc<Mutex<Vec<String>>>| -> Vec<bool> {
            let asked = asked.lock().unwrap();
            let is_told = |request: &String| {
                let request = request.to_ascii_lowercase();
                assert_eq!(request.contains("s3cret"), request.contains("x-site"));
                request.contains("authorization: bearer s3cret\r\n")
            };
            asked.iter().map(is_told).collect()
        };
        let (own, others) = (has(&own), has(&others));
        assert!(own.len() >= 3 && own.iter().all(|told| *told), "{own:?}");
        assert!(others.len() >= 3 && !others.contains(&true), "{others:?}");
        let wrong = Config {
            headers: vec!["Authorization: s3cret\u{1}".to_owned()],
            ..config
        };
        let why = format!("{:#}", plan(&wrong).await.unwrap_err());
        assert!(why.contains("authorization") && !why.contains("s3cret"), "{why}");
    }

    /// Of what no other try mends, the boot image has to know.
    #[tokio::test]
    #[cfg(target_arch = "x86_64")]
    async fn what_this_kernel_refuses_is_told_from_what_a_server_lacks() {
        let again = "#!ipxe\n:start\nkernel linux\nboot || goto start\n";
        let plain = "#!ipxe\nkernel linux\nboot\n";
        for (script, kernel, is_refused) in [
            (again, bzimage(), true),
            (again, b"<html>".to_vec(), false),
            (plain, bzimage(), true),
            (plain, b"<html>".to_vec(), false),
            ("#!ipxe\nkernel linux\nboot || exit 1\n", bzimage(), true),
            ("#!ipxe\nkernel linux\nboot || shell\n", bzimage(), true),
            (r#"{"kernel": "linux"}"#, bzimage(), true),
            // What is missing may be there the next time.
            ("#!ipxe\nkernel linux\nboot || chain gone.ipxe\n", bzimage(), false),
            ("#!ipxe\nexit 1\n", bzimage(), false),
        ] {
            let files = HashMap::from([("/boot.ipxe", script.as_bytes().to_vec()), ("/linux", kernel)]);
            let base = serve(files, WHOLE).await;
            let mut session = session(&base).await;
            let refuse = |_: &Ready| Err("no signature".to_owned());
            let error = take_in(&mut session, &Config::default(), refuse, Duration::ZERO).await;
            let error = error.unwrap_err();
            assert_eq!(error.is::<KernelRefuses>(), is_refused, "{script}: {error}");
            assert!(!is_refused || error.to_string().contains("no signature"), "{error}");
        }
    }

    /// A token server may have given another refresh token in the place of the one in the file.
    #[test]
    fn the_next_try_asks_with_what_the_last_one_was_given() {
        let config = Config {
            url: "http://192.0.2.1/".to_owned(),
            ..Config::default()
        };
        let mut held = None;
        let first = Arc::clone(&held_way(&config, &mut held, IMPATIENT).unwrap().1);
        let next = Arc::clone(&held_way(&config, &mut held, IMPATIENT).unwrap().1);
        assert!(Arc::ptr_eq(&first, &next));
    }

    /// How often the kernel was to be taken in, and what came of it.
    async fn refused(script: &str, pause: Duration) -> (usize, String) {
        let script = format!("#!ipxe\n{script}\n").into_bytes();
        let mut files = HashMap::from([("/boot.ipxe", script), ("/linux", bzimage())]);
        files.extend((1..=30).map(|number| (&*format!("/linux?{number}").leak(), bzimage())));
        let base = serve(files, WHOLE).await;
        let mut session = session(&base).await;
        let tries = Cell::new(0);
        let refuse = |_: &Ready| {
            tries.set(tries.get() + 1);
            Err("no signature".to_owned())
        };
        let error = take_in(&mut session, &Config::default(), refuse, pause)
            .await
            .unwrap_err();
        (tries.get(), error.to_string())
    }

    #[tokio::test]
    #[cfg(target_arch = "x86_64")]
    async fn a_kernel_that_is_refused_is_not_fetched_for_ever() {
        let pause = Duration::from_millis(300);
        let began = std::time::Instant::now();
        let (tries, why) = refused(":start\nkernel linux\nboot || goto start", pause).await;
        assert_eq!(tries, 3);
        assert!(why.ends_with("does not: no signature (3 tries)"), "{why}");
        assert!(began.elapsed() >= 2 * pause, "nobody waits");
        // One whose name is another each time is no other.
        let circle = ":start\ninc n\nkernel linux#${n}\nboot || goto start";
        let (tries, _) = refused(circle, Duration::ZERO).await;
        assert_eq!(tries, 3);
        // Other ways are tried at once, but not any number of them.
        let (began, long) = (std::time::Instant::now(), Duration::from_secs(60));
        let other = "kernel linux?1\nboot || imgfree && kernel linux?2 && boot || exit 4";
        let (tries, why) = refused(other, long).await;
        assert!(
            tries == 2 && why.contains("the error 4; what it wanted started did not"),
            "{why}"
        );
        let (tries, _) = refused(&circle.replace('#', "?"), long).await;
        assert_eq!(tries, 20);
        assert!(began.elapsed() < long);
    }
}
