//! What settings of a boot image come to, for whoever wrote them: before a machine starts from them, and without asking anybody.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, anyhow};

use super::{Beside, config, read, what};
use crate::config::KernelLine;
use crate::config::boot_file::{BootFile, Network, is_neighbour};
use crate::config::boot_sources::Texts;
use crate::model::{BootMethod, secrets};
use crate::role::boot_from::way;
use crate::service::fetch::proxy::Proxies;
use crate::service::fetch::url::{Host, Target};

/// Stands for a token that is put beside the settings later.
const SOME_TOKEN: &[u8] = b"token";

/// Reads `recon.txt` at `path` with what lies beside it. Gives lines that say what a machine does with it, without secrets.
///
/// # Errors
/// What a machine would not understand of it.
pub(crate) fn check(path: &Path) -> anyhow::Result<String> {
    let beside = Beside::of(path.parent().unwrap_or(Path::new("")));
    let bytes = read(path)?.with_context(|| format!("{}: there is no such file", path.display()))?;
    let token = read(&beside.token)?;
    let has_token = token.as_ref().is_some_and(|token| !token.trim_ascii().is_empty());
    let file = BootFile::read(&bytes).map_err(|why| anyhow!("{}: {why}", path.display()))?;
    let texts = Texts {
        file: Some(bytes),
        file_token: token.filter(|_| has_token).or(Some(SOME_TOKEN.to_vec())),
        ..Texts::default()
    };
    let settings = texts.read().map_err(|why| anyhow!("{}: {why}", path.display()))?;
    let mut out = String::new();
    let mut line = |label: &str, words: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{label:<12}{words}");
    };
    match settings.choose(&[]) {
        Some(chosen) => {
            line("starts", &what(&chosen));
            let config = config(&KernelLine::default(), chosen, &beside)?;
            way::check(config, has_token).with_context(|| path.display().to_string())?;
        }
        None => {
            line(
                "starts",
                "what the hypervisor, the firmware, a DHCP server or a recon master names: no url stands here",
            );
            // Whoever names it, its https goes by them.
            if beside.authorities.exists() {
                way::check_authorities(&beside.authorities)?;
            }
        }
    }
    if file.boot.method == Some(BootMethod::Reboot) {
        line("by", "starting the machine again, in the order of its firmware");
    }
    line("on failure", &file.boot.on_failure.to_string());
    line("network", &network(&file.network));
    for (label, words) in reached_by(&file) {
        line(label, &words);
    }
    for words in unreached(&file) {
        line("missing", &words);
    }
    let wants_token = file.boot.wants_token() || file.assisted.token().is_some();
    if wants_token && !has_token {
        line("missing", "the file token, with the secret, beside it");
    }
    if settings.is_only_ca() && !beside.authorities.exists() {
        line(
            "missing",
            "the file ca.pem beside it, which only-ca = true goes by (--ca puts it on an image)",
        );
    }
    Ok(out)
}

/// What else the URL is reached by, each with its label. Values of headers are secrets.
fn reached_by(file: &BootFile) -> Vec<(&'static str, String)> {
    let join = |list: Vec<String>| Some(list.join(", ")).filter(|list| !list.is_empty());
    let names = |header: &String| header.split(':').next().unwrap_or_default().trim().to_owned();
    let sums = file.boot.sha256.keys().map(|name| format!("of {name}"));
    // As it is read, and without the password of it.
    let proxy = |given: &str| match given.contains("://") {
        true => secrets::url(given),
        false => secrets::url(&format!("http://{given}")),
    };
    let lines = [
        ("gateway", file.network.gateway.map(|gateway| gateway.to_string())),
        ("dns", join(file.network.dns.iter().map(ToString::to_string).collect())),
        ("proxy", file.boot.proxy.as_deref().map(proxy)),
        ("headers", join(file.boot.header.iter().map(names).collect())),
        ("SHA-256", join(sums.collect())),
        (
            "append",
            file.boot
                .append
                .as_deref()
                .filter(|words| !words.is_empty())
                .map(secrets::text),
        ),
    ];
    lines
        .into_iter()
        .filter_map(|(label, words)| Some((label, words?)))
        .collect()
}

/// What an address that a person gave does not bring along, as DHCP would, for whom this machine asks first: its proxy, else who has the URL.
fn unreached(file: &BootFile) -> Vec<String> {
    let Ok(Some((address, prefix))) = file.network.address() else {
        return Vec::new();
    };
    let proxies = Proxies::of(file.boot.proxy.as_deref(), |_| None).unwrap_or_default();
    let url = file.boot.url().and_then(|url| Target::read(url).ok());
    // Without a URL of its own it is assisted-service's, a name, or what the network says.
    let Some(url) = &url else { return Vec::new() };
    let asked = proxies.of_target(url).unwrap_or(url);
    // Routers name themselves in IPv6 (RFC 4861), whatever a person gave.
    let is_near =
        |other: IpAddr| other.is_ipv6() || file.network.gateway.is_some() || is_neighbour(address, prefix, other);
    let way = |other: IpAddr| {
        format!(
            "the gateway: {other} is not in the network of the address, {address}/{prefix}, and no other way is known"
        )
    };
    match &asked.host {
        Host::Address(host) if is_near(*host) => Vec::new(),
        Host::Address(host) => vec![way(*host)],
        Host::Name(name) if file.network.dns.is_empty() => {
            vec![format!("dns: nobody is known who could say where {name} is")]
        }
        Host::Name(_) if file.network.dns.iter().any(|server| is_near(*server)) => Vec::new(),
        Host::Name(_) => file
            .network
            .dns
            .first()
            .map(|server| way(*server))
            .into_iter()
            .collect(),
    }
}

/// How an address is had, and of which port.
fn network(network: &Network) -> String {
    let bond = || {
        let ports: Vec<_> = network.bond.iter().map(ToString::to_string).collect();
        format!("{} as one ({})", ports.join(" and "), network.bond_mode())
    };
    let port = match network.port {
        Some(mac) => format!("the port {mac}"),
        None if network.bond.is_empty() => "every wired port".to_owned(),
        None => bond(),
    };
    let vlan = network
        .vlan
        .map(|number| format!(", VLAN {number}"))
        .unwrap_or_default();
    // It was read before.
    match network.address().ok().flatten() {
        Some((address, prefix)) => format!("{port}{vlan}, with {address}/{prefix}"),
        None => format!("{port}{vlan}, asking for an address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::boot_sources::is_boot_file;

    fn of(text: &str, beside: &[(&str, &str)]) -> anyhow::Result<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in beside.iter().copied().chain([("recon.txt", text)]) {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        check(&folder.path().join("recon.txt"))
    }

    #[test]
    fn the_file_of_the_image_comes_to_what_the_network_says() {
        let text = include_str!("../../config/boot.toml");
        assert!(is_boot_file(text.as_bytes()));
        let said = of(text, &[]).unwrap();
        assert!(
            said.contains("no url stands here") && said.contains("every wired port, asking"),
            "{said}"
        );
        assert!(said.contains("on failure  retry"), "{said}");
        assert!(!is_boot_file(include_bytes!("../../config/recon.toml")));
        // As Notepad saves it, in UTF-8 and in UTF-16.
        let wide = "\u{feff}[boot]\n".encode_utf16().flat_map(u16::to_le_bytes);
        assert!(is_boot_file("\u{feff}[boot]\n".as_bytes()) && is_boot_file(&wide.collect::<Vec<_>>()));
    }

    #[test]
    fn it_says_what_counts_and_what_is_missing_and_no_secret() {
        let text = "[boot]\nurl = \"https://u:hunter2@a.example/b\"\ntoken-file = \"token\"\nonly-ca = true\non-failure = \"reboot\"\n\
                    [network]\nvlan = 7\naddress = \"192.0.2.5/24\"\ndns = [\"192.0.2.53\"]\n";
        let said = of(text, &[]).unwrap();
        for words in [
            "https://[hidden]@a.example/b",
            "reboot",
            "every wired port, VLAN 7, with 192.0.2.5/24",
            "the file token",
            "ca.pem",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let said = of(&text.replace("only-ca = true\n", ""), &[("token", "hunter2\n")]).unwrap();
        assert!(!said.contains("missing") && !said.contains("hunter2"), "{said}");
        let more = "[boot]\nproxy = \"u:hunter2@p:3128\"\nheader = [\"X-Site: hunter2\"]\nappend = \"quiet\"\n[boot.sha256]\n\"linux\" = \"{}\"\n\
                    [network]\naddress = \"192.0.2.5/24\"\ngateway = \"192.0.2.1\"\ndns = [\"192.0.2.53\", \"2001:db8::53\"]\n";
        let said = of(&more.replace("{}", &"ab".repeat(32)), &[]).unwrap();
        for words in [
            "gateway     192.0.2.1",
            "dns         192.0.2.53, 2001:db8::53",
            "proxy       http://[hidden]@p:3128",
            "headers     X-Site\n",
            "SHA-256     of linux",
            "append      quiet",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
        let infra =
            "[assisted]\ninfra-env = \"01234567-89ab-cdef-0123-456789abcdef\"\nrefresh-token-file = \"token\"\n";
        let said = of(infra, &[]).unwrap();
        assert!(
            said.contains("infra-env 01234567") && said.contains("the file token"),
            "{said}"
        );
    }

    /// DHCP would bring it; an address that a person gives does not.
    #[test]
    fn what_an_address_needs_to_get_to_the_url_is_missed() {
        let of = |boot: &str, network: &str| {
            let said = of(
                &format!("[boot]\n{boot}\n[network]\naddress = \"192.0.2.5/24\"\n{network}\n"),
                &[],
            )
            .unwrap();
            said.lines()
                .filter_map(|line| line.strip_prefix("missing     "))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (far, near, named) = (
            "url = \"http://198.51.100.7/\"",
            "url = \"http://192.0.2.7/\"",
            "url = \"http://a.example/\"",
        );
        for (boot, network, words) in [
            (far, "", "198.51.100.7 is not in the network"),
            (named, "", "who could say where a.example is"),
            (
                named,
                "dns = [\"198.51.100.53\"]",
                "198.51.100.53 is not in the network",
            ),
            (
                &format!("{near}\nproxy = \"198.51.100.1:3128\""),
                "",
                "198.51.100.1 is not",
            ),
        ] {
            let said = of(boot, network);
            assert!(said.len() == 1 && said[0].contains(words), "{boot} {network}: {said:?}");
        }
        for (boot, network) in [
            (near, ""),
            (far, "gateway = \"192.0.2.1\""),
            (named, "dns = [\"198.51.100.53\", \"192.0.2.53\"]"),
            (&format!("{named}\nproxy = \"192.0.2.1:3128\""), ""),
            ("url = \"http://[2001:db8::7]/\"", ""),
            ("", ""),
        ] {
            assert_eq!(of(boot, network), Vec::<String>::new(), "{boot} {network}");
        }
    }

    /// Each of these would be said first on the screen of a machine that does not start.
    #[test]
    fn what_a_machine_would_refuse_is_refused() {
        let infra =
            "[assisted]\ninfra-env = \"01234567-89ab-cdef-0123-456789abcdef\"\nrefresh-token-file = \"token\"\n";
        for (text, words) in [
            ("[boot]\nurl = \"ftp://a/b\"", "http:// or https://"),
            ("[boot]\nurl = \"http://a b/\"", "url"),
            ("[boot]\nurl = \"http://\"", "http:// or https://"),
            ("[boot]\nurl = \"http://[1/\"", "URL"),
            ("[boot]\nurl = \"http://a/\"\nproxy = \"socks5://b\"", "proxy"),
            ("[boot]\nurl = \"http://a/\"\nheader = [\"a b: c\"]", "header"),
            ("[boot]\nulr = \"http://a/\"", "line 2"),
            ("[assisted]\ninfra-env = \"1\"", "UUID"),
            (&format!("{infra}api = \"http://a/api\""), "https alone"),
            (&format!("{infra}token-url = \"http://a/\""), "https alone"),
        ] {
            let why = format!("{:#}", of(text, &[]).expect_err(text));
            assert!(why.contains(words) && why.contains("recon.txt: "), "{text}: {why}");
        }
        let damaged = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
        for text in ["[boot]\nurl = \"http://a/\"", "#[boot]\n"] {
            for (pem, words) in [
                ("nothing", "has no certificates"),
                (damaged, "certificate number 1 in it is damaged"),
            ] {
                let why = of(text, &[("ca.pem", pem)]).unwrap_err();
                assert!(format!("{why:#}").contains(words), "{text}: {why:#}");
            }
        }
    }
}
