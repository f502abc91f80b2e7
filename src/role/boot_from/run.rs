//! Runs `recon boot-from`, and tells what came of it.

use std::io;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use hyper::header::{HeaderName, HeaderValue};

use super::plan::{self, End, Report, Sum};
use super::session::{Came, Session};
use super::{load, machine};
use crate::config::load::small_file;
use crate::model::console::console;
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

/// Somebody waits for a plan, and can ask again.
const IMPATIENT: Patience = Patience {
    tries: 3,
    ..Patience::USUAL
};

#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) url: String,
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
                machine::available_bytes(),
            )))
        }
        Came::Exit(code) => End::Exit(code),
        Came::Shell => End::Shell,
        Came::Reboot => End::Reboot,
        Came::PowerOff => End::PowerOff,
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

/// Starts what the script says, or only loads it. Returns where that is done or handed to systemd.
pub(crate) async fn boot(config: &Config) -> anyhow::Result<()> {
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
    let mut failed: Option<String> = None;
    loop {
        let before = failed
            .as_ref()
            .map(|why| format!("; what it wanted started did not: {why}"))
            .unwrap_or_default();
        let wanted = match session.next(failed).await? {
            Came::Boot(mut wanted) => {
                append(&mut wanted.command_line, config);
                wanted
            }
            Came::Exit(0) => bail!("the boot script ended, and wants nothing started{before}"),
            Came::Exit(code) => bail!("the boot script ended with the error {code}{before}"),
            Came::Shell => bail!("the boot script wants a shell opened: that is left to you"),
            Came::Reboot => bail!("the boot script wants this machine rebooted: that is left to you"),
            Came::PowerOff => bail!("the boot script wants this machine switched off: that is left to you"),
        };
        let ready = load::fetch(&session, &wanted, &config.sums).await;
        match ready.and_then(|ready| load::take_in(&ready)) {
            Ok(()) => break,
            // The script may know another way.
            Err(why) => failed = Some(why),
        }
    }
    if config.is_only_loaded {
        console!("it is loaded: `systemctl kexec` starts it, after stopping what runs, and `kexec -e` at once");
        return Ok(());
    }
    console!("starting it");
    kexec::start().await.context("starting what was loaded")
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
    let target = Target::read(&config.url).map_err(|why| anyhow!(why))?;
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
        patience,
    };
    Ok((target, client))
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
