//! Runs `recon boot-from`, and tells what came of it.

use std::io;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use hyper::header::{HeaderName, HeaderValue};

use super::machine;
use super::plan::{self, End, Report};
use super::session::{Came, Session};
use crate::config::load::small_file;
use crate::service::fetch::client::{Client, Patience};
use crate::service::fetch::proxy::Proxies;
use crate::service::fetch::tls;
use crate::service::fetch::url::Target;

/// Bundles of root certificates, the first that is there: Debian's, Fedora's, SUSE's, Alpine's.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Longest file of certificates or headers; bundles have a quarter of a megabyte.
const MAX_FILE_BYTES: u64 = 4 << 20;

#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) url: String,
    pub(crate) authorities: Vec<PathBuf>,
    pub(crate) proxy: Option<String>,
    /// `Name: value`, or `@FILE` with one a line; for the place of the URL alone.
    pub(crate) headers: Vec<String>,
    /// Goes behind the kernel's command line.
    pub(crate) append: Option<String>,
}

/// Tells what would be started.
pub(crate) async fn plan(config: &Config) -> anyhow::Result<Report> {
    let (target, client) = client(config)?;
    let mut session = Session::begin(client, &target).await?;
    let end = match session.next().await? {
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

fn append(command_line: &mut String, config: &Config) {
    if let Some(words) = &config.append {
        if !command_line.is_empty() {
            command_line.push(' ');
        }
        command_line.push_str(words);
    }
}

fn client(config: &Config) -> anyhow::Result<(Target, Client)> {
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
        patience: Patience::USUAL,
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
