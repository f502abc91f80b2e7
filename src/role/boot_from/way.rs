//! Where the boot script is, and what it is asked with: certificates, a proxy, headers and tokens, each from where the settings say.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use hyper::header::{HeaderName, HeaderValue};

use super::asked::Config;
use super::assisted::{Assisted, CLIENT_ID, Token};
use crate::config::boot_sources;
use crate::config::load::small_file;
use crate::service::fetch::bearer::Bearer;
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

/// Where the boot script is, and what it is asked with, for as long as it is tried: a token server may take each refresh token once only.
pub(crate) type Way = (Target, Arc<Client>);

/// # Errors
/// What of the settings is not understood, or which file does not read, without what may be a secret.
pub(super) fn client(config: &Config, patience: Patience) -> anyhow::Result<Way> {
    client_in(config, patience, |name| std::env::var(name).ok())
}

/// `variables`: those of the environment.
fn client_in(config: &Config, patience: Patience, variables: impl Fn(&str) -> Option<String>) -> anyhow::Result<Way> {
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
    let given = authorities(config.authorities.iter().map(AsRef::as_ref))?;
    let bundle = bundle.unwrap_or_default();
    let bundle = Some(&bundle[..]).filter(|_| !config.is_only_authorities);
    let tls = tls::config(bundle, &given).map_err(|why| anyhow!(why))?;
    let proxies = Proxies::of(config.proxy.as_deref(), variables);
    let client = Client {
        tls,
        proxies: proxies.map_err(|why| anyhow!(why))?,
        headers: Some((target.clone(), headers(config)?)),
        bearer,
        patience,
    };
    Ok((target, Arc::new(client)))
}

/// Files of certificates, with their names.
fn authorities<'a>(paths: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let read = |path: &Path| {
        let name = path.display().to_string();
        file(&name).map(|pem| (name, pem))
    };
    paths.into_iter().map(read).collect()
}

/// Looks whether a file of certificates can be understood.
pub(crate) fn check_authorities(path: &Path) -> anyhow::Result<()> {
    tls::config(None, &authorities([path])?)
        .map(drop)
        .map_err(|why| anyhow!(why))
}

/// Looks whether all of it can be understood, and asks nobody. A token that is not there yet is no fault.
///
/// # Errors
/// As of [`client`].
pub(crate) fn check(mut config: Config, has_token: bool) -> anyhow::Result<()> {
    if let Some(assisted) = &mut config.assisted
        && !has_token
    {
        // Where it may go, and where another one is had, is known without it.
        assisted.script().map_err(|why| anyhow!(why))?;
        if let Token::Refresh { url, .. } = &assisted.token {
            Assisted::token_url(url.as_deref()).map_err(|why| anyhow!(why))?;
        }
        assisted.token = Token::None;
    }
    // A machine that starts from it has none of this one's proxies.
    client_in(&config, Patience::USUAL, |_| None).map(drop)
}

fn bearer(assisted: &Assisted, place: &Target) -> anyhow::Result<Option<Bearer>> {
    let (path, url) = match &assisted.token {
        Token::None => return Ok(None),
        Token::File(path) => (path, None),
        Token::Refresh { file, url } => (file, Some(Assisted::token_url(url.as_deref()))),
    };
    let name = path.display().to_string();
    let bytes = file(&name)?;
    // As where the boot image reads it first.
    let token = boot_sources::word(Some(&bytes)).map_err(|why| anyhow!("{name}: {why}"))?;
    let token = token.as_deref().unwrap_or_default();
    let made = match url {
        None => Bearer::given(place.clone(), token),
        Some(url) => Bearer::refreshed(place.clone(), url.map_err(|why| anyhow!(why))?, CLIENT_ID, token),
    };
    made.map(Some).map_err(|why| anyhow!("{name}: {why}"))
}

fn file(name: &str) -> anyhow::Result<Vec<u8>> {
    let bytes = small_file(name.as_ref(), MAX_FILE_BYTES).with_context(|| name.to_owned())?;
    let bytes = bytes.with_context(|| format!("{name}: there is no such file"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("{name} has more than {MAX_FILE_BYTES} bytes");
    }
    Ok(bytes)
}

fn headers(config: &Config) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let mut out = Vec::new();
    for given in &config.headers {
        let before = out.len();
        let (name, lines) = match given.strip_prefix('@') {
            Some(name) => {
                let text =
                    String::from_utf8(file(name)?).map_err(|_| anyhow!("{name}: it is not plain text in UTF-8"))?;
                (Some(name), text.trim_start_matches('\u{feff}').to_owned())
            }
            None => (None, given.clone()),
        };
        for (number, line) in (1..).zip(lines.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let read = header(line);
            out.push(match name {
                Some(name) => read.with_context(|| format!("{name}: line {number}"))?,
                None => read?,
            });
        }
        if let Some(name) = name.filter(|_| out.len() == before) {
            bail!("{name}: there is no header in it");
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
    use super::*;

    /// The boot image reads it as well, and has to say the same.
    #[test]
    fn a_token_of_a_file_is_read_as_the_settings_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let place = Target::read("https://a.example/").unwrap();
        let assisted = Assisted {
            token: Token::File(path.clone()),
            ..Assisted::default()
        };
        for (text, is_one) in [
            (&b"\xef\xbb\xbfabc\r\n"[..], true),
            (b"abc\n\0", true),
            (b"a b", false),
            (b"\n", false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(bearer(&assisted, &place).is_ok(), is_one, "{text:?}");
        }
    }
}
