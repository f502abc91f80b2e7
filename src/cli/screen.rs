//! The status screen as text. Pure.

use std::fmt::Display;

use crate::model::api::{HEARTBEAT_SECONDS, LinkStatus, NodeStatus, Status, StorageStatus};
use crate::model::shown::{self, Shown};
use crate::model::{NodeId, Stage};
use crate::service::boot::loops::LOOPS;
use crate::service::node_table::urgency;

/// Room on the terminal, in characters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub columns: usize,
    pub rows: usize,
}

impl Default for Size {
    /// No limit of rows: for output that scrolls.
    fn default() -> Self {
        Size {
            columns: 80,
            rows: usize::MAX,
        }
    }
}

/// Everything a person at the master needs to know, most urgent first, within the room there is.
pub(crate) fn render(status: &Status, nodes: &[NodeStatus], size: Size) -> Shown {
    let mut lines = Vec::new();
    let site = behind(" at ", status.site.as_deref());
    lines.push(format!(
        "recon {}{site}   up {}   seen {}   stored {}",
        status.version,
        duration(status.uptime_seconds),
        status.nodes_seen,
        status.nodes_stored
    ));
    if status.nodes_unlisted > 0 {
        let times = status.nodes_unlisted;
        lines.push(format!(
            "NODES: the table is full; further machines are served and stored, but not listed ({times} times so far)"
        ));
    }
    lines.extend(storage_lines(&status.storage));
    let settings = status.settings_problems.iter().chain(&status.settings_held);
    lines.extend(settings.map(|words| format!("SETTINGS: {words}")));
    lines.extend(status.clashes.iter().map(|clash| format!("CLASH: {clash}")));
    if status.more_clashes > 0 {
        let more = status.more_clashes;
        lines.push(format!("CLASH: {more} more names are those of two machines or more"));
    }
    lines.extend(status.rolling.iter().map(|words| format!("images: {words}")));
    lines.extend(status.links.iter().flat_map(link_lines));
    if status.links.is_empty() {
        lines.push("no wired network port was found yet".to_owned());
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<18}{:<16}{:<10}{:>9}  {}",
        "NODE", "ADDRESS", "STAGE", "SENT", "WHAT"
    ));
    let mut order: Vec<&NodeStatus> = nodes.iter().collect();
    order.sort_by_key(|node| urgency(node.stored_sha256.is_some(), node.stage));
    lines.extend(order.iter().map(|node| row(node, status.uptime_seconds)));
    if nodes.is_empty() {
        lines.push("waiting for machines that boot from the network".to_owned());
    }
    fit(lines, status.nodes_seen.saturating_sub(nodes.len()), size)
}

/// A word with what stands in front of it; nothing without one.
fn behind(front: &str, word: Option<impl Display>) -> String {
    word.map(|word| format!("{front}{word}")).unwrap_or_default()
}

fn storage_lines(storage: &StorageStatus) -> Vec<String> {
    let mut lines = vec![match &storage.problem {
        Some(problem) => format!("STORAGE: {problem}"),
        None => format!(
            "storage: {} free of {} on {}",
            bytes(storage.free_bytes),
            bytes(storage.total_bytes),
            storage.device.as_deref().unwrap_or("a folder")
        ),
    }];
    lines.extend(storage.notices.iter().map(|notice| format!("STORAGE: {notice}")));
    match (&storage.tarball.problem, storage.tarball.state.as_str()) {
        (Some(problem), _) => lines.push(format!("TARBALL: {problem}")),
        (None, "") => {}
        (None, state) => lines.push(format!("tarball: {state}")),
    }
    lines
}

/// What is done on a link, a line for each family of addresses.
fn link_lines(link: &LinkStatus) -> Vec<String> {
    let address = behind(" ", link.address.as_deref());
    let mut lines = vec![format!(
        "{} {} {}{address}: {}",
        link.name, link.mac, link.mode, link.reason
    )];
    if let Some(ipv6) = &link.ipv6 {
        let mode = if ipv6.serving { "serve" } else { "silent" };
        let address = behind(" ", ipv6.address.as_ref());
        lines.push(format!("{} IPv6 {mode}{address}: {}", link.name, ipv6.reason));
    }
    if let Some(old) = &link.old_address {
        lines.push(format!(
            "{}: {} machines still use leases of {old}, which run out",
            link.name, link.leases_held
        ));
    }
    lines
}

/// A node whose system is up is silent once two of its words did not come.
fn silent_seconds(node: &NodeStatus, uptime_seconds: u64) -> Option<u64> {
    let heard = node.heard_at_seconds.filter(|_| node.stage == Stage::Up)?;
    let silent = uptime_seconds.saturating_sub(heard as u64);
    (silent > 2 * HEARTBEAT_SECONDS + 60).then_some(silent)
}

fn row(node: &NodeStatus, uptime_seconds: u64) -> String {
    let silent = silent_seconds(node, uptime_seconds);
    let silence = silent.map(|seconds| format!("not heard for {}; ", duration(seconds)));
    let what = node
        .failsafe
        .as_deref()
        .or(node.failure.as_deref())
        .or(node.message.as_deref())
        .or(node.summary.as_deref())
        .unwrap_or("");
    let what = match node.same_name {
        0 => what.to_owned(),
        1 => format!("ONE OF 2 MACHINES OF THIS NAME; {what}"),
        others => format!("ONE OF {} MACHINES OF THIS NAME; {what}", others + 1),
    };
    let what = format!("{}{what}", silence.unwrap_or_default());
    let stage = match (node.starts_in_vain >= LOOPS, silent) {
        _ if node.failsafe.is_some() => "failsafe".to_owned(),
        (true, _) => "loops".to_owned(),
        (false, Some(_)) => "silent".to_owned(),
        (false, None) => node.stage.to_string(),
    };
    let address = node.address.map(|address| address.to_string()).unwrap_or_default();
    format!(
        "{:<18}{address:<16}{stage:<10}{:>9}  {what}",
        name(node),
        bytes(node.bytes_sent)
    )
}

/// A port that has no MAC by what it has, until the machine says its name.
fn name(node: &NodeStatus) -> String {
    match &node.port {
        Some(port) if node.id.as_str().starts_with("mac-") => port.clone(),
        _ => short(&node.id),
    }
}

/// A MAC whole, a UUID by its last group, which differs most between machines of one batch, and of a name that several
/// have what tells this one apart.
fn short(id: &NodeId) -> String {
    match id.as_str().strip_prefix("mac-").filter(|_| !id.is_told_apart()) {
        Some(mac) => mac.to_owned(),
        None if id.is_told_apart() => format!("…-{}", id.as_str().rsplit('-').next().unwrap_or_default()),
        None => format!("…{}", id.as_str().rsplit('-').next().unwrap_or_default()),
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..=9_999 => format!("{count} B"),
        10_000..=9_999_999 => format!("{} kB", count / 1_000),
        10_000_000..=9_999_999_999 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{seconds} s"),
        60..=3_599 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// Cuts what does not fit, and says how many lines are missing; `more` rows were not asked for. Each line is one, whatever the
/// words in it hold.
fn fit(lines: Vec<String>, more: usize, size: Size) -> Shown {
    let rows = lines.iter().flat_map(|line| wrap(&shown::line(line), size.columns));
    let mut shown: Vec<String> = rows.collect();
    if shown.len() > size.rows || more > 0 {
        let kept = size.rows.saturating_sub(1).min(shown.len());
        let missing = shown.len() - kept + more;
        shown.truncate(kept);
        // Only the console has so little room, and its shell has both programs.
        shown.push(format!("… {missing} more lines: `recon status | less` in the shell"));
    }
    Shown::lines(&(shown.join("\n") + "\n"))
}

/// Breaks a line between words; what follows is indented, so that a row stays one row to the eye.
fn wrap(line: &str, columns: usize) -> Vec<String> {
    if line.chars().count() <= columns {
        return vec![line.to_owned()];
    }
    let mut out = Vec::new();
    let mut rest: Vec<char> = line.chars().collect();
    while rest.len() > columns {
        let break_at = rest[..=columns]
            .iter()
            .rposition(|c| *c == ' ')
            .filter(|at| *at > columns / 3)
            .unwrap_or(columns);
        out.push(rest[..break_at].iter().collect());
        let next: Vec<char> = rest[break_at..].iter().copied().skip_while(|c| *c == ' ').collect();
        rest = "    ".chars().chain(next).collect();
    }
    out.push(rest.iter().collect());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Stage;
    use crate::model::api::{ForeignServer, LinkMode, StageTime, TarballStatus};

    fn status() -> Status {
        let mac = "52:54:00:00:00:01".parse().unwrap();
        Status {
            version: "0.1.0".into(),
            site: Some("Hall 2".into()),
            uptime_seconds: 754,
            storage: StorageStatus {
                durable: false,
                device: None,
                problem: Some("the stick is write-protected. Uploads are kept in memory only".into()),
                free_bytes: 0,
                total_bytes: 0,
                tarball: TarballStatus {
                    current: false,
                    state: "there is none".into(),
                    problem: Some("no room for the tarball".into()),
                },
                notices: vec!["nodes/x/y is torn".into()],
            },
            settings_problems: vec!["recon.toml: line 3: unknown key".into()],
            settings_held: Some("type read and Enter".into()),
            links: vec![LinkStatus {
                ipv6: None,
                name: "eno1".into(),
                mac,
                mode: LinkMode::Silent,
                reason: "another DHCP server is here: 10.0.0.1".into(),
                address: None,
                old_address: Some("192.168.219.1/24".into()),
                leases_held: 3,
                mode_seconds: 7,
                mode_changes: 2,
                foreign: vec![ForeignServer {
                    address: [10, 0, 0, 1].into(),
                    mac,
                    recon: false,
                    ours: false,
                    boots: true,
                }],
            }],
            nodes_seen: 2,
            nodes_stored: 1,
            nodes_unlisted: 12,
            clashes: vec![],
            more_clashes: 0,
            rolling: Some("compute@3ea150742bbf for all, 2 at a time".into()),
            rss_bytes: None,
        }
    }

    fn node(id: &str, stage: Stage, stored: bool) -> NodeStatus {
        NodeStatus {
            id: id.parse().unwrap(),
            same_name: 0,
            macs: vec![],
            address: None,
            stage,
            stages: vec![StageTime { stage, at_seconds: 1.0 }],
            heard_at_seconds: None,
            message: None,
            failure: None,
            bytes_sent: 67_000_000,
            stored_sha256: stored.then(|| "ab".into()),
            summary: Some("QEMU Standard PC a-serial-number-that-is-rather-long".into()),
            loader: None,
            failed_loaders: vec![],
            firmware: None,
            boot_arch: None,
            serial: None,
            starts_in_vain: 0,
            image: None,
            failsafe: None,
            port: None,
        }
    }

    #[test]
    fn troubles_are_on_the_screen_and_every_line_fits() {
        let nodes = [
            node("4c4c4544-0042-3510-8052-b4c04f4a3232", Stage::Off, true),
            node("mac-525400000003", Stage::Kernel, false),
        ];
        let text = render(&status(), &nodes, Size { columns: 60, rows: 40 });
        for word in [
            "Hall 2",
            "write-protected",
            "TARBALL: no room for the tarball",
            "STORAGE: nodes/x/y is torn",
            "not listed (12 times",
            "line 3",
            "type read and Enter",
            "10.0.0.1",
            "3 machines still use leases of 192.168.219.1/24",
            "525400000003",
            "67 MB",
        ] {
            assert!(text.contains(word), "{word} is missing in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        let (waiting, done) = (text.find("525400000003").unwrap(), text.find("b4c04f4a3232").unwrap());
        assert!(waiting < done, "machines on their way come first");
    }

    #[test]
    fn a_port_without_a_mac_is_shown_by_what_it_has() {
        let mut node = node("mac-525400000003", Stage::Seen, false);
        node.port = Some("InfiniBand f452:1403:0038:3981".to_owned());
        let text = render(&status(), &[node], Size::default());
        assert!(
            text.contains("f452:1403:0038:3981") && !text.contains("525400000003"),
            "{text}"
        );
    }

    #[test]
    fn a_machine_that_loops_says_so() {
        let mut looping = node("mac-525400000003", Stage::Kernel, false);
        looping.starts_in_vain = LOOPS;
        let text = render(&status(), &[looping], Size::default());
        assert!(text.contains(" loops ") && !text.contains(" kernel "), "{text}");
    }

    #[test]
    fn a_node_that_is_heard_no_more_says_so() {
        let mut up = node("mac-525400000003", Stage::Up, false);
        for (heard, is_silent) in [(None, false), (Some(0.0), true), (Some(1_000_000.0), false)] {
            up.heard_at_seconds = heard;
            let later = Status {
                uptime_seconds: 2 * HEARTBEAT_SECONDS + 61,
                ..status()
            };
            let text = render(&later, &[up.clone()], Size::default());
            assert_eq!(text.contains(" silent "), is_silent, "{text}");
            assert_eq!(text.contains("not heard for 11 min"), is_silent, "{text}");
        }
    }

    #[test]
    fn machines_of_one_name_are_loud() {
        let shared: NodeId = "93d4e5a1-7f46-11e5-bf8b-080027123456".parse().unwrap();
        let second = shared.told_apart_by([0xd0, 0x63, 0xb4, 0, 0, 2]);
        let machines = [(&shared, "A"), (&second, "B")].map(|(id, serial)| crate::model::clash::Claimant {
            id: id.clone(),
            machine: Some(format!("SolidRun LX2160ACEX7 BOARD-{serial}")),
            macs: vec![],
        });
        let status = Status {
            clashes: crate::model::clash::Clash::of(shared.clone(), machines)
                .into_iter()
                .collect(),
            more_clashes: 3,
            ..status()
        };
        let nodes = [&shared, &second].map(|id| NodeStatus {
            same_name: 1,
            ..node(id.as_str(), Stage::Stored, true)
        });
        let text = render(&status, &nodes, Size::default());
        let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in [
            "CLASH: two machines name themselves by the UUID 93d4e5a1-7f46-11e5-bf8b-080027123456: node",
            "BOARD-A); node 93d4e5a1-7f46-11e5-bf8b-080027123456-d063b4000002 (SolidRun LX2160ACEX7 BOARD-B)",
            "CLASH: 3 more names",
            "…080027123456 stored",
            "…-d063b4000002 stored",
            "ONE OF 2 MACHINES OF THIS NAME; QEMU",
        ] {
            assert!(joined.contains(words), "{words} is missing in\n{text}");
        }
    }

    /// What is on the stick is stored, whichever run brought it there.
    #[test]
    fn a_node_of_an_earlier_run_is_stored() {
        let earlier = NodeStatus {
            stages: vec![],
            ..node("mac-525400000003", Stage::Stored, true)
        };
        let text = render(&status(), &[earlier], Size::default());
        let row = text.lines().find(|line| line.starts_with("525400000003")).unwrap();
        assert!(row.contains(" stored ") && !text.contains("earlier"), "{text}");
    }

    #[test]
    fn a_small_screen_says_what_it_left_out() {
        let nodes: Vec<NodeStatus> = (0..50)
            .map(|n| node(&format!("mac-5254000000{n:02x}"), Stage::Kernel, false))
            .collect();
        let text = render(&status(), &nodes, Size { columns: 80, rows: 25 });
        assert_eq!(text.lines().count(), 25);
        assert!(text.lines().last().unwrap().contains("more lines"));
        // Also of rows that were not asked for.
        let few = Status {
            nodes_seen: 50_000,
            ..status()
        };
        let text = render(&few, &nodes[..2], Size { columns: 80, rows: 25 });
        assert!(text.lines().last().unwrap().contains("… 49998 more lines"), "{text}");
        let two = render(&status(), &nodes[..2], Size::default());
        assert!(!two.contains("more lines"), "{two}");
    }

    #[test]
    fn a_machine_has_one_row_whatever_it_says() {
        let rows = |words: &str| {
            let nodes = [NodeStatus {
                message: Some(words.to_owned()),
                ..node("mac-525400000003", Stage::Agent, false)
            }];
            let status = Status {
                site: Some(words.to_owned()),
                ..status()
            };
            let wide = Size {
                columns: 10_000,
                rows: 40,
            };
            let text = render(&status, &nodes, wide);
            shown::assert_harmless(&text);
            text.lines().count()
        };
        assert_eq!(rows(shown::EVIL), rows("plain"));
    }
}
