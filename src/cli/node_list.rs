//! `recon node`: diskless nodes as a list, and another try for them.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::bail;

use super::args::{NodeCommand, NodeRetryArgs};
use super::ask::{ask, in_runtime, peer_of, whom};
use super::output::print;
use crate::model::api::{NodeStatus, SetImage, Status};
use crate::model::shown::Shown;
use crate::model::{HTTP_PORT, MacAddr, NodeId, Stage};
use crate::service::http::client::{Bounds, exchange};

const ASKING: Bounds = Bounds {
    time: Duration::from_secs(5),
    answer_bytes: 1 << 16,
};

pub(super) fn run(command: NodeCommand) -> anyhow::Result<()> {
    match command {
        NodeCommand::List(args) => {
            let master = whom(args.master.as_deref(), peer_of())?;
            let (status, nodes) = in_runtime(ask(master, None))?;
            print(&list(&status, &nodes))
        }
        NodeCommand::Retry(args) => retry(&args),
        NodeCommand::SetImage(args) => {
            let wish = SetImage {
                whom: args.node,
                start: args.image,
                batch: args.batch,
            };
            tell("/api/v1/set-image", serde_json::to_vec(&wish)?)
        }
    }
}

fn retry(args: &NodeRetryArgs) -> anyhow::Result<()> {
    let target = match &args.node {
        None => "/api/v1/retry".to_owned(),
        Some(node) => format!("/api/v1/nodes/{}/retry", id(node)?),
    };
    tell(&target, Vec::new())
}

/// Tells the master on this machine something, and prints what it says.
fn tell(target: &str, body: Vec<u8>) -> anyhow::Result<()> {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT));
    let asked = exchange(here, hyper::Method::POST, target, &[], body.into(), ASKING);
    let (status, body) = in_runtime(async { Ok(asked.await?) })?;
    let said = Shown::line(String::from_utf8_lossy(&body).trim());
    match status.is_success() {
        true => print(&Shown::lines(&format!("{said}\n"))),
        false => bail!("the master answers {status}: {said}"),
    }
}

/// A node as people name it.
fn id(text: &str) -> anyhow::Result<NodeId> {
    Ok(match text.parse::<MacAddr>() {
        Ok(mac) => NodeId::from_mac(mac),
        Err(_) => text.parse()?,
    })
}

/// Those that were given an image, or are in failsafe; in the order of the master.
fn list(status: &Status, nodes: &[NodeStatus]) -> Shown {
    let mut text = String::new();
    let nodes = nodes
        .iter()
        .filter(|node| node.image.is_some() || node.failsafe.is_some());
    for node in nodes {
        let macs: Vec<String> = node.macs.iter().map(ToString::to_string).collect();
        let image = node.image.as_deref().unwrap_or("failsafe");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}  {}", node.id, macs.join(" "));
        let _ = writeln!(text, "  {image}: {}, {} bytes sent", node.stage, node.bytes_sent);
        let took = times(node);
        if !took.is_empty() {
            let _ = writeln!(text, "  {took}");
        }
        if let Some(heard) = node.heard_at_seconds {
            let ago = (status.uptime_seconds as f64 - heard).max(0.0);
            let _ = writeln!(text, "  last heard {ago:.0} s ago");
        }
        for (label, words) in [
            ("failsafe", &node.failsafe),
            ("failure", &node.failure),
            ("says", &node.message),
        ] {
            if let Some(words) = words {
                let _ = writeln!(text, "  {label}: {}", crate::model::shown::line(words));
            }
        }
    }
    if let Some(rolling) = &status.rolling {
        let _ = writeln!(text, "{}", crate::model::shown::line(rolling));
    }
    if text.is_empty() {
        text.push_str("no machine was given an image in this run of the master\n");
    }
    Shown::lines(&text)
}

/// Seconds from the first stage that was heard to each later one.
fn times(node: &NodeStatus) -> String {
    let Some(first) = node.stages.first() else {
        return String::new();
    };
    let later = node.stages.iter().skip(1).filter(|time| time.stage != Stage::Stored);
    let words: Vec<String> = later
        .map(|time| format!("{} {:.1} s", time.stage, time.at_seconds - first.at_seconds))
        .collect();
    words.join(", ")
}
