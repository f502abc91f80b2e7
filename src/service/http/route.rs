//! Request line to route. Pure; the one table of what this master answers.

use crate::config::Marks;
use crate::formats::first_stage::BusId;
use crate::model::{MacAddr, NodeId, PostAction, layout};
use crate::service::boot::programs::Made;
use crate::service::boot::request::StartsWith;
use crate::service::boot::{memory, programs};
use crate::service::http::workload;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Index,
    /// `/boot.ipxe`, with what the client said of itself.
    BootScript(Who),
    Menu(Who),
    /// `/boot.grub`: what GRUB gets of the same.
    GrubScript(Who),
    /// What iPXE or GRUB looks for beside itself when it came over HTTP.
    Made(Made),
    /// The kernel, with what the machine has of memory.
    Kernel(Who),
    /// Why the kernel was not given to it.
    Why(Who),
    Initrd,
    /// A file of the first stage, by its path below that folder.
    FirstStage(String),
    Image,
    /// A network boot program, for UEFI HTTP Boot and for people.
    Loader(&'static str),
    Post,
    /// The proof that `post.tgz` is this site's own, for a question of 32 hex digits.
    PostProof(Option<[u8; 16]>),
    /// Every stored inventory in one file.
    Tarball,
    /// A file of an image of nodes, as a relative path of plain names.
    NodeImage(Vec<String>),
    /// A file or folder of the data partition, as a relative path of plain names.
    Data(Vec<String>),
    Status,
    /// Counters in Prometheus text.
    Metrics,
    /// Every machine, or the most urgent ones up to a number.
    Nodes(Option<usize>),
    Policy(Who),
    /// What a node is given besides its image.
    OwnFiles(Who),
    /// The line of `known_hosts` for a node.
    HostKey(Who),
    /// A person decides about settings that were not read whole.
    Settings(Decision),
    Stage(NodeId),
    /// A person wants images tried again: on the machine of this name, or on all.
    Retry(Option<NodeId>),
    /// A person has machines start something else.
    SetImage,
    /// What takes a machine's place, by the recon that ran on it.
    Starts,
    Upload(NodeId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The file is mended: read it again.
    Read,
    /// Go on with what was understood.
    Go,
}

/// What a client said of itself in the query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    pub mac: Option<MacAddr>,
    /// It filled `mac` in, also where that is no Ethernet address: InfiniBand's are 8 or 20 bytes long, and a loader may have none.
    pub said_mac: bool,
    /// What its port is.
    pub bus: Option<BusId>,
    /// It filled `bus` in, also where that is of a bus that is not known here, or nothing.
    pub said_bus: bool,
    pub uuid: Option<String>,
    /// Processor for which the boot program is built, as iPXE names it.
    pub arch: Option<String>,
    pub serial: Option<String>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// What it is to do, where it chose that itself.
    pub action: Option<PostAction>,
    /// What its script has it start with.
    pub with: Option<StartsWith>,
}

impl Who {
    /// What it is known by besides its port.
    pub(super) fn marks(&self) -> Marks<'_> {
        Marks {
            uuid: self.uuid.as_deref(),
            serial: self.serial.as_deref(),
        }
    }
}

/// A name longer than this is none that a boot program gives.
const MAX_NAME_CHARS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    NotFound,
    /// The path exists; these are its methods.
    Method(&'static str),
    /// The node id in the path is none.
    BadNodeId,
}

/// Finds the route of a request. `target` is the request target: a path with an optional query.
pub fn route(method: &str, target: &str) -> Result<Route, NoRoute> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let names = segments(path).ok_or(NoRoute::NotFound)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = match names.as_slice() {
        [] => Route::Index,
        ["boot.ipxe"] => Route::BootScript(who(query)),
        ["menu.ipxe"] => Route::Menu(who(query)),
        ["boot", "x86_64", "kernel"] => Route::Kernel(who(query)),
        ["why.ipxe"] => Route::Why(who(query)),
        ["boot", "x86_64", "initrd"] => Route::Initrd,
        ["boot", "x86_64", "first", rest @ ..] => Route::FirstStage(rest.join("/")),
        ["image.iso"] => Route::Image,
        ["boot.grub"] => Route::GrubScript(who(query)),
        ["loaders", rest @ ..] => match programs::made(&rest.join("/")) {
            Some(made) => Route::Made(made),
            None => Route::Loader(programs::loader_named(&rest.join("/")).ok_or(NoRoute::NotFound)?),
        },
        ["metrics"] => Route::Metrics,
        [layout::WORKLOAD] => Route::Post,
        [layout::EXPORT, layout::TARBALL] => Route::Tarball,
        ["api", "v1", "status"] => Route::Status,
        ["api", "v1", "nodes"] => Route::Nodes(rows(query)),
        ["api", "v1", "policy"] => Route::Policy(who(query)),
        ["api", "v1", "host-key"] => Route::HostKey(who(query)),
        ["api", "v1", "own-files"] => Route::OwnFiles(who(query)),
        ["api", "v1", "workload"] => Route::PostProof(query.strip_prefix("nonce=").and_then(workload::from_hex)),
        ["api", "v1", "settings", "read"] => return only("POST", method, Route::Settings(Decision::Read)),
        ["api", "v1", "settings", "go"] => return only("POST", method, Route::Settings(Decision::Go)),
        ["api", "v1", "retry"] => return only("POST", method, Route::Retry(None)),
        ["api", "v1", "nodes", id, "retry"] => return only("POST", method, Route::Retry(Some(node(id)?))),
        ["api", "v1", "set-image"] => return only("POST", method, Route::SetImage),
        ["api", "v1", "starts"] => return only("POST", method, Route::Starts),
        ["api", "v1", "nodes", id, "stage"] => return only("POST", method, Route::Stage(node(id)?)),
        ["api", "v1", "nodes", id, "upload"] => return only("PUT", method, Route::Upload(node(id)?)),
        [layout::IMAGES, ..] => Route::NodeImage(names.iter().map(|s| (*s).to_owned()).collect()),
        [folder, ..] if layout::SERVED_FOLDERS.contains(folder) => {
            Route::Data(names.iter().map(|s| (*s).to_owned()).collect())
        }
        // A folder that is built into GRUB begins at the server's root.
        _ => Route::Made(programs::made(&names.join("/")).ok_or(NoRoute::NotFound)?),
    };
    match method {
        "GET" | "HEAD" => Ok(found),
        _ => Err(NoRoute::Method("GET, HEAD")),
    }
}

fn only(allowed: &'static str, method: &str, route: Route) -> Result<Route, NoRoute> {
    (method == allowed).then_some(route).ok_or(NoRoute::Method(allowed))
}

fn node(text: &str) -> Result<NodeId, NoRoute> {
    text.parse().map_err(|_| NoRoute::BadNodeId)
}

/// Plain names of a path, decoded. `None` for whatever could leave its folder: `.`, `..`, separators and control
/// characters after decoding, or escapes that are none. Firmware separates by backslashes too.
fn segments(path: &str) -> Option<Vec<String>> {
    path.split(['/', '\\'])
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            let name = percent_decode(segment)?;
            let plain = !matches!(name.as_str(), "." | "..") && !name.contains(['/', '\\']);
            (plain && !name.chars().any(char::is_control)).then_some(name)
        })
        .collect()
}

/// `None` for a `%` that begins no escape, which the crate would let through as it is.
fn percent_decode(text: &str) -> Option<String> {
    let is_escape = |rest: &[u8]| matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    let fine = text.as_bytes().split(|byte| *byte == b'%').skip(1).all(is_escape);
    let text = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    fine.then(|| text.into_owned())
}

/// A value that is shown to people: not empty, not long, nothing that moves a cursor.
fn name(value: &str) -> Option<String> {
    let text = percent_decode(value)?;
    let text = text.trim();
    let plain = !text.is_empty() && text.chars().count() <= MAX_NAME_CHARS && !text.chars().any(char::is_control);
    plain.then(|| text.to_owned())
}

/// One word, as iPXE names a processor. It is written into the client's boot script.
fn is_word(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// `rows=N`.
fn rows(query: &str) -> Option<usize> {
    let mut values = query.split('&').filter_map(|pair| pair.strip_prefix("rows="));
    values.next()?.parse().ok()
}

/// Unknown and unreadable values are left out: a boot script must come whatever the firmware says.
fn who(query: &str) -> Who {
    let mut who = Who::default();
    let (mut memory, mut map, mut modules) = ("", "", "");
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match key {
            "mac" => {
                who.mac = percent_decode(value).and_then(|text| text.parse().ok()).or(who.mac);
                who.said_mac = true;
            }
            "bus" => {
                who.bus = percent_decode(value).and_then(|text| text.parse().ok()).or(who.bus);
                who.said_bus = true;
            }
            "arch" => who.arch = name(value).filter(|arch| is_word(arch)).or(who.arch),
            "serial" => who.serial = name(value).or(who.serial),
            "memory" => memory = value,
            "map" => map = value,
            "modules" => modules = value,
            "action" => who.action = value.parse().ok(),
            "with" => who.with = StartsWith::ALL.into_iter().find(|with| with.as_str() == value),
            "uuid" => who.uuid = percent_decode(value).filter(|text| text.len() == 36).or(who.uuid),
            _ => {}
        }
    }
    who.memory_mib = memory::said_mib(memory, map, modules);
    who
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::start_report;
    use proptest::prelude::*;

    #[test]
    fn every_promised_path_has_its_route() {
        let id: NodeId = "mac-525400123456".parse().unwrap();
        let cases = [
            ("GET", "/", Route::Index),
            ("GET", "/boot/x86_64/kernel", Route::Kernel(Who::default())),
            ("GET", "/api/v1/host-key", Route::HostKey(Who::default())),
            ("POST", "/api/v1/retry", Route::Retry(None)),
            ("POST", "/api/v1/set-image", Route::SetImage),
            (
                "POST",
                "/api/v1/nodes/mac-525400000001/retry",
                Route::Retry(Some("mac-525400000001".parse().unwrap())),
            ),
            ("GET", "/api/v1/own-files", Route::OwnFiles(Who::default())),
            ("HEAD", "/boot/x86_64/initrd", Route::Initrd),
            (
                "GET",
                "/boot/x86_64/first/base.img",
                Route::FirstStage("base.img".into()),
            ),
            (
                "HEAD",
                "/boot/x86_64/first/port/e1000.img",
                Route::FirstStage("port/e1000.img".into()),
            ),
            ("GET", "/image.iso", Route::Image),
            (
                "GET",
                "/images/compute/3ea150742bbf/kernel?memory=",
                Route::NodeImage(["images", "compute", "3ea150742bbf", "kernel"].map(String::from).into()),
            ),
            ("GET", "/post.tgz", Route::Post),
            ("GET", "/export/recon-inventory.tar.gz", Route::Tarball),
            ("GET", "/loaders/autoexec.ipxe", Route::Made(Made::Autoexec)),
            ("GET", "/loaders/grub/grub.cfg", Route::Made(Made::GrubConfig)),
            ("GET", "/grub/grub.cfg", Route::Made(Made::GrubConfig)),
            ("GET", "/loaders/snponly.efi", Route::Loader("snponly.efi")),
            // Shim asks beside itself, with one slash more than it needs; openSUSE's by a name of its own.
            ("GET", "/loaders//grub.efi", Route::Loader("grubx64.efi")),
            ("GET", "/loaders\\GRUBX64.EFI", Route::Loader("grubx64.efi")),
            ("GET", "/loaders/EFI/BOOT/grubx64.efi", Route::Loader("grubx64.efi")),
            ("HEAD", "/loaders/SHIMX64.EFI", Route::Loader("shimx64.efi")),
            ("GET", "/loaders/grub.cfg", Route::Made(Made::GrubConfig)),
            ("GET", "/loaders/Autoexec.ipxe", Route::Made(Made::Autoexec)),
            ("GET", "/boot/grub2/grub.cfg", Route::Made(Made::GrubConfig)),
            ("GET", "/grub.cfg", Route::Made(Made::GrubConfig)),
            ("GET", "/api/v1/status", Route::Status),
            ("GET", "/api/v1/nodes", Route::Nodes(None)),
            ("GET", "/api/v1/nodes?rows=40", Route::Nodes(Some(40))),
            ("GET", "/api/v1/nodes?rows=-1", Route::Nodes(None)),
            (
                "GET",
                "/api/v1/workload?nonce=000102030405060708090a0b0c0d0e0F",
                Route::PostProof(Some(std::array::from_fn(|at| at as u8))),
            ),
            (
                "GET",
                "/api/v1/workload?nonce=+0102030405060708090a0b0c0d0e0f",
                Route::PostProof(None),
            ),
            ("GET", "/metrics", Route::Metrics),
            ("POST", start_report::PATH, Route::Starts),
            ("POST", "/api/v1/settings/go", Route::Settings(Decision::Go)),
            ("POST", "/api/v1/settings/read", Route::Settings(Decision::Read)),
            ("POST", "/api/v1/nodes/mac-525400123456/stage", Route::Stage(id.clone())),
            ("PUT", "/api/v1/nodes/mac-525400123456/upload", Route::Upload(id)),
            ("GET", "/nodes/", Route::Data(vec!["nodes".into()])),
            (
                "GET",
                "/isos/my%20disk.iso",
                Route::Data(vec!["isos".into(), "my disk.iso".into()]),
            ),
        ];
        for (method, target, want) in cases {
            assert_eq!(route(method, target), Ok(want), "{method} {target}");
        }
    }

    #[test]
    fn a_client_says_who_it_is() {
        let target = "/boot.ipxe?mac=52-54-00-12-34-56&uuid=4c4c4544-0042-3510-8052-b4c04f4a3232&x=y";
        let Ok(Route::BootScript(who)) = route("GET", target) else {
            panic!("no script")
        };
        assert_eq!(who.mac, Some("52:54:00:12:34:56".parse().unwrap()));
        assert_eq!(who.uuid.as_deref(), Some("4c4c4544-0042-3510-8052-b4c04f4a3232"));
        let Ok(Route::GrubScript(who)) = route("GET", "/boot.grub?mac=52:54:00:12:34:56&arch=x86_64&serial=AB%2012%0a")
        else {
            panic!("no script")
        };
        assert_eq!(who.mac, Some("52:54:00:12:34:56".parse().unwrap()));
        assert_eq!(
            (who.arch.as_deref(), who.serial.as_deref()),
            (Some("x86_64"), Some("AB 12"))
        );
        for (query, bus, said_bus) in [
            ("bus=01-80-86-10-0e", "01-80-86-10-0e".parse().ok(), true),
            ("bus=01%3a80%3a86%3a10%3a0E", "01-80-86-10-0e".parse().ok(), true),
            ("bus=", None, true),
            ("bus=07-00-00-00-00", None, true),
            ("bus=%zz", None, true),
            ("bust=01-80-86-10-0e", None, false),
        ] {
            let Ok(Route::BootScript(who)) = route("GET", &format!("/boot.ipxe?{query}")) else {
                panic!("no script")
            };
            assert_eq!((who.bus, who.said_bus), (bus, said_bus), "{query}");
        }
        for (query, with) in [
            ("with=first", Some(StartsWith::FirstStage)),
            ("with=initrd", Some(StartsWith::Initrd)),
            ("with=", None),
            ("with=First", None),
        ] {
            let Ok(Route::Kernel(who)) = route("GET", &format!("/boot/x86_64/kernel?{query}")) else {
                panic!("no kernel")
            };
            assert_eq!(who.with, with, "{query}");
        }
        for query in [
            "arch=&serial=a%1bb",
            "arch=x%22;reboot",
            "arch=arm64%20%26%26%20poweroff",
            "arch=%24{net0/mac}",
            "arch=%e2%80%ae",
        ] {
            let Ok(Route::BootScript(who)) = route("GET", &format!("/boot.ipxe?{query}")) else {
                panic!("no script")
            };
            assert_eq!(who, Who::default(), "{query}");
        }
        for odd in [
            "",
            "%zz",
            "ec-0d-9a-03-00-9c-81-e2",
            "80-00-02-08-fe-80-00-00-00-00-00-00-00-02-c9-03-00-9c-81-e2",
        ] {
            let said = Who {
                said_mac: true,
                ..Who::default()
            };
            assert_eq!(
                route("GET", &format!("/boot.ipxe?mac={odd}&uuid=%zz")),
                Ok(Route::BootScript(said)),
                "{odd}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        assert_eq!(route("GET", "/nothing"), Err(NoRoute::NotFound));
        for name in [
            "revocations.efi",
            "mmx64.efi",
            "grub.cfg-01-52-54-00-12-34-56",
            "shim.efi",
        ] {
            assert_eq!(
                route("GET", &format!("/loaders/{name}")),
                Err(NoRoute::NotFound),
                "{name}"
            );
        }
        assert_eq!(route("DELETE", "/nodes/x"), Err(NoRoute::Method("GET, HEAD")));
        for target in ["/api/v1/settings/go", start_report::PATH] {
            assert_eq!(route("GET", target), Err(NoRoute::Method("POST")), "{target}");
        }
        for name in ["/site.key", "/recon.toml", "/authorized_keys"] {
            assert_eq!(route("GET", name), Err(NoRoute::NotFound), "{name}");
        }
        assert_eq!(
            route("GET", "/api/v1/nodes/mac-525400123456/upload"),
            Err(NoRoute::Method("PUT"))
        );
        assert_eq!(
            route("PUT", "/api/v1/nodes/..%2f..%2fetc/upload"),
            Err(NoRoute::NotFound)
        );
        assert_eq!(route("PUT", "/api/v1/nodes/fred/upload"), Err(NoRoute::BadNodeId));
    }

    #[test]
    fn no_path_climbs() {
        for target in [
            "/nodes/../recon.toml",
            "/nodes/%2e%2e/recon.toml",
            "/nodes/..%2frecon.toml",
            "/nodes/a%00b",
            "/nodes/%5c..",
            "/nodes\\..\\recon.toml",
            "\\..\\recon.toml",
            "/loaders/..\\undionly.kpxe",
            "/nodes/%4",
        ] {
            assert_eq!(route("GET", target), Err(NoRoute::NotFound), "{target}");
        }
    }

    proptest! {
        #[test]
        fn every_data_path_stays_inside(target in "/nodes/[a-z./%0-9\\\\]{0,30}") {
            if let Ok(Route::Data(names)) = route("GET", &target) {
                prop_assert!(names.iter().all(|name| name != ".." && name != "." && !name.contains('/')));
            }
        }
    }
}
