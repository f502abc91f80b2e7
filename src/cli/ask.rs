//! Which master a command asks, and what it answers; the runtime for that, and the signals that end it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::load;
use crate::model::api::{NodeStatus, Status};
use crate::model::{Endpoint, HTTP_PORT};
use crate::role::failover;
use crate::service::http::client::{Bounds, exchange};

/// The master whose peer this machine is: by its kernel line, or since it found that one on the wire.
pub(super) fn peer_of() -> Option<SocketAddr> {
    let told = load::kernel_line(Path::new("/proc/cmdline")).master;
    told.or_else(|| failover::noted(Path::new(failover::NOTE)))
}

/// The master to ask: the one that was given, else the one of which this machine is a peer, else this machine.
pub(super) fn whom(given: Option<&str>, peer_of: Option<SocketAddr>) -> anyhow::Result<SocketAddr> {
    let given = given.map(str::parse).transpose()?.map(|Endpoint(master)| master);
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT));
    Ok(given.or(peer_of).unwrap_or(here))
}

pub(super) fn in_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(work);
    // A probe that hangs in the kernel must not keep the process.
    runtime.shutdown_background();
    result
}

/// Somebody's wish that this program ends: SIGTERM or SIGINT. To be called within a runtime.
pub(super) fn end_signal() -> anyhow::Result<impl Future<Output = SignalKind>> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
        }
    })
}

/// Longest answer of a master: 65,536 machines of two kilobytes.
const ANSWER_BYTES: usize = 128 << 20;

/// Asks a master for everything a screen shows, of the machines only the most urgent ones where a number is given.
pub(super) async fn ask(master: SocketAddr, rows: Option<usize>) -> anyhow::Result<(Status, Vec<NodeStatus>)> {
    let bounds = Bounds {
        time: Duration::from_secs(5),
        answer_bytes: ANSWER_BYTES,
    };
    let get = async |target: &str| {
        let (status, body) = exchange(
            master,
            hyper::Method::GET,
            target,
            &[],
            hyper::body::Bytes::new(),
            bounds,
        )
        .await?;
        if !status.is_success() {
            bail!("{master} answered {status} to {target}");
        }
        Ok(body)
    };
    let status = serde_json::from_slice(&get("/api/v1/status").await?).context("reading the master's status")?;
    let target = rows.map_or_else(
        || "/api/v1/nodes".to_owned(),
        |rows| format!("/api/v1/nodes?rows={rows}"),
    );
    let nodes = serde_json::from_slice(&get(&target).await?).context("reading the master's nodes")?;
    Ok((status, nodes))
}
