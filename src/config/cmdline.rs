//! The kernel command line, as text. No I/O.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::model::{BootMethod, Endpoint, MacAddr, PinnedImage, PostAction, PowerOff, RootForm, secrets, shown};

/// What the kernel command line asks of this program.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KernelLine {
    /// HTTP endpoint of the master: `pxeaddr=<ip>` or `recon.master=<ip>[:port]`, with or without `http://`; an IPv6
    /// address in brackets, or bare where no port follows.
    pub master: Option<SocketAddr>,
    /// Port the machine booted from: `BOOTIF=01-<mac>`.
    pub boot_mac: Option<MacAddr>,
    /// Address and prefix length the boot loader already holds: `recon.address=<ip>/<prefix or IPv4 netmask>`.
    pub address: Option<(IpAddr, u8)>,
    /// The router that the boot loader was told of: `recon.gateway=<ip>`, empty where there is none.
    pub router: Option<Ipv4Addr>,
    pub post_action: Option<PostAction>,
    /// `recon.image=`: what a diskless node starts.
    pub image: Option<PinnedImage>,
    /// `recon.root=`: how it has the image's root.
    pub root: Option<RootForm>,
    /// `recon.why=`: why this machine is in the failsafe system, a sentence in percent-encoding (RFC 3986 §2.1).
    pub why: Option<String>,
    pub poweroff: Option<PowerOff>,
    /// Opaque word the master gave this boot, sent back with every request; or what the server of `boot` is told.
    pub token: Option<String>,
    /// `recon.cable_wait=<seconds>`: how long to listen for the switches, at most 600; 0 leaves it out.
    pub cable_wait: Option<Duration>,
    /// `recon.boot=<URL>`, or `recon.boot=settings`: start what is there, or what the boot image's settings name. Where it is neither, it
    /// stands as the latter, and in `boot_mistakes`.
    pub boot: Option<BootWord>,
    /// `recon.boot_method=kexec` or `reboot`: how it is started, whatever the boot image's settings say.
    pub boot_method: Option<BootMethod>,
    /// `recon.install`: show the menu that writes this image to a disk.
    pub install: bool,
    /// Sentences about what was not understood: unknown `recon.*` keys and values that do not parse.
    pub problems: Vec<String>,
    /// Those of them that leave open what a boot image is to start, how, or with which secret.
    pub boot_mistakes: Vec<String>,
    /// One of them may have been meant to restrain. Every word but `BOOTIF`, which boot loaders write and only names a port.
    pub doubtful: bool,
}

/// Where it stands what this machine is to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootWord {
    Url(String),
    /// In a file that the boot loader handed over.
    Settings,
}

impl KernelLine {
    /// How this machine ends, where the line says it; where a word of it was not understood, it stays on.
    pub fn end(&self) -> Option<PowerOff> {
        match self.doubtful {
            true => Some(PowerOff::Never),
            false => self.poweroff,
        }
    }
}

/// Parses the whole line. Later words win; nothing here is fatal.
pub(crate) fn parse(line: &str) -> KernelLine {
    let mut out = KernelLine::default();
    let mut router = None;
    let is_for_boot = line
        .split_ascii_whitespace()
        .any(|word| word.starts_with("recon.boot="));
    for word in line.split_ascii_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let problem = match key {
            "pxeaddr" | "recon.master" => keep(value.parse::<Endpoint>().map(|master| master.0), &mut out.master),
            "BOOTIF" => keep(value.parse(), &mut out.boot_mac),
            "postaction" => keep(value.parse(), &mut out.post_action),
            "recon.image" => keep(value.parse(), &mut out.image),
            "recon.root" => keep(value.parse(), &mut out.root),
            "recon.why" => keep(parse_why(value), &mut out.why),
            "recon.poweroff" => keep(value.parse(), &mut out.poweroff),
            "recon.address" => keep(parse_address(value), &mut out.address),
            "recon.gateway" => keep(parse_router(value), &mut router),
            "recon.cable_wait" => keep(parse_cable_wait(value), &mut out.cable_wait),
            "recon.token" => keep(parse_token(value, is_for_boot), &mut out.token),
            "recon.boot" => keep(parse_boot(value), &mut out.boot),
            "recon.boot_method" => keep(value.parse(), &mut out.boot_method),
            "recon.install" => {
                out.install = true;
                None
            }
            key if key.to_ascii_lowercase().starts_with("recon.") => Some("unknown key".to_owned()),
            _ => None,
        };
        if let Some(problem) = problem {
            let (doubtful, then) = match key {
                "BOOTIF" => (false, "ignored"),
                _ => (true, "so this machine is not powered off by recon"),
            };
            out.doubtful |= doubtful;
            // Of a word that is not understood nobody knows where its secret ends.
            let word = match is_of_boot(key) {
                true => {
                    out.boot_mistakes.push(format!("{key}: {problem}"));
                    key.to_owned()
                }
                false => secrets::text(word),
            };
            out.problems
                .push(format!("kernel command line: {word}: {problem}; {then}"));
        }
    }
    if is_for_boot {
        out.boot.get_or_insert(BootWord::Settings);
    }
    out.router = router.flatten();
    out
}

/// Whether a key says what a boot image starts, also where it is misspelt.
fn is_of_boot(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["recon.boot", "recon.token"].iter().any(|own| key.starts_with(own))
}

fn keep<T>(parsed: Result<T, impl ToString>, slot: &mut Option<T>) -> Option<String> {
    let kept = parsed.map(|value| *slot = Some(value));
    kept.err().map(|problem| problem.to_string())
}

pub(super) fn parse_address(text: &str) -> Result<(IpAddr, u8), String> {
    let error = || format!("{text:?} is not address/prefix such as 192.0.2.5/24 or fd00::5/64");
    let (ip, mask) = text.split_once('/').ok_or_else(error)?;
    let ip: IpAddr = ip.parse().map_err(|_| error())?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match mask.parse::<u8>() {
        Ok(prefix) if prefix <= longest => prefix,
        Ok(_) => return Err(error()),
        Err(_) if ip.is_ipv6() => return Err(error()),
        // iPXE has the mask as an address.
        Err(_) => {
            let bits = u32::from(mask.parse::<Ipv4Addr>().map_err(|_| error())?);
            if bits.leading_ones() + bits.trailing_zeros() != 32 {
                return Err(error());
            }
            bits.leading_ones() as u8
        }
    };
    Ok((ip, prefix))
}

/// Nothing, or iPXE's word for nothing, is no router.
fn parse_router(text: &str) -> Result<Option<Ipv4Addr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse::<Ipv4Addr>();
    let router = parsed.map_err(|_| format!("{text:?} is not an IPv4 address"))?;
    Ok(Some(router).filter(|router| !router.is_unspecified()))
}

fn parse_boot(text: &str) -> Result<BootWord, String> {
    match text {
        "settings" => Ok(BootWord::Settings),
        url if is_url(url) && url.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(BootWord::Url(url.to_owned())),
        _ => Err("it is neither a URL with http:// or https:// nor the word settings".to_owned()),
    }
}

/// Whether this is to be fetched over HTTP; DHCP servers name files of TFTP in the same place.
pub(crate) fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        let head = text.as_bytes().get(..scheme.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(scheme.as_bytes())) && text.len() > scheme.len()
    })
}

/// Letters of the longest sentence that is told so.
pub(crate) const MAX_WHY_CHARS: usize = 200;

fn parse_why(text: &str) -> Result<String, String> {
    let text = percent_encoding::percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(shown::line(&text).chars().take(MAX_WHY_CHARS).collect())
}

fn parse_cable_wait(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds) if seconds <= 600 => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("{text:?} is not a number of seconds up to 600")),
    }
}

/// A master's own word, or what any server may have given out (`b64token` of RFC 6750 §2.1; servers take some 8 KiB of headers).
fn parse_token(text: &str, is_for_boot: bool) -> Result<String, String> {
    let (most, others) = match is_for_boot {
        true => (8 << 10, "-._~+/="),
        false => (128, "-_"),
    };
    let is_of_one = |byte: u8| byte.is_ascii_alphanumeric() || others.as_bytes().contains(&byte);
    match (1..=most).contains(&text.len()) && text.bytes().all(is_of_one) {
        true => Ok(text.to_owned()),
        false => Err(format!("a token has 1 to {most} letters, digits and {others}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_line_our_boot_script_writes() {
        let line = parse(
            "initrd=initrd pxeaddr=192.168.219.1 BOOTIF=01-52-54-00-12-34-56 postaction=liveboot recon.poweroff=acpi \
             recon.address=192.168.219.60/255.255.255.0 recon.gateway=192.168.219.254 recon.token=abc-1 console=ttyS0,115200",
        );
        assert_eq!(line.master, Some("192.168.219.1:80".parse().unwrap()));
        assert_eq!(line.boot_mac, Some("52:54:00:12:34:56".parse().unwrap()));
        assert_eq!(line.post_action, Some(PostAction::Liveboot));
        assert_eq!(line.poweroff, Some(PowerOff::Acpi));
        assert_eq!(line.address, Some(("192.168.219.60".parse().unwrap(), 24)));
        assert_eq!(line.router, Some(Ipv4Addr::new(192, 168, 219, 254)));
        for none in ["", "0.0.0.0"] {
            let line = parse(&format!("recon.gateway={none}"));
            assert_eq!((line.router, line.problems.len()), (None, 0));
        }
        assert_eq!(parse("recon.gateway=here").problems.len(), 1);
        assert_eq!(line.token.as_deref(), Some("abc-1"));
        assert_eq!(line.problems, Vec::<String>::new());
    }

    #[test]
    fn reads_what_a_boot_image_is_to_start() {
        let line = parse("recon.boot=settings recon.boot_method=reboot");
        assert_eq!(
            (line.boot, line.boot_method),
            (Some(BootWord::Settings), Some(BootMethod::Reboot))
        );
        let line = parse("recon.boot=settings recon.boot=https://a.example/x?y=z");
        assert_eq!(line.boot, Some(BootWord::Url("https://a.example/x?y=z".to_owned())));
        for (odd, known) in [
            ("recon.boot=ftp://a", "http://"),
            ("recon.boot_method=kexce", "kexec, reboot"),
        ] {
            let line = parse(odd);
            assert!(line.problems[0].contains(known), "{:?}", line.problems);
        }
    }

    /// What a boot image starts has to be known for certain.
    #[test]
    fn a_mistake_in_what_a_boot_image_starts_is_kept_as_one() {
        for (text, mistakes) in [
            ("recon.boot=settings recon.boot=htp://x", 1),
            ("recon.boot=http://", 1),
            ("recon.boot=settings recon.boot_method=kexce", 1),
            ("recon.boot=settings recon.bootmethod=reboot", 1),
            ("recon.boot=settings recon.token=a,b", 1),
            ("recon.boot=settings recon.powerof=acpi", 0),
            ("recon.boot=HTTPS://a/", 0),
        ] {
            let line = parse(text);
            assert!(line.boot.is_some(), "{text}: a boot image is one");
            assert_eq!(line.boot_mistakes.len(), mistakes, "{text}: {:?}", line.problems);
        }
        assert_eq!(
            parse("recon.boot=HTTP://A/").boot,
            Some(BootWord::Url("HTTP://A/".to_owned()))
        );
    }

    #[test]
    fn a_token_is_taken_as_servers_give_them_and_shown_nowhere() {
        let jwt = format!("eyJh.{}.a-_~+/==", "x".repeat(2000));
        let line = parse(&format!("recon.token={jwt} recon.boot=http://a/"));
        assert_eq!((line.token.as_deref(), line.problems.len()), (Some(&*jwt), 0));
        // A master's are its own.
        let long = "x".repeat(129);
        for token in [jwt.as_str(), "a.b", "", &long] {
            assert_eq!(
                parse(&format!("pxeaddr=1.2.3.4 recon.token={token}")).token,
                None,
                "{token}"
            );
        }
        let too_long = format!("hunter2{}", "x".repeat(8 << 10));
        for text in [
            "recon.token=hunter2.hunter2",
            "recon.boot=settings recon.token=hunter2,",
            &format!("recon.boot=settings recon.token={too_long}"),
            "recon.boot=htp://u:hunter2@a/",
            "recon.boot=http://u:hunter2@a/\u{e9}",
            "Recon.token=hunter2",
            "recon.boot_url=http://u:hunter2@a/",
            "recon.url=http://u:hunter2@a/",
        ] {
            let line = parse(text);
            assert_eq!(line.problems.len(), 1, "{text}");
            let said = [line.problems, line.boot_mistakes].concat().join(" ");
            assert!(said.contains("econ.") && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn says_what_it_ignored() {
        let line = parse(
            "recon.powerof=ipmi recon.poweroff=soon pxeaddr=bang postaction=dance BOOTIF=eth0 quiet recon.address=1.2.3.4/255.0.255.0",
        );
        assert_eq!(line.master, None);
        let text = line.problems.join("\n");
        for word in [
            "recon.powerof=ipmi",
            "never, ipmi, acpi",
            "pxeaddr=bang",
            "inventory, liveboot, image",
            "BOOTIF=eth0",
            "255.0.255.0",
        ] {
            assert!(text.contains(word), "{word} is not in {text}");
        }
        assert_eq!(line.problems.len(), 6);
    }

    #[test]
    fn a_word_that_is_not_understood_powers_nothing_off() {
        for (text, end) in [
            ("", None),
            ("recon.poweroff=acpi", Some(PowerOff::Acpi)),
            ("recon.poweroff=acpi BOOTIF=eth0", Some(PowerOff::Acpi)),
            ("recon.poweroff=acpy", Some(PowerOff::Never)),
            ("recon.powerof=never recon.poweroff=acpi", Some(PowerOff::Never)),
            ("recon.master=bang", Some(PowerOff::Never)),
            ("pxeaddr=", Some(PowerOff::Never)),
            ("postaction=livebot recon.poweroff=ipmi", Some(PowerOff::Never)),
            ("Recon.poweroff=never recon.poweroff=ipmi", Some(PowerOff::Never)),
        ] {
            assert_eq!(parse(text).end(), end, "{text}");
        }
    }

    #[test]
    fn reads_what_a_boot_script_writes_on_ipv6() {
        let line = parse("pxeaddr=[fd12::1]:8080 recon.address=fd12::1:0:7/64");
        assert_eq!(line.master, Some("[fd12::1]:8080".parse().unwrap()));
        assert_eq!(line.address, Some(("fd12::1:0:7".parse().unwrap(), 64)));
        for odd in ["fd12::1/129", "fd12::1/ffff::", "fd12::1"] {
            assert_eq!(parse(&format!("recon.address={odd}")).problems.len(), 1, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in "\\PC{0,200}") {
            let _ = parse(&line).problems.len();
        }

        #[test]
        fn any_value_is_read_or_refused(key in "(pxeaddr|BOOTIF|recon.address|recon.token|postaction)", value in "[0-9./:a-f-]{0,40}") {
            let _ = parse(&format!("{key}={value}")).problems.len();
        }
    }
}
