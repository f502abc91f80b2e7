//! Runs `recon boot-from`, and tells what came of it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use hyper::header::{HeaderName, HeaderValue};

use super::assisted::{Assisted, CLIENT_ID, Token};
use super::load::{self, Ready};
use super::machine;
use super::plan::{self, End, Report, Sum};
use super::session::{Came, Session};
use crate::config::load::small_file;
use crate::model::console::console;
use crate::service::fetch::bearer::Bearer;
use crate::service::fetch::client::{Client, Patience};
use crate::service::fetch::proxy::Proxies;
use crate::service::fetch::tls;
use crate::service::fetch::url::Target;
use crate::stick::medium;
use crate::sys::kexec;

/// Bundles of root certificates, the first that is there: Debian's, Fedora's, SUSE's, Alpine's.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Longest file of certificates or headers; bundles have a quarter of a megabyte.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// How often the same kernel is fetched in vain, and how often any: a script may well begin again when its kernel does not start.
const MAX_SAME_REFUSED: usize = 3;
const MAX_REFUSED: usize = 20;
/// Between those.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// Somebody waits for a plan, and can ask again.
const IMPATIENT: Patience = Patience {
    tries: 3,
    ..Patience::USUAL
};

#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    /// Of the boot script, or a kernel; not asked for where `assisted` says whose script it is.
    pub(crate) url: String,
    pub(crate) assisted: Option<Assisted>,
    pub(crate) authorities: Vec<PathBuf>,
    pub(crate) proxy: Option<String>,
    /// `Name: value`, or `@FILE` with one a line; for the place of the URL alone.
    pub(crate) headers: Vec<String>,
    /// Goes behind the kernel's command line.
    pub(crate) append: Option<String>,
    pub(crate) sums: Vec<Sum>,
    /// Load only, and leave the start to somebody else.
    pub(crate) is_only_loaded: bool,
    /// Whoever asks knows that this machine's work ends.
    pub(crate) is_agreed: bool,
}

/// Tells what would be started.
pub(crate) async fn plan(config: &Config) -> anyhow::Result<Report> {
    let (target, client) = client(config, IMPATIENT)?;
    let mut session = Session::begin(client, &target, false).await?;
    let end = match session.next(None).await? {
        Came::Boot(mut wanted) => {
            append(&mut wanted.command_line, config);
            End::Boot(Box::new(plan::boot(
                &wanted,
                |image| session.seen(image),
                &session.sums(&config.sums),
                machine::available_bytes(),
            )))
        }
        Came::Exit(code) => End::Exit(code),
        Came::Shell => End::Shell,
        Came::Reboot => End::Reboot,
        Came::PowerOff => End::PowerOff,
        Came::LocalDisk => End::LocalDisk,
    };
    let kexec = machine::kexec_facts().verdict();
    let said = std::mem::take(&mut session.said);
    Ok(Report {
        script: target.to_string(),
        said,
        end,
        kexec,
    })
}

/// How that ended, where it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is loaded, or its start is handed to systemd.
    Started,
    /// There is nothing to start: this machine's own disk has its turn.
    LocalDisk,
}

/// Starts what the script says, or only loads it. Returns also where this machine is to be left to its disk, which is said.
pub(crate) async fn boot(config: &Config) -> anyhow::Result<()> {
    boot_to_end(config).await.map(drop)
}

/// The same for whoever can have the disk started.
pub(crate) async fn boot_to_end(config: &Config) -> anyhow::Result<Ended> {
    if !config.is_only_loaded && !config.is_agreed && !is_for_this() {
        bail!(
            "this would end everything that runs on this machine, without asking anybody: --yes says that this is meant, --plan \
             shows what would be started, --no-jump only loads it"
        );
    }
    let kexec = machine::kexec_facts();
    if !kexec.is_root || !kexec.verdict().is_possible {
        bail!(
            "no other kernel can be started here: {}",
            kexec.verdict().notes.join("; ")
        );
    }
    let (target, client) = client(config, Patience::USUAL)?;
    let mut session = Session::begin(client, &target, true).await?;
    if take_in(&mut session, config, load::take_in, REFUSED_PAUSE).await? == Taken::Nothing {
        console!("{LEFT}");
        return Ok(Ended::LocalDisk);
    }
    if config.is_only_loaded {
        console!("it is loaded: `systemctl kexec` starts it, after stopping what runs, and `kexec -e` at once");
        return Ok(Ended::Started);
    }
    console!("starting it");
    kexec::start().await.context("starting what was loaded")?;
    Ok(Ended::Started)
}

/// What is said where this machine's own disk is what has to start.
const LEFT: &str =
    "assisted-service has nothing to start here: this machine is installed, or about to be. It boots from its disk";

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    In,
    Nothing,
}

/// Has the kernel take what the script wants started; what it does not take is told the script, which may know another way.
async fn take_in(
    session: &mut Session,
    config: &Config,
    take_in: impl Fn(&Ready) -> Result<(), String>,
    pause: Duration,
) -> anyhow::Result<Taken> {
    let mut failed: Option<String> = None;
    let mut refused: Vec<String> = Vec::new();
    loop {
        let last = failed
            .as_ref()
            .map(|why| format!("; what it wanted started did not: {why}"))
            .unwrap_or_default();
        let wanted = match session.next(failed).await? {
            Came::Boot(mut wanted) => {
                append(&mut wanted.command_line, config);
                wanted
            }
            Came::Exit(0) => bail!("the boot script ended, and wants nothing started{last}"),
            Came::Exit(code) => bail!("the boot script ended with the error {code}{last}"),
            Came::Shell => bail!("the boot script wants a shell opened: that is left to you"),
            Came::Reboot => bail!("the boot script wants this machine rebooted: that is left to you"),
            Came::PowerOff => bail!("the boot script wants this machine switched off: that is left to you"),
            Came::LocalDisk => return Ok(Taken::Nothing),
        };
        let before = refused.iter().filter(|url| **url == wanted.url).count();
        if before > 0 {
            tokio::time::sleep(pause).await;
        }
        let ready = load::fetch(session, &wanted, &session.sums(&config.sums)).await;
        let Err(why) = ready.and_then(|ready| take_in(&ready)) else {
            return Ok(Taken::In);
        };
        refused.push(wanted.url);
        if before + 1 >= MAX_SAME_REFUSED || refused.len() >= MAX_REFUSED {
            bail!(
                "what the boot script wants started does not: {why} ({} tries)",
                refused.len()
            );
        }
        failed = Some(why);
    }
}

/// Whether starting something else is what this system is there for: process 1 of a first stage, or a live image.
fn is_for_this() -> bool {
    std::process::id() == 1 || medium::is_live()
}

fn append(command_line: &mut String, config: &Config) {
    if let Some(words) = &config.append {
        if !command_line.is_empty() {
            command_line.push(' ');
        }
        command_line.push_str(words);
    }
}

fn client(config: &Config, patience: Patience) -> anyhow::Result<(Target, Client)> {
    let target = match &config.assisted {
        Some(assisted) => assisted.script(),
        None => Target::read(&config.url),
    };
    let target = target.map_err(|why| anyhow!(why))?;
    let assisted = config.assisted.as_ref();
    let bearer = assisted
        .map(|assisted| bearer(assisted, &target))
        .transpose()?
        .flatten();
    let bundle = BUNDLES
        .into_iter()
        .find_map(|path| small_file(path.as_ref(), MAX_FILE_BYTES).ok().flatten());
    let mut given = Vec::new();
    for path in &config.authorities {
        let name = path.display().to_string();
        given.push((name.clone(), file(&name)?));
    }
    let tls = tls::config(&bundle.unwrap_or_default(), &given).map_err(|why| anyhow!(why))?;
    let proxies = Proxies::of(config.proxy.as_deref(), |name| std::env::var(name).ok());
    let client = Client {
        tls,
        proxies: proxies.map_err(|why| anyhow!(why))?,
        headers: Some((target.clone(), headers(config)?)),
        bearer,
        patience,
    };
    Ok((target, client))
}

fn bearer(assisted: &Assisted, place: &Target) -> anyhow::Result<Option<Bearer>> {
    let (path, url) = match &assisted.token {
        Token::None => return Ok(None),
        Token::File(path) => (path, None),
        Token::Refresh { file, url } => (file, Some(Assisted::token_url(url.as_deref()))),
    };
    let name = path.display().to_string();
    let bytes = file(&name)?;
    let token = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    let made = match url {
        None => Bearer::given(place.clone(), token),
        Some(url) => Bearer::refreshed(place.clone(), url.map_err(|why| anyhow!(why))?, CLIENT_ID, token),
    };
    made.map(Some).map_err(|why| anyhow!("{name}: {why}"))
}

fn file(name: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = small_file(name.as_ref(), MAX_FILE_BYTES).and_then(|bytes| bytes.ok_or(io::ErrorKind::NotFound.into()));
    let bytes = bytes.with_context(|| name.to_owned())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("{name} has more than {MAX_FILE_BYTES} bytes");
    }
    Ok(bytes)
}

fn headers(config: &Config) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let mut out = Vec::new();
    for given in &config.headers {
        let lines = match given.strip_prefix('@') {
            Some(name) => String::from_utf8(file(name)?).with_context(|| name.to_owned())?,
            None => given.clone(),
        };
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            out.push(header(line)?);
        }
    }
    Ok(out)
}

/// What is wrong is told without the value, which may be a secret.
fn header(line: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':').context("a header is written as Name: value")?;
    let name: HeaderName = name.trim().parse().context("the name of a header")?;
    let mut value: HeaderValue = value
        .trim()
        .parse()
        .with_context(|| format!("the value of the header {name}"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;

    use super::super::load::tests::{WHOLE, serve, session};
    use super::*;
    use crate::formats::boot_image::tests::bzimage;

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
