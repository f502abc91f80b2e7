//! An iPXE from before `autoexec.ipxe` and `cwuri` boots: openSUSE Leap 15.4 ships one of February 2018 and Debian 12 one of
//! January 2019. Neither looks for a script beside itself, so the second answer of DHCP carries the whole load, and no script
//! that such an iPXE gets may need a word which it lacks.
//!
//! Every word of our scripts stands in a table with the time by which iPXE had it, and the scripts are run by what the
//! source of that time does with them (`hci/commands/`, `core/exec.c`, `image/script.c`, `core/settings.c`).

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode, UnknownOption};
use recon::formats::first_stage::{FirstStage, PortTable};
use recon::model::slice::Slice;
use recon::model::{MacAddr, NodePolicy, PostAction, PowerOff, UnixTime};
use recon::service::boot::source::BootSource;
use recon::service::boot::{autoexec, ipxe, memory, request};
use recon::service::dhcp4::client::identify;
use recon::service::dhcp4::decide::{Decision, decide};
use recon::service::dhcp4::leases::LeaseTable;
use recon::service::dhcp4::proxy;
use recon::service::dhcp4::quirks::Facts;
use recon::service::dhcp4::reply::Params;

use crate::lifecycle::{serve, site};
use crate::packets::packet;

/// Year and month.
type Date = (u16, u8);

/// openSUSE Leap 15.4's `ipxe-bootimgs` is 1.0.0+git20180203.
const LEAP_15_4: Date = (2018, 2);
/// Debian 12's `ipxe` is 1.0.0+git-20190125.36a4c85: the oldest that could be looked into.
const DEBIAN_12: Date = (2019, 1);

const BINARY: &str = "in the command and setting tables of Debian 12's snponly.efi";
const HELP: &str = "ipxe.org/cmd/help, last changed 2011-03-23, lists it";
const SMBIOS: &str =
    "the block `smbios` is in Debian 12's snponly.efi; its tags are those of smbios_settings.c of 2008";
const MATCHBOX: &str = "a script of 2017-01 uses it: github.com/poseidon/matchbox/pull/410 and /issues/415";
const PASTE: &str = "a menu of 2017-01-05 uses it: pastebin.com/cCk4Bsxk";

/// What our scripts use, when iPXE had it at the latest, and by what that is known. Options stand behind their command.
const WORDS: [(&str, Date, &str); 51] = [
    ("boot", (2011, 3), HELP),
    ("chain", (2011, 3), HELP),
    ("chain --replace", DEBIAN_12, BINARY),
    ("choose", (2017, 1), PASTE),
    ("choose --default", (2017, 1), PASTE),
    (
        "choose --timeout",
        (2017, 10),
        "a menu of 2017-10-05 uses it: gist andrewl3wis/e26a5d2f83a9d0ce60fc",
    ),
    ("echo", (2011, 3), HELP),
    ("exit", (2011, 3), HELP),
    ("goto", (2011, 3), HELP),
    ("ifclose", (2011, 3), HELP),
    ("ifconf", DEBIAN_12, BINARY),
    ("ifconf --configurator", DEBIAN_12, BINARY),
    (
        "iflinkwait",
        (2021, 1),
        "github.com/ipxe/ipxe/pull/224 of 2021-01-26 makes it a command",
    ),
    ("iflinkwait --timeout", (2021, 1), "the same"),
    ("ifopen", (2011, 3), HELP),
    ("imgfree", (2011, 3), HELP),
    ("inc", (2013, 8), "ipxe.org/cmd/inc, last changed 2013-08-01"),
    ("initrd", (2011, 3), HELP),
    ("initrd --name", DEBIAN_12, BINARY),
    ("iseq", (2011, 4), "ipxe.org/cmd/iseq, last changed 2011-04-08"),
    ("isset", (2011, 3), HELP),
    ("item", (2017, 1), PASTE),
    ("kernel", (2011, 3), HELP),
    ("menu", (2017, 1), PASTE),
    ("set", (2011, 3), HELP),
    ("shell", (2011, 3), HELP),
    ("sleep", DEBIAN_12, BINARY),
    (
        "${buildarch}",
        (2017, 1),
        "ipxe.org/cfg/buildarch, last changed 2017-01-26",
    ),
    (
        "${cwuri}",
        (2024, 3),
        "ipxe.org/cfg/cwuri and commit 88c2a01e1, both of 2024-03-19: github.com/ipxe/ipxe/pull/1168",
    ),
    (
        "${filename}",
        (2011, 3),
        "ipxe.org/cfgtype/string, last changed 2011-03-24",
    ),
    (
        "${netX/busid}",
        (2019, 1),
        "a ROM of that time puts its value into option 175 (dhcp.c): ipxe-bios-discover.bin",
    ),
    ("${netX/gateway}", DEBIAN_12, BINARY),
    (
        "${memsize}",
        (2013, 12),
        "memmap_settings.c of 2013 has it, for BIOS only: elsewhere it stands for nothing",
    ),
    ("${netX/ip}", DEBIAN_12, BINARY),
    ("${netX/mac}", (2017, 1), MATCHBOX),
    ("${netX/netmask}", DEBIAN_12, BINARY),
    ("${platform}", (2017, 1), PASTE),
    ("${serial}", (2017, 1), MATCHBOX),
    ("${smbios/19.4.8}", DEBIAN_12, SMBIOS),
    ("${smbios/1.19.4.8}", DEBIAN_12, SMBIOS),
    ("${smbios/2.19.4.8}", DEBIAN_12, SMBIOS),
    ("${smbios/17.12.2}", DEBIAN_12, SMBIOS),
    ("${smbios/1.17.12.2}", DEBIAN_12, SMBIOS),
    ("${uuid}", (2017, 1), MATCHBOX),
    (":hexhyp", (2017, 1), MATCHBOX),
    (":int32", (2013, 8), "ipxe.org/cmd/inc, last changed 2013-08-01"),
    (
        ":uristring",
        (2011, 3),
        "ipxe.org/cfgtype/string, last changed 2011-03-24",
    ),
    ("${port}", (2013, 8), "a setting of the script's own"),
    ("${tries}", (2013, 8), "a setting of the script's own"),
    ("${wait}", (2013, 8), "a setting of the script's own"),
    ("${waits}", (2013, 8), "a setting of the script's own"),
];
/// Settings that scripts make themselves and that stand behind `goto` and `choose`.
const OWN: [&str; 2] = ["what", "here"];

fn by(word: &str) -> Option<Date> {
    WORDS
        .iter()
        .find(|(known, ..)| *known == word)
        .map(|(_, date, _)| *date)
}

/// The script of the folder for any web server, as the build writes it.
fn for_any_web_server() -> String {
    let tool = include_str!("../../tools/targets.sh");
    let begun = tool.split_once("boot.ipxe\" <<'EOF'\n").expect("the script's begin").1;
    let script = begun.split_once("\nEOF\n").expect("the script's end").0;
    format!("{}\n", script.replace("@CMDLINE@", "console=tty0 quiet"))
}

fn client(post_action: PostAction) -> request::Boot {
    request::Boot {
        master: "192.168.219.1:80".parse().unwrap(),
        client: "192.168.219.60".parse().unwrap(),
        mac: None,
        fills_in: true,
        bus: None,
        first_stage: Vec::new(),
        policy: NodePolicy {
            post_action,
            poweroff: PowerOff::Never,
        },
        image: None,
        why: None,
        kernel_arguments: String::new(),
        pause_seconds: 0,
        arch: Some("x86_64".to_owned()),
        memtest_efi: true,
        memtest_bios: true,
    }
}

/// Every script that an iPXE may get which does not ask for `autoexec.ipxe`.
fn scripts() -> Vec<(&'static str, String)> {
    let master: SocketAddr = "192.168.219.1:80".parse().unwrap();
    let arm64 = request::Boot {
        arch: Some("arm64".to_owned()),
        ..client(PostAction::Inventory)
    };
    let unknown_port = request::Boot {
        fills_in: false,
        ..client(PostAction::Inventory)
    };
    let looping = request::Boot {
        pause_seconds: 60,
        ..client(PostAction::Inventory)
    };
    let first_stage = request::Boot {
        bus: "01-80-86-10-0e".parse().ok(),
        first_stage: vec!["base.img".to_owned(), "port/e1000.img".to_owned()],
        ..client(PostAction::Inventory)
    };
    vec![
        ("inventory", ipxe::boot(&looping)),
        ("first stage", ipxe::boot(&first_stage)),
        ("first stage", ipxe::menu(&first_stage)),
        ("entry", ipxe::entry(master, None)),
        ("unknown port", ipxe::boot(&unknown_port)),
        ("inventory", ipxe::boot(&client(PostAction::Inventory))),
        ("liveboot", ipxe::boot(&client(PostAction::Liveboot))),
        ("arm64", ipxe::boot(&arm64)),
        ("menu", ipxe::menu(&client(PostAction::Inventory))),
        ("make http", for_any_web_server()),
    ]
}

/// Commands of a line, each with what has to be true of the one before.
fn commands(line: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found = vec![("", Vec::new())];
    for token in line.split_whitespace() {
        match token {
            "||" | "&&" => found.push((token, Vec::new())),
            comment if comment.starts_with('#') => break,
            word => found.last_mut().unwrap().1.push(word),
        }
    }
    found
}

/// What stands in `${}`, the inner ones first.
fn settings_in(text: &str) -> Vec<String> {
    let mut text = text.to_owned();
    let mut found = Vec::new();
    while let Some(end) = text.find('}') {
        let Some(begin) = text[..end].rfind("${") else { break };
        found.push(text[begin + 2..end].to_owned());
        text.replace_range(begin..=end, "0");
    }
    found
}

/// The table's word for a setting: without its type, and of whatever port.
fn setting_word(name: &str) -> String {
    let name = name.split(':').next().unwrap();
    match name.split_once('/') {
        Some((port, name)) if port.starts_with("net") => format!("${{netX/{name}}}"),
        _ => format!("${{{name}}}"),
    }
}

/// Every word of a script that may be newer than another.
fn words(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in script.lines().filter(|line| !line.starts_with([':', '#'])) {
        for (_, words) in commands(line) {
            let Some((command, rest)) = words.split_first() else {
                continue;
            };
            found.push((*command).to_owned());
            let options = rest.iter().take_while(|_| *command != "kernel" && *command != "echo");
            found.extend(
                options
                    .filter(|word| word.starts_with("--"))
                    .map(|option| format!("{command} {option}")),
            );
            if let ("set", [name, ..]) = (*command, rest) {
                found.extend(name.split_once(':').map(|(_, kind)| format!(":{kind}")));
            }
        }
        for name in settings_in(line) {
            found.extend(name.split_once(':').map(|(_, kind)| format!(":{kind}")));
            if !OWN.contains(&name.as_str()) {
                found.push(setting_word(&name));
            }
        }
    }
    found
}

#[test]
fn every_word_of_a_script_is_one_that_an_old_ipxe_has() {
    for (name, script) in scripts() {
        for word in words(&script) {
            let known = by(&word).unwrap_or_else(|| panic!("{name}: since when has iPXE `{word}`?"));
            // The one exception stands in for nothing where it is not known: see the test that runs the script.
            let stands_in = name == "make http" && word == "${cwuri}";
            assert!(known <= DEBIAN_12 || stands_in, "{name}: `{word}` came in {known:?}");
        }
    }
    // Only who asks for it by itself gets this one, and such an iPXE is of 2021 or later.
    for word in words(&autoexec::autoexec("192.168.219.1:80".parse().unwrap())) {
        let known = by(&word).unwrap_or_else(|| panic!("autoexec.ipxe: since when has iPXE `{word}`?"));
        assert!(known <= (2021, 1), "autoexec.ipxe: `{word}` came in {known:?}");
    }
}

/// How a script ended.
#[derive(Debug, PartialEq)]
enum End {
    /// With this kernel line, the URL in front.
    Boots(String),
    /// Another script of this URL takes its place.
    Chains(String),
    Exits,
    /// A line failed that is not caught.
    Fails(String),
    /// It goes round and round.
    Loops,
}

/// An iPXE of a certain age, as far as scripts go.
struct Old<'a> {
    now: Date,
    settings: HashMap<String, String>,
    /// URL of the script that runs.
    here: String,
    fetch: &'a dyn Fn(&str) -> Option<Vec<u8>>,
    image: Option<String>,
    said: Vec<String>,
    lacked: Vec<String>,
}

/// Lines after which a script counts as one without an end.
const MAX_LINES: usize = 60;

impl<'a> Old<'a> {
    fn new(now: Date, filename: &str, fetch: &'a dyn Fn(&str) -> Option<Vec<u8>>) -> Self {
        let settings = [
            ("filename", filename),
            ("netX/mac", "52:54:00:00:01:02"),
            ("netX/gateway", ""),
            ("netX/busid", "01:1a:f4:10:00"),
            ("netX/ip", "192.168.219.60"),
            ("netX/netmask", "255.255.255.0"),
            ("uuid", "4c4c4544-0042-3510-8052-b4c04f4a3232"),
            ("buildarch", "x86_64"),
            ("serial", "AB 12"),
            ("platform", "efi"),
            ("cwuri", filename),
        ];
        Old {
            now,
            settings: settings
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into_iter()
                .collect(),
            here: filename.to_owned(),
            fetch,
            image: None,
            said: Vec::new(),
            lacked: Vec::new(),
        }
    }

    fn has(&mut self, word: &str) -> bool {
        let has = by(word).is_some_and(|date| date <= self.now);
        if !has {
            self.lacked.push(word.to_owned());
        }
        has
    }

    /// A setting that it does not know is one that is not set.
    fn expand(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        while let Some(end) = text.find('}') {
            let Some(begin) = text[..end].rfind("${") else { break };
            let name = text[begin + 2..end].to_owned();
            let (plain, kind) = name.split_once(':').unwrap_or((&name, ""));
            let known = OWN.contains(&plain) || self.has(&setting_word(&name));
            let value = match self.settings.get(plain) {
                Some(value) if known => value.clone(),
                _ => String::new(),
            };
            let value = match kind {
                "hexhyp" => value.replace(':', "-"),
                "uristring" => value.replace(' ', "%20"),
                _ => value,
            };
            text.replace_range(begin..=end, &value);
        }
        text
    }

    fn url(&self, uri: &str) -> String {
        match uri.contains("://") {
            true => uri.to_owned(),
            false => format!("{}/{uri}", self.here.rsplit_once('/').map_or("", |(folder, _)| folder)),
        }
    }

    fn run(&mut self, script: &str) -> End {
        assert!(script.starts_with("#!ipxe\n"), "iPXE takes it for no script:\n{script}");
        let lines: Vec<&str> = script.lines().collect();
        let mut at = 0;
        for _ in 0..MAX_LINES {
            let Some(line) = lines.get(at) else {
                return End::Exits;
            };
            at += 1;
            if line.starts_with(':') {
                continue;
            }
            let mut good = true;
            for (condition, words) in commands(line) {
                if condition == "||" && good || condition == "&&" && !good {
                    continue;
                }
                match self.command(&words) {
                    Ok(is_good) => good = is_good,
                    Err(Stop::Goto(label)) => {
                        let label = format!(":{label}");
                        at = lines.iter().position(|line| *line == label).expect(&label);
                        good = true;
                        break;
                    }
                    Err(Stop::End(end)) => return end,
                }
            }
            if !good {
                return End::Fails((*line).to_owned());
            }
        }
        End::Loops
    }

    fn command(&mut self, words: &[&str]) -> Result<bool, Stop> {
        let words: Vec<String> = words.iter().map(|word| self.expand(word)).collect();
        let Some((command, rest)) = words.split_first() else {
            return Ok(true);
        };
        if !self.has(command) {
            return Ok(false);
        }
        let mut rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let mut options = HashMap::new();
        while let Some(option) = rest.first().filter(|word| word.starts_with("--")).copied() {
            if !self.has(&format!("{command} {option}")) {
                return Ok(false);
            }
            rest.remove(0);
            if option != "--replace" {
                options.insert(option, rest.remove(0).to_owned());
            }
        }
        match (command.as_str(), rest.as_slice()) {
            ("echo", words) => self.said.push(words.join(" ")),
            ("set", [name, value @ ..]) => {
                let name = name.split(':').next().unwrap();
                match value.join(" ") {
                    empty if empty.is_empty() => self.settings.remove(name),
                    value => self.settings.insert(name.to_owned(), value),
                };
            }
            ("isset", [value]) => return Ok(!value.is_empty()),
            ("iseq", [one, other]) => return Ok(one == other),
            ("goto", [label]) => return Err(Stop::Goto((*label).to_owned())),
            // Nobody is at the console.
            ("choose", [name]) => {
                let chosen = options.remove("--default").expect("a default");
                self.settings.insert((*name).to_owned(), chosen);
            }
            ("imgfree", []) => self.image = None,
            ("kernel", [uri, arguments @ ..]) => {
                let url = self.url(uri);
                if (self.fetch)(&url).is_none() {
                    return Ok(false);
                }
                self.image = Some(format!("{url} {}", arguments.join(" ")));
            }
            ("initrd", [uri]) => return Ok((self.fetch)(&self.url(uri)).is_some()),
            ("chain", [uri]) => {
                let url = self.url(uri);
                return match (self.fetch)(&url) {
                    Some(_) => Err(Stop::End(End::Chains(url))),
                    None => Ok(false),
                };
            }
            ("boot", []) => match self.image.take() {
                Some(image) => return Err(Stop::End(End::Boots(image))),
                None => return Ok(false),
            },
            ("exit", _) => return Err(Stop::End(End::Exits)),
            ("menu" | "item" | "sleep", _) => {}
            other => panic!("nothing is known of {other:?}"),
        }
        Ok(true)
    }
}

enum Stop {
    Goto(String),
    End(End),
}

fn all(_: &str) -> Option<Vec<u8>> {
    Some(Vec::new())
}

fn none(_: &str) -> Option<Vec<u8>> {
    None
}

#[test]
fn a_machine_with_too_little_memory_is_told_and_let_go() {
    let url = "http://192.168.219.1/boot.ipxe?mac=52-54-00-00-01-02";
    let refuse = |uri: &str| -> Option<Vec<u8>> {
        uri.contains("/why.ipxe?memory=511&map=00-00-00-00-ff-ff-07-00__&")
            .then(Vec::new)
    };
    let mut old = Old::new(DEBIAN_12, url, &refuse);
    old.settings.insert("memsize".to_owned(), "511".to_owned());
    old.settings
        .insert("smbios/19.4.8".to_owned(), "00:00:00:00:ff:ff:07:00".to_owned());
    let end = old.run(&ipxe::boot(&client(PostAction::Inventory)));
    let End::Chains(why) = end else {
        panic!("{end:?}: {:?}", old.said);
    };
    assert!(why.ends_with("&action=inventory&with=initrd"), "{why}");
    let reason = memory::too_little(511, 560).unwrap();
    let mut old = Old::new(DEBIAN_12, url, &all);
    assert_eq!(old.run(&ipxe::refusal(&reason)), End::Exits);
    assert!(old.said[0].contains("49 MiB are missing"), "{:?}", old.said);
}

#[test]
fn the_scripts_do_on_an_old_ipxe_what_they_are_for() {
    let url = "http://192.168.219.1/boot.ipxe?mac=52-54-00-00-01-02";
    for (name, script) in scripts() {
        if name == "make http" {
            continue;
        }
        let mut old = Old::new(DEBIAN_12, url, &all);
        let end = old.run(&script);
        match (name, end) {
            ("entry", End::Chains(url)) => assert_eq!(
                url,
                "http://192.168.219.1/boot.ipxe?mac=52-54-00-00-01-02&uuid=4c4c4544-0042-3510-8052-b4c04f4a3232\
                 &arch=x86_64&serial=AB%2012&bus=01-1a-f4-10-00"
            ),
            ("inventory" | "menu", End::Boots(line)) => {
                assert!(
                    line.starts_with("http://192.168.219.1/boot/x86_64/kernel?memory=")
                        && line.contains("&action=inventory&with=initrd initrd=initrd "),
                    "{line}"
                );
                assert!(line.contains(" BOOTIF=01-52-54-00-00-01-02 "), "{line}");
                assert!(line.contains(" recon.address=192.168.219.60/255.255.255.0 "), "{line}");
            }
            ("first stage", End::Boots(line)) => assert!(
                line.contains(
                    "&action=inventory&with=first&bus=01-80-86-10-0e initrd=base.img initrd=e1000.img pxeaddr="
                ),
                "{line}"
            ),
            ("unknown port", End::Boots(line)) => assert!(!line.contains("BOOTIF"), "{line}"),
            ("liveboot", End::Boots(line)) => {
                assert!(line.contains(" root=live:http://192.168.219.1/image.iso "), "{line}");
            }
            ("arm64", End::Exits) => assert!(old.said[0].contains("arm64"), "{:?}", old.said),
            (name, end) => panic!("{name} ends so: {end:?}, and said {:?}", old.said),
        }
        assert_eq!(old.lacked, Vec::<String>::new(), "{name}");
        // Where nothing comes, it tries on and falls out nowhere.
        let mut old = Old::new(DEBIAN_12, url, &none);
        let end = old.run(&script);
        let wanted = if name == "arm64" { End::Exits } else { End::Loops };
        assert_eq!(end, wanted, "{name} with a master that is gone; it said {:?}", old.said);
    }
}

#[test]
fn the_folder_for_any_web_server_boots_an_old_ipxe_that_dhcp_sent_there() {
    let script = for_any_web_server();
    let want = "http://10.0.0.5/recon/kernel initrd=initrd root=live:http://10.0.0.5/recon/boot.ipxe/../recon.iso ";
    let url = "http://10.0.0.5/recon/boot.ipxe";
    for now in [LEAP_15_4, DEBIAN_12, (2026, 1)] {
        // Of what only Debian's binary shows, nothing is needed here, so Leap's does it as well.
        let lacks = |word: &str| by(word).unwrap() > now;
        let mut old = Old::new(if now == LEAP_15_4 { DEBIAN_12 } else { now }, url, &all);
        match old.run(&script) {
            End::Boots(line) => assert!(line.starts_with(want), "{now:?}: {line}"),
            end => panic!("{now:?}: {end:?}, and said {:?}", old.said),
        }
        assert_eq!(
            old.lacked.contains(&"${cwuri}".to_owned()),
            lacks("${cwuri}"),
            "{now:?}"
        );
    }
    // An old one that was sent here by something else cannot say where "here" is: it says so and boots nothing half.
    let mut lost = Old::new(DEBIAN_12, url, &all);
    lost.settings.remove("filename");
    assert_eq!(lost.run(&script), End::Exits);
    assert!(lost.said.iter().any(|line| line.contains("DHCP")), "{:?}", lost.said);
    let mut new = Old::new((2026, 1), url, &all);
    new.settings.insert("filename".to_owned(), "undionly.kpxe".to_owned());
    assert!(matches!(new.run(&script), End::Boots(line) if line.starts_with(want)));
}

fn params(port: u16) -> Params {
    Params {
        subnet: recon::config::Settings::default().subnet(0).unwrap(),
        lease: Default::default(),
        boot: BootSource {
            http_port: port,
            ..BootSource::default()
        },
    }
}

fn answer(params: &Params, leases: &mut LeaseTable, request: &Message) -> Message {
    let client = identify(request).unwrap();
    match decide(
        params,
        leases,
        &Facts::new(request, &client),
        UnixTime::from_seconds(1000),
    ) {
        Decision::Reply(reply) => recon::service::dhcp4::wire::decode(&reply.bytes()).unwrap(),
        other => panic!("no reply: {other:?}"),
    }
}

/// The name that iPXE takes: option 67 where there is one, else the header's (`filename_setting`).
fn filename(message: &Message) -> String {
    let header = message.fname().unwrap_or_default();
    let header = header.split(|byte| *byte == 0).next().unwrap().to_vec();
    if let Some(DhcpOption::BootfileName(name)) = message.opts().get(OptionCode::BootfileName) {
        // The option's value may end with a zero byte (RFC 2132 section 2), which the header's field has in any case.
        assert_eq!(
            header,
            name.split(|byte| *byte == 0).next().unwrap(),
            "both places say the same"
        );
    }
    String::from_utf8(header).unwrap()
}

/// The BIOS ROM of 2019 as it was captured, and the same as a UEFI build of that age would ask: architecture, class, and
/// fewer features in option 175.
fn captured(name: &str, uefi: bool) -> Message {
    let mut message = packet(name);
    if uefi {
        let features = [
            0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 0xeb, 3, 1, 0, 0, 0x15, 1, 1, 0x13, 1, 1, 0x24, 1, 1,
        ];
        for option in [
            DhcpOption::ClientSystemArchitecture(7u16.into()),
            DhcpOption::ClassIdentifier(b"PXEClient:Arch:00007:UNDI:003010".to_vec()),
            DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(175), features.to_vec())),
        ] {
            message.opts_mut().insert(option);
        }
    }
    message
}

/// A GET as iPXE sends it; the body of a 200.
fn get(master: SocketAddr, url: &str) -> Option<Vec<u8>> {
    let path = url.strip_prefix("http://")?.split_once('/')?.1;
    let mut stream = TcpStream::connect(master).unwrap();
    let request =
        format!("GET /{path} HTTP/1.1\r\nUser-Agent: iPXE/1.0.0+\r\nHost: {master}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let body = answer.split_off(end);
    answer.starts_with(b"HTTP/1.1 200").then_some(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_ipxe_boots_by_what_dhcp_tells_it_alone() {
    boots_by_what_dhcp_tells_it_alone(None, "&action=inventory&with=initrd initrd=initrd ").await;
}

/// What DHCP tells it has no room for what its port is: one script more asks for that.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_ipxe_boots_into_the_first_stage_by_one_script_more() {
    let line = "&action=inventory&with=first&bus=01-1a-f4-10-00 initrd=base.img initrd=virtio_net.img ";
    boots_by_what_dhcp_tells_it_alone(Some("pci:v00001AF4d00001000sv*sd*bc*sc*i*\tvirtio_net\n"), line).await;
}

async fn boots_by_what_dhcp_tells_it_alone(ports: Option<&str>, line_has: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let mut site = site(folder.path());
    let parts = Arc::get_mut(&mut site).unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, name).unwrap();
        Slice {
            path,
            offset: 0,
            length: name.len() as u64,
            patches: vec![],
        }
    };
    parts.boot.kernel = Some(file("kernel"));
    parts.boot.initrd = Some(file("initrd"));
    parts.boot.first_stage = ports.map(|ports| FirstStage {
        base: file("base.img"),
        ports: file("ports.img"),
        pack: Some(file("modules.pack")),
        port: [("virtio_net".to_owned(), file("virtio_net.img"))].into(),
        table: PortTable::read(ports).unwrap(),
    });
    let (master, stop, running) = serve(site).await;
    for uefi in [false, true] {
        let params = params(master.port());
        let mut leases = LeaseTable::new(params.subnet.lease_first, params.subnet.lease_last, []);
        let offer = answer(&params, &mut leases, &captured("ipxe-bios-discover.bin", uefi));
        assert_eq!(offer.opts().msg_type(), Some(MessageType::Offer));
        let mut request = captured("ipxe-bios-request.bin", uefi);
        for option in [
            DhcpOption::ServerIdentifier(params.subnet.server),
            DhcpOption::RequestedIpAddress(offer.yiaddr()),
        ] {
            request.opts_mut().insert(option);
        }
        let ack = answer(&params, &mut leases, &request);
        assert_eq!(ack.opts().msg_type(), Some(MessageType::Ack));
        let named = filename(&ack);
        assert_eq!(filename(&offer), named);
        // Whole: scheme, master, and who asks. It asks nobody else, and waits for no proxy.
        let base = format!(
            "http://192.168.219.1:{}/boot.ipxe?mac=52-54-00-00-01-02&uuid=${{uuid}}",
            master.port()
        );
        assert!(named.starts_with(&base), "{named}");
        assert!(
            matches!(ack.opts().get(OptionCode::Unknown(175)), Some(DhcpOption::Unknown(option)) if option.data() == [176, 1, 1])
        );
        assert!(
            ack.opts().get(OptionCode::ClassIdentifier).is_none(),
            "a class would send it to a boot server"
        );

        let staged = ports.is_some();
        let said = tokio::task::spawn_blocking(move || {
            let fetch = |url: &str| get(master, url);
            let mut old = Old::new(DEBIAN_12, &named, &fetch);
            // iPXE fills in the settings of a boot file's name.
            let url = old.expand(&named);
            let script = String::from_utf8(fetch(&url).expect("the script")).unwrap();
            old.here = url;
            let mut end = old.run(&script);
            if let (true, End::Chains(url)) = (staged, &end) {
                let script = String::from_utf8(fetch(url).expect("the second script")).unwrap();
                end = old.run(&script);
            }
            assert_eq!(old.lacked, Vec::<String>::new());
            (end, old.said)
        });
        let (end, said) = said.await.unwrap();
        match end {
            End::Boots(line) => {
                assert!(line.contains("/boot/x86_64/kernel?memory="), "{line}");
                assert!(line.contains(line_has), "{line}");
                assert!(line.contains(" BOOTIF=01-52-54-00-00-01-02 "), "{line}");
            }
            end => panic!("{end:?}, and said {said:?}"),
        }
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Beside another DHCP server the whole load is on the proxy's answer, which old iPXE takes with option 175 alone too.
#[test]
fn beside_another_server_an_old_ipxe_is_sent_to_the_same_script() {
    let server = [10, 0, 0, 9].into();
    let params = proxy::Params {
        server,
        prefix: 24,
        routed: Vec::new(),
        boot: BootSource::default(),
    };
    for uefi in [false, true] {
        for with_class in [true, false] {
            let mut request = captured("ipxe-bios-discover.bin", uefi);
            if !with_class {
                request.opts_mut().remove(OptionCode::UserClass);
            }
            let nobody = "0.0.0.0:68".parse().unwrap();
            let proxy::Decision::Reply(reply) = proxy::decide(&params, &request, nobody, proxy::Port::Dhcp) else {
                panic!("no reply")
            };
            let mac: MacAddr = "52:54:00:00:01:02".parse().unwrap();
            let master: SocketAddr = (server, 80).into();
            assert_eq!(filename(&reply.message), request::script_url(master, Some(mac)));
            assert_eq!(reply.message.siaddr(), server);
        }
    }
}
