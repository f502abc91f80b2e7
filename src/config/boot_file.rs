//! Settings of the boot image: a text file that any computer can edit (`boot.toml` here is what the image is made with), handed to the
//! first stage by its boot loader. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::cmdline::is_url;
use crate::model::{BondMode, BootMethod, MacAddr, OnFailure};

/// What the boot image is told.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BootFile {
    pub boot: Boot,
    pub assisted: Infra,
    pub network: Network,
}

/// What is started. Not to be printed: headers are secrets.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Boot {
    /// The boot script, or a kernel.
    url: Option<String>,
    token_file: Option<String>,
    /// `Name: value` each; `@token` as the value is what the token's file holds.
    #[serde(deserialize_with = "headers")]
    pub header: Vec<String>,
    /// Believes the authorities of `ca.pem` and nobody else's.
    pub only_ca: bool,
    pub proxy: Option<String>,
    /// Words behind the kernel's command line.
    pub append: Option<String>,
    pub method: Option<BootMethod>,
    pub on_failure: OnFailure,
    /// Name of a file, and the SHA-256 that it has to have, in hexadecimal.
    pub sha256: BTreeMap<String, String>,
}

/// An infra-env of assisted-service (OpenShift's assisted installer), whose script is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Infra {
    /// Its UUID.
    pub infra_env: Option<String>,
    /// Where it is not Red Hat's, as the next one.
    pub api: Option<String>,
    pub token_url: Option<String>,
    token_file: Option<String>,
    refresh_token_file: Option<String>,
}

/// What the token's file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Good for minutes.
    Access,
    /// Access tokens are had with it.
    Refresh,
}

/// How the URL is reached. Without an address every wired port asks for one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Network {
    /// The port, where it is not any.
    pub port: Option<MacAddr>,
    /// The ports that are one.
    pub bond: Vec<MacAddr>,
    bond_mode: Option<BondMode>,
    /// Number of the VLAN (IEEE 802.1Q), on the port or on all that are one.
    pub vlan: Option<u16>,
    address: Option<String>,
    pub gateway: Option<IpAddr>,
    pub dns: Vec<IpAddr>,
}

/// More name servers than are asked.
const MAX_NAME_SERVERS: usize = 8;
/// More ports than are one.
const MAX_BOND_PORTS: usize = 16;
/// More headers than a server reads.
const MAX_HEADERS: usize = 32;
/// Bytes of the longest command line that a kernel takes here (`COMMAND_LINE_SIZE` of arch/x86 and arch/arm64, less the closing zero and
/// what kexec keeps free); the script's own words come before these.
pub(crate) const MAX_APPEND_BYTES: usize = 2016;
/// More mistakes than are named at once.
const MAX_MISTAKES: usize = 25;
/// Of an address of what is to be started.
pub(super) const NO_URL: &str = "url: it is not http:// or https:// with a host behind it";
/// The one file of secrets that the boot loader hands over.
const TOKEN_FILE: &str = "token";
/// Stands for what that file holds.
const TOKEN: &str = "@token";

/// What is read here is not shown where it is no list either.
fn headers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let text = |value| match value {
        toml::Value::String(text) => Some(text),
        _ => None,
    };
    let read = match toml::Value::deserialize(from)? {
        toml::Value::Array(list) => list.into_iter().map(text).collect(),
        _ => None,
    };
    read.ok_or_else(|| D::Error::custom("header: it is a list of texts, as in header = [\"Name: value\"]"))
}

/// What is understood of a file, and its lines that are not, each with why; no more than [`MAX_MISTAKES`] of them. Nothing is understood where
/// what follows such a line would be misread.
fn read_lines(text: &str) -> (Option<BootFile>, Vec<String>) {
    let (mut text, mut mistakes) = (text.to_owned(), BTreeMap::new());
    loop {
        let error = match toml::from_str(&text) {
            Ok(file) => return (Some(file), mistakes.into_values().collect()),
            Err::<BootFile, _>(error) => error,
        };
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let (before, behind) = text.as_bytes().split_at(at);
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let end = at + behind.iter().position(|byte| *byte == b'\n').unwrap_or(behind.len());
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        mistakes.insert(
            line,
            format!("line {line}: {}", why(error.message(), &text[start..end])),
        );
        let is_head = text[start..end].trim_start().starts_with('[');
        if mistakes.len() >= MAX_MISTAKES || !(is_head || text[start..end].contains('=')) {
            break;
        }
        // With the head of a table goes what stands under it.
        let next = text[end..].find("\n[").map_or(text.len(), |next| end + next);
        let gone = if is_head { start..next } else { start..end };
        // Every line keeps its number.
        let lines = "\n".repeat(text[gone.clone()].matches('\n').count());
        let was_toml = text.parse::<toml::Table>().is_ok();
        text.replace_range(gone, &lines);
        // The rest of a value of several lines is left, and would be told as mistakes that nobody made.
        if was_toml && text.parse::<toml::Table>().is_err() {
            break;
        }
    }
    (None, mistakes.into_values().collect())
}

/// What is said of a line, whose value may be a secret.
fn why(message: &str, line: &str) -> String {
    let message = message.trim().replace('\n', ", ");
    let key = line.split('=').next().unwrap_or_default().trim();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_key = line.contains('=') && (1..=40).contains(&key.len()) && key.chars().all(is_plain);
    match () {
        () if is_key && key.contains('.') && message.starts_with("invalid type: map, expected a string") => {
            format!("a name with a dot in it stands in quotation marks: \"{key}\" = …")
        }
        () if is_key && message.starts_with("invalid ") => format!("{key}: {message}"),
        () if is_key && message.contains("expected one of `boot`") => {
            format!("{key} stands above all tables, which are [boot], [assisted] and [network]")
        }
        () => message,
    }
}

impl BootFile {
    /// Reads the file. A setting that is not understood is an error: a proxy or an address that is passed over would lead elsewhere.
    ///
    /// # Errors
    /// What is wrong and in which line, for the person who wrote it, without what stands there: it may be a secret.
    pub(crate) fn read(bytes: &[u8]) -> Result<BootFile, String> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| "it is not plain text in UTF-8: save it as that".to_owned())?;
        // Editors of Windows begin with a mark of the byte order.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (file, mut mistakes) = read_lines(text);
        let Some(file) = file else {
            return Err(mistakes.join("; "));
        };
        // What goes with what is said only of all that was written.
        let is_whole = mistakes.is_empty();
        let tables = [
            ("boot", file.boot.mistakes(is_whole)),
            ("assisted", file.assisted.mistakes(&file.boot, is_whole)),
            ("network", file.network.mistakes(is_whole)),
        ];
        let of_table = |(table, mistakes): (&str, Vec<String>)| -> Vec<String> {
            mistakes.iter().map(|why| format!("[{table}] {why}")).collect()
        };
        mistakes.extend(tables.into_iter().flat_map(of_table));
        if mistakes.len() > MAX_MISTAKES {
            let more = mistakes.split_off(MAX_MISTAKES).len();
            mistakes.push(format!("and {more} more"));
        }
        match mistakes.is_empty() {
            true => Ok(file),
            false => Err(mistakes.join("; ")),
        }
    }
}

impl Boot {
    /// The URL, where one stands there.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref().map(str::trim).filter(|url| !url.is_empty())
    }

    /// Whether the file beside it with a token is to be used.
    pub(crate) fn wants_token(&self) -> bool {
        self.token_file.is_some()
    }

    fn mistakes(&self, is_whole: bool) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.url().is_some_and(|url| !is_url(url)) {
            mistakes.push(NO_URL.to_owned());
        }
        let scheme = self.proxy.as_deref().and_then(|proxy| proxy.split_once("://"));
        if scheme.is_some_and(|(scheme, _)| !scheme.eq_ignore_ascii_case("http")) {
            mistakes.push("proxy: proxies are spoken to in http only; https goes through them too".to_owned());
        }
        if self.token_file.as_ref().is_some_and(|name| name != TOKEN_FILE) {
            mistakes.push(format!(
                "token-file: only a file named {TOKEN_FILE:?} is handed over by the boot loader"
            ));
        }
        mistakes.extend(self.header_mistakes(is_whole));
        let append = self.append.as_deref().unwrap_or_default();
        if append.len() > MAX_APPEND_BYTES {
            mistakes.push(format!(
                "append: it has {} bytes, and no kernel takes more than {MAX_APPEND_BYTES}",
                append.len()
            ));
        }
        if append.contains(|c: char| c.is_control()) {
            mistakes.push("append: it stands in one line".to_owned());
        }
        let is_sum = |sum: &str| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sums = self.sha256.iter().filter(|(_, sum)| !is_sum(sum));
        mistakes.extend(sums.map(|(name, _)| format!("sha256: that of {name:?} is not 64 digits in hexadecimal")));
        mistakes
    }

    fn header_mistakes(&self, is_whole: bool) -> Vec<String> {
        if self.header.len() > MAX_HEADERS {
            return vec![format!("header: more than {MAX_HEADERS} of them")];
        }
        let mistake = |(number, header): (usize, &String)| {
            let (name, value) = header.split_once(':').unwrap_or_default();
            if name.trim().is_empty() || header.contains(|c: char| c.is_control()) {
                return Some(format!("header: number {number} is not written as \"Name: value\""));
            }
            if value.trim().starts_with('@') && value.trim() != TOKEN {
                return Some(format!("header: number {number}: of files only {TOKEN} can be named"));
            }
            let wants_token = is_whole && value.trim() == TOKEN && !self.wants_token();
            wants_token
                .then(|| format!("header: number {number} is {TOKEN}, which goes with token-file = {TOKEN_FILE:?}"))
        };
        (1..).zip(&self.header).filter_map(mistake).collect()
    }

    /// The headers with the token in its place: under the name that one of them gives it, else as RFC 6750 has it.
    pub(crate) fn headers(&self, token: Option<&str>) -> Vec<String> {
        let mut out = Vec::new();
        let mut token = token.map(|token| (token, false));
        for header in &self.header {
            match (header.split_once(':'), &mut token) {
                (Some((name, value)), Some((token, is_placed))) if value.trim() == TOKEN => {
                    *is_placed = true;
                    out.push(format!("{name}: {token}"));
                }
                _ => out.push(header.clone()),
            }
        }
        if let Some((token, false)) = token {
            out.push(bearer(token));
        }
        out
    }
}

impl Infra {
    /// The token that is sent, where one is.
    pub(crate) fn token(&self) -> Option<TokenKind> {
        let refresh = self.refresh_token_file.as_ref().map(|_| TokenKind::Refresh);
        refresh.or(self.token_file.as_ref().map(|_| TokenKind::Access))
    }

    fn mistakes(&self, boot: &Boot, is_whole: bool) -> Vec<String> {
        let names = [&self.token_file, &self.refresh_token_file];
        let is_other = |name: &&Option<String>| name.as_ref().is_some_and(|name| name != TOKEN_FILE);
        let mut mistakes = Vec::new();
        if names.iter().any(is_other) {
            mistakes.push(format!(
                "only a file named {TOKEN_FILE:?} is handed over by the boot loader"
            ));
        }
        if !is_whole {
            return mistakes;
        }
        if self.infra_env.is_none() {
            if *self != Infra::default() {
                mistakes.push("there is no infra-env".to_owned());
            }
            return mistakes;
        }
        let mut refuse = |is_mistake: bool, why: &str| {
            if is_mistake {
                mistakes.push(why.to_owned());
            }
        };
        refuse(boot.url().is_some(), "infra-env: it does not go with the url of [boot]");
        refuse(
            boot.wants_token(),
            "it has a token-file of its own; that of [boot] is for a url",
        );
        refuse(
            names.iter().all(|name| name.is_some()),
            "token-file, refresh-token-file: one of them",
        );
        refuse(
            self.token_url.is_some() && self.refresh_token_file.is_none(),
            "token-url: it goes with refresh-token-file",
        );
        mistakes
    }
}

/// RFC 6750 §2.1.
pub(super) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

impl Network {
    /// The address and the length of its prefix.
    pub(crate) fn address(&self) -> Result<Option<(IpAddr, u8)>, String> {
        let Some(text) = &self.address else { return Ok(None) };
        let (address, prefix) = super::cmdline::parse_address(text).map_err(|why| format!("address: {why}"))?;
        match not_a_host(address, prefix) {
            Some(not) => Err(format!("address: {address}/{prefix} {not}")),
            None => Ok(Some((address, prefix))),
        }
    }

    pub(crate) fn bond_mode(&self) -> BondMode {
        self.bond_mode.unwrap_or_default()
    }

    fn mistakes(&self, is_whole: bool) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut refuse = |is_mistake: bool, why: &str| {
            if is_mistake {
                mistakes.push(why.to_owned());
            }
        };
        refuse(
            self.dns.len() > MAX_NAME_SERVERS,
            &format!("dns: more than {MAX_NAME_SERVERS} name servers"),
        );
        for server in &self.dns {
            if let Some(not) = nobodys(*server) {
                refuse(true, &format!("dns: {server} {not}"));
            }
        }
        refuse(
            self.vlan.is_some_and(|number| !(1..=4094).contains(&number)),
            "vlan: it is a number from 1 to 4094",
        );
        refuse(
            is_whole && self.bond_mode.is_some() && self.bond.is_empty(),
            "bond-mode: it goes with bond",
        );
        refuse(
            !self.bond.is_empty() && self.port.is_some(),
            "port: it does not go with bond, which names its ports",
        );
        let different: BTreeSet<_> = self.bond.iter().collect();
        refuse(
            different.len() != self.bond.len() || self.bond.len() == 1 || self.bond.len() > MAX_BOND_PORTS,
            &format!("bond: it is a list of 2 to {MAX_BOND_PORTS} different ports"),
        );
        let ports = self.port.iter().chain(&self.bond);
        for port in ports.filter(|port| port.is_unusable()) {
            refuse(true, &format!("port: no port has the address {port}"));
        }
        mistakes.extend(self.address_mistakes(is_whole));
        mistakes
    }

    fn address_mistakes(&self, is_whole: bool) -> Vec<String> {
        let gateway = self.gateway.map(|gateway| (gateway, nobodys(gateway)));
        let mut mistakes = Vec::new();
        match (self.address(), gateway) {
            (Err(why), Some((gateway, Some(not)))) => {
                mistakes.push(why);
                mistakes.push(format!("gateway: {gateway} {not}"));
            }
            (Err(why), _) => mistakes.push(why),
            (_, Some((gateway, Some(not)))) => mistakes.push(format!("gateway: {gateway} {not}")),
            (Ok(None), Some(_)) if is_whole => mistakes.push("gateway: it goes with an address".to_owned()),
            (Ok(Some((address, _))), Some((gateway, _))) if address == gateway => {
                mistakes.push(format!("gateway: {gateway} is the machine's own address"));
            }
            (Ok(Some((address, prefix))), Some((gateway, _))) if !is_neighbour(address, prefix, gateway) => {
                mistakes.push(format!(
                    "gateway: {gateway} is not in the network of the address, {address}/{prefix}"
                ));
            }
            (Ok(Some((_, prefix))), Some((gateway, _))) => {
                let not = not_a_host(gateway, prefix);
                mistakes.extend(not.map(|not| format!("gateway: {gateway} {not}")));
            }
            _ => {}
        }
        mistakes
    }
}

/// Why no other machine has this address, behind "it"; nothing where one may.
fn nobodys(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => Some("is no address"),
        _ if ip.is_loopback() => Some("is a machine's own (loopback)"),
        _ if ip.is_multicast() => Some("is a multicast address"),
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("is the broadcast address"),
        _ => None,
    }
}

/// Why no machine can have this address in a network with a prefix of this length, likewise. What a person writes is looked at so; what a
/// machine holds already is its own proof.
fn not_a_host(ip: IpAddr, prefix: u8) -> Option<&'static str> {
    if let Some(not) = nobodys(ip) {
        return Some(not);
    }
    // Links from one machine to another have neither (RFC 3021).
    let IpAddr::V4(ip) = ip else { return None };
    let host_bits = u32::MAX.checked_shr(prefix.into()).filter(|_| prefix < 31)?;
    match ip.to_bits() & host_bits {
        0 => Some("is the network itself, not an address in it"),
        host if host == host_bits => Some("is the broadcast address of its network"),
        _ => None,
    }
}

/// Whether something is reached on the link itself.
pub(crate) fn is_neighbour(address: IpAddr, prefix: u8, other: IpAddr) -> bool {
    match (address, other) {
        (IpAddr::V4(address), IpAddr::V4(other)) => {
            let same = (address.to_bits() ^ other.to_bits()).leading_zeros();
            same >= u32::from(prefix)
        }
        (IpAddr::V6(address), IpAddr::V6(other)) => {
            let same = (address.to_bits() ^ other.to_bits()).leading_zeros();
            other.is_unicast_link_local() || same >= u32::from(prefix)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn why(text: &str) -> String {
        match BootFile::read(text.as_bytes()) {
            Ok(_) => panic!("{text} is read"),
            Err(why) => why,
        }
    }

    /// The file of the image with each line switched on that begins with one of these names.
    fn switched_on(is_meant: impl Fn(&str) -> bool) -> String {
        let on = |line: &str| {
            let rest = line.strip_prefix('#').filter(|rest| {
                let name = rest.split(" = ").next().unwrap_or_default();
                rest.starts_with('[') || (rest.contains(" = ") && is_meant(name))
            });
            format!("{}\r\n", rest.unwrap_or(line))
        };
        format!(
            "\u{feff}{}",
            include_str!("boot.toml").lines().map(on).collect::<String>()
        )
    }

    #[test]
    fn the_file_of_the_image_is_read_as_it_is_and_with_each_line_switched_on() {
        let text = include_str!("boot.toml");
        assert!(BootFile::read(text.as_bytes()).unwrap() == BootFile::default());
        // An infra-env, or a URL.
        const INFRA: [&str; 4] = ["infra-env", "api", "refresh-token-file", "token-url"];
        let infra = switched_on(|name| INFRA.contains(&name));
        let infra = BootFile::read(infra.as_bytes()).unwrap().assisted;
        assert_eq!(infra.infra_env.as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
        assert_eq!(infra.api.as_deref(), Some("https://assisted.example/api"));
        assert_eq!(infra.token(), Some(TokenKind::Refresh));
        // Either a port or several that are one.
        let bond = switched_on(|name| name != "port" && !INFRA.contains(&name));
        let file = BootFile::read(bond.as_bytes()).unwrap();
        assert_eq!(file.network.bond.len(), 2);
        assert_eq!(file.network.bond_mode(), BondMode::Lacp);
        assert_eq!(file.network.vlan, Some(42));
        let port = switched_on(|name| !name.starts_with("bond") && !INFRA.contains(&name));
        let file = BootFile::read(port.as_bytes()).unwrap();
        assert_eq!(file.network.port, Some("52:54:00:12:34:56".parse().unwrap()));
        assert_eq!(file.boot.url(), Some("http://boot.example/boot.ipxe"));
        assert_eq!(file.boot.proxy.as_deref(), Some("http://10.0.0.8:3128"));
        assert_eq!(
            (file.boot.method, file.boot.on_failure),
            (Some(BootMethod::Reboot), OnFailure::Reboot)
        );
        assert!(file.boot.only_ca && file.boot.wants_token());
        assert_eq!(
            file.boot.headers(Some("t1")),
            ["X-Site: one", "Authorization: Bearer t1"]
        );
        assert_eq!(file.boot.sha256.keys().collect::<Vec<_>>(), ["initrd", "vmlinuz"]);
        assert_eq!(
            file.network.address().unwrap(),
            Some((IpAddr::from([192, 0, 2, 5]), 24))
        );
        assert_eq!(file.network.gateway, Some(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(file.network.dns, [IpAddr::from([192, 0, 2, 53])]);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, words) in [
            ("[boot]\nurl = http://x", "line 2"),
            (
                "[boot]\nurl = \"http://x\"\nprxy = \"y\"",
                "line 3: unknown field `prxy`",
            ),
            ("[boot]\nmethod = \"kexce\"", "known: kexec, reboot"),
            ("[boot]\non-failure = \"shell\"", "known: retry, reboot, poweroff"),
            ("[boot]\ntoken-file = \"secret.txt\"", "\"token\""),
            ("[boot]\nheader = [\"X-Key\"]", "number 1"),
            ("[boot]\nheader = [\"X: y\", \"X-Key: a\\nb\"]", "number 2"),
            ("[boot]\nheader = [\"X-Key: @token\"]", "goes with token-file"),
            ("[boot.sha256]\nvmlinuz = \"12\"", "\"vmlinuz\""),
            ("[boot]\nappend = \"\"\"\na\nb\"\"\"", "in one line"),
            (
                "[boot]\nheader = [\"X-Key\"]\n[network]\naddress = \"192.0.2.5\"",
                "[boot] header: number 1 is not written as \"Name: value\"; [network] address",
            ),
            ("[network]\naddress = \"192.0.2.5\"", "192.0.2.5/24"),
            ("[network]\ngateway = \"192.0.2.1\"", "goes with an address"),
            (
                "[network]\naddress = \"192.0.2.5/24\"\ngateway = \"192.0.3.1\"",
                "not in the network",
            ),
            (
                "[network]\naddress = \"fd00::5/64\"\ngateway = \"192.0.2.1\"",
                "not in the network",
            ),
            (
                "[network]\naddress = \"192.0.2.5/24\"\ngateway = \"192.0.2.5\"",
                "the machine's own address",
            ),
            ("[network]\naddress = \"192.0.2.255/24\"", "is the broadcast address"),
            ("[network]\naddress = \"192.0.2.0/24\"", "is the network itself"),
            ("[network]\naddress = \"224.0.0.1/24\"", "is a multicast"),
            ("[network]\naddress = \"::1/64\"", "loopback"),
            (
                "[network]\naddress = \"192.0.2.5/24\"\ngateway = \"192.0.2.255\"",
                "gateway: 192.0.2.255 is the broadcast",
            ),
            ("[network]\ndns = [\"0.0.0.0\"]", "dns: 0.0.0.0 is no address"),
            ("[network]\ndns = \"192.0.2.1\"", "line 2"),
            ("[network]\nport = \"eth0\"", "eth0"),
            ("[network]\nvlan = 4095", "1 to 4094"),
            ("[network]\nbond = [\"52:54:00:12:34:56\"]", "2 to 16"),
            (
                "[network]\nbond = [\"52:54:00:12:34:56\", \"52-54-00-12-34-56\"]",
                "different",
            ),
            ("[network]\nbond-mode = \"802.3ad\"", "goes with bond"),
            ("[network]\nbond-mode = \"lacp\"", "known: active-backup, 802.3ad"),
        ] {
            let why = why(text);
            assert!(why.contains(words), "{text}: {why}");
        }
        let several =
            "[boot]\nurl = http://x\nprxy = \"y\"\nappend = \"\"\"a\nb\"\"\"\nmethod = 1\n[network]\nvlan = \"x\"";
        let lines: Vec<_> = why(several).split("; ").map(|why| why[..7].to_owned()).collect();
        assert_eq!(lines, ["line 2:", "line 3:", "line 6:", "line 8:", "[boot] "]);
        assert_eq!(why(&"x = 1\n".repeat(40)).matches("; ").count(), MAX_MISTAKES - 1);
        let cut = "[boot]\nheaders = [\n\"Authorization: x\",\n]\n";
        assert!(
            why(cut).starts_with("line 2: ") && !why(cut).contains("; "),
            "{}",
            why(cut)
        );
        // The lines below it are of another table then.
        // With the head of a table goes what stands under it, and the rest is read on; what goes with what is left for then.
        let said = why(
            "[boot]\nurl = \"htp://x\"\nvmlinuz.gz = \"\"\n[bot]\nprxy = 1\n[network]\nvlan = 0\nbond-mode = \"802.3ad\"\ndns = \"x\"\n[boot]\nurl = 1\n",
        );
        for words in [
            "line 3: unknown",
            "line 4: ",
            "line 10: dup",
            "url: it is not http",
            "vlan: ",
            "line 9: dns: invalid type",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("line 5") && !said.contains("goes with"), "{said}");
        for (text, words) in [
            ("[boot.sha256]\nvmlinuz.gz = \"x\"", "\"vmlinuz.gz\" = "),
            ("url = \"http://a/\"\n", "stands above all tables"),
            ("[network]\nport = \"01:00:5e:00:00:01\"", "no port has the address"),
            (
                "[network]\naddress = \"192.0.2.255/24\"\ngateway = \"0.0.0.0\"",
                "; [network] gateway: 0.0.0.0 is no address",
            ),
            ("[boot]\nproxy = \"ftp://a\"", "http only"),
            ("[boot]\nheader = [\"a: @other\"]", "only @token can be named"),
        ] {
            assert!(why(text).contains(words), "{text}: {}", why(text));
        }
        assert!(BootFile::read(b"\xff\xfe[\0b\0").err().unwrap().contains("UTF-8"));
        for good in [
            "[network]\naddress = \"fd00::5/64\"\ngateway = \"fe80::1\"",
            "[network]\naddress = \"192.0.2.0/31\"\ngateway = \"192.0.2.1\"",
            "[network]\naddress = \"fd00::5/64\"\ngateway = \"fd00::1\"",
        ] {
            assert!(BootFile::read(good.as_bytes()).is_ok(), "{good}");
        }
    }

    /// A person goes to the machine once.
    #[test]
    fn mistakes_of_values_are_all_named_at_once() {
        let text = "[boot]\nheader = [\"a: @token\", \"b\"]\nappend = \"a\\nb\"\nsha256 = { k = \"1\", i = \"2\" }\n\
                    [network]\ndns = [\"0.0.0.0\"]\nvlan = 0\nbond-mode = \"802.3ad\"\ngateway = \"192.0.2.1\"";
        let said = why(text);
        let places: Vec<_> = said
            .split("; ")
            .map(|why| why.split(':').next().unwrap_or_default())
            .collect();
        let boot = ["header", "header", "append", "sha256", "sha256"].map(|name| format!("[boot] {name}"));
        let network = ["dns", "vlan", "bond-mode", "gateway"].map(|name| format!("[network] {name}"));
        assert_eq!(places, [&boot[..], &network[..]].concat(), "{said}");
        let many = format!("[boot]\nheader = [{}]", "\"a\", ".repeat(MAX_HEADERS));
        assert!(why(&many).ends_with("; and 7 more"), "{}", why(&many));
    }

    /// What is told of a mistake stands on a screen.
    #[test]
    fn a_mistake_is_told_without_the_secret_beside_it() {
        for text in [
            "[boot]\nheader = \"X-Key: hunter2\"",
            "[boot]\nheader = [[\"X-Key: hunter2\"]]",
            "[boot]\nheader = [\"X-Key: hunter2\", 5]",
            "[boot]\nheader = [\"X-Key hunter2\"]",
            "[boot]\nheader = [\"X-Key: hunter2\"",
            "[boot]\nheader = [\"X-Key: hunter2]",
            "[boot]\nurl = \"http://u:hunter2@a/\" x",
            "[boot]\ntoken-file = \"hunter2\"",
            "[boot]\ntokn = \"hunter2\"",
            "[boot]\ntoken-file = \"token\"\nheader = { X = \"hunter2\" }",
        ] {
            let why = why(text);
            assert!(!why.contains("hunter2"), "{text}: {why}");
        }
    }

    #[test]
    fn what_no_kernel_takes_is_not_appended() {
        let read = |bytes: usize| BootFile::read(format!("[boot]\nappend = \"{}\"", "x".repeat(bytes)).as_bytes());
        assert!(read(MAX_APPEND_BYTES).is_ok());
        let why = read(MAX_APPEND_BYTES + 1).err().unwrap();
        assert_eq!(
            why,
            "[boot] append: it has 2017 bytes, and no kernel takes more than 2016"
        );
    }

    #[test]
    fn a_token_has_one_place() {
        let of = |text: &str| BootFile::read(text.as_bytes()).unwrap().boot;
        let own = of("[boot]\ntoken-file = \"token\"\nheader = [\"X-Secret-Key: @token\", \"A: b\"]");
        assert_eq!(own.headers(Some("t1")), ["X-Secret-Key: t1", "A: b"]);
        assert_eq!(of("").headers(Some("t1")), ["Authorization: Bearer t1"]);
        assert_eq!(of("").headers(None), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn any_file_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = BootFile::read(&bytes);
        }

        #[test]
        fn any_text_with_known_words_is_survived(
            text in "(\\[(boot|network|boot.sha256)\\]\n|(url|header|vlan|bond|address|gateway|method|dns) = (\"[ -~]{0,12}\"|[0-9]{1,6}|\\[\"[ -~]{0,9}\"\\])\n){0,6}",
        ) {
            let _ = BootFile::read(text.as_bytes());
        }
    }
}
