//! Command line to command. Parsing touches nothing; [`run`] hands over to the roles.

pub mod args;
pub(crate) mod console;
mod inventory;
pub mod log;
pub(crate) mod screen;
pub(crate) mod write_disk;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use crate::config::live::Accepted;
use crate::config::{KernelLine, SiteKey, load};
use crate::model::api::{NodeStatus, Status};
use crate::model::shown::Shown;
use crate::model::{Endpoint, MacAddr};
use crate::probe;
use crate::role::link::manager;
use crate::role::link::manager::{Choice, Ended};
use crate::role::peer::network::Held;
use crate::role::{failover, master, peer};
use crate::stick::medium;
use crate::sys::console::say;
use crate::sys::{block, systemd, terminal};

use args::Command;

/// Runs one command. Errors are for the caller to print; exit codes other than success and failure do not exist.
pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        // The person at the machine sees the console, not the journal.
        Command::Run(args) => in_runtime(run_service(args.initrd)).inspect_err(|error| say(&format!("{error:#}"))),
        Command::Master(args) => in_runtime(run_master(args)),
        Command::Peer(args) => {
            let orders = peer::Orders {
                master: args.master.parse::<Endpoint>()?.0,
                protect_disks: false,
                network: peer::Network::Ready,
                poweroff: args.poweroff,
                token: None,
                cable_wait: Duration::from_secs(args.cable_wait),
                key: None,
            };
            in_runtime(peer::run(orders))
        }
        Command::Inventory(args) => inventory::run(&args),
        Command::Collect(args) => collect(&args),
        Command::Guard(args) => guard(&args.devices),
        Command::Status(args) => status(args.master.as_deref()),
        Command::Console(args) => console::run(args.master, args.tty),
        Command::WriteDisk(args) => write_disk::run(&args),
        Command::Settings(args) => settings(&args.file),
    }
}

fn in_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(work);
    // A probe that hangs in the kernel must not keep the process.
    runtime.shutdown_background();
    result
}

/// Cancelled by SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(token)
}

/// What the unit starts: the kernel command line decides, else the links do.
async fn run_service(initrd: bool) -> anyhow::Result<()> {
    let line = load::kernel_line(Path::new("/proc/cmdline"));
    for problem in &line.problems {
        say(problem);
    }
    let stop = stop_signal()?;
    if let Some(master) = line.master {
        systemd::notify("READY=1\nSTATUS=peer");
        return until(stop, peer_of(line, master)).await;
    }
    if initrd {
        bail!(
            "the kernel command line names no master (pxeaddr= or recon.master=), so there is nothing to do in the initrd"
        );
    }
    peer::protect_disks();
    failover::forget_note(Path::new(failover::NOTE));
    let orders = master::Orders {
        links: Choice::Elect,
        data: None,
        medium: None,
        loaders: manager::loader_folders(),
        http_port: Endpoint::HTTP_PORT,
        doubts: if line.doubtful {
            line.problems.clone()
        } else {
            Vec::new()
        },
        accepted: Accepted::default(),
    };
    loop {
        let (ended, key) = master::run(orders.clone(), stop.clone()).await?;
        match ended {
            Ended::Stopped => return Ok(()),
            Ended::Yield { master, mac, machine } => {
                say(&format!(
                    "recon master {master} of this site is here already: becoming its peer"
                ));
                let _note = failover::Note::new(Path::new(failover::NOTE), master);
                tokio::select! {
                    done = until(stop.clone(), peer::run(peer_beside(&line, master, mac, key.clone()))) => return done,
                    () = failover::until_gone(key.clone(), machine, mac) => {}
                }
                say(&format!("recon master {master} is gone: asking anew who serves"));
                if let Err(error) = failover::forget_addresses(mac).await {
                    tracing::warn!(%mac, %error, "removing the addresses of a peer");
                }
            }
        }
    }
}

/// A machine with a stick of its own, as the peer of the master that was there first.
fn peer_beside(line: &KernelLine, master: std::net::SocketAddr, mac: MacAddr, key: SiteKey) -> peer::Orders {
    peer::Orders {
        master,
        protect_disks: true,
        network: peer::Network::BringUp {
            mac: Some(mac),
            held: None,
        },
        poweroff: line.end(),
        token: line.token.clone(),
        cable_wait: line.cable_wait.unwrap_or(probe::CABLE_WAIT),
        key: Some(key),
    }
}

async fn peer_of(line: KernelLine, master: std::net::SocketAddr) -> anyhow::Result<()> {
    say(&format!("peer of {master}"));
    let poweroff = line.end();
    let held = line.address.map(|(address, prefix)| Held {
        address,
        prefix,
        router: line.router,
    });
    let network = peer::Network::BringUp {
        mac: line.boot_mac,
        held,
    };
    peer::run(peer::Orders {
        master,
        protect_disks: true,
        network,
        poweroff,
        token: line.token,
        cable_wait: line.cable_wait.unwrap_or(probe::CABLE_WAIT),
        key: None,
    })
    .await
}

/// A peer that is done stays as a service, so that the unit shows what it did; a stop ends it at any time.
async fn until(stop: CancellationToken, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        done = work => {
            done?;
            stop.cancelled().await;
            Ok(())
        }
    }
}

async fn run_master(args: args::MasterArgs) -> anyhow::Result<()> {
    let loaders = if args.loaders.is_empty() {
        manager::loader_folders()
    } else {
        args.loaders
    };
    let given = args.link.into_iter().map(|link| (link.name, link.subnet)).collect();
    let orders = master::Orders {
        links: if args.elect {
            Choice::ElectAmong(given)
        } else {
            Choice::Given(given)
        },
        data: args.data,
        medium: args.medium,
        loaders,
        http_port: args.http_port,
        doubts: Vec::new(),
        accepted: Accepted::default(),
    };
    let stop = stop_signal()?;
    master::run(orders, stop).await.map(|_| ())
}

fn collect(args: &args::CollectArgs) -> anyhow::Result<()> {
    let options = crate::stick::collect::Options { force: args.force };
    let names: Vec<String> = args.source.iter().map(|source| source.display().to_string()).collect();
    let names = names.join(" and ");
    let report = crate::stick::collect::collect_all(&args.source, &args.output, options)
        .with_context(|| format!("collecting from {names}"))?;
    print(&Shown::lines(&format!("{report}\n")))?;
    if !report.is_complete() {
        bail!("not everything on {names} was whole or could be read: the lines above say what");
    }
    Ok(())
}

/// For udev, which waits: one line for each device that is still writable, and failure if there is one.
///
/// Exempt is what the running system lies on, and nothing else: a label or an image proves nothing, a disk of the machine may
/// carry both. Before the system is mounted that is no disk at all; a master sets its own medium writable when it is sure of it.
fn guard(devices: &[String]) -> anyhow::Result<()> {
    let own = medium::live_disk();
    let exempt: block::Exempt = Arc::new(move |path: &Path| Some(path) == own.as_deref());
    let results = block::guard(devices, &exempt).context("listing the disks")?;
    let open: Vec<String> = results
        .iter()
        .filter(|result| !result.is_safe())
        .map(|result| format!("{}: {:?}", result.device, result.outcome))
        .collect();
    if open.is_empty() {
        Ok(())
    } else {
        bail!("not read-only: {}", open.join("; "))
    }
}

fn status(master: Option<&str>) -> anyhow::Result<()> {
    let address = console::whom(master, console::peer_of())?;
    let mut text = Shown::default();
    in_runtime(async {
        let (status, nodes) = ask(address, None).await?;
        text = screen::render(&status, &nodes, screen::Size::default());
        Ok(())
    })?;
    print(&text)
}

/// Longest answer of a master: 65,536 machines of two kilobytes.
const ANSWER_BYTES: usize = 128 << 20;

/// Asks a master for everything a screen shows, of the machines only the most urgent ones where a number is given.
async fn ask(master: std::net::SocketAddr, rows: Option<usize>) -> anyhow::Result<(Status, Vec<NodeStatus>)> {
    use crate::service::http::client::{Bounds, exchange};
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

fn settings(file: &Path) -> anyhow::Result<()> {
    if file
        .symlink_metadata()
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    {
        bail!("{}: there is no such file", file.display());
    }
    let loaded = load::settings(file);
    match loaded.problems.is_empty() {
        true => print(&Shown::lines(&loaded.settings.to_toml()?)),
        false => bail!(
            "{}\na master with this file serves nobody and powers no machine off until a person decides",
            loaded.problems.join("\n")
        ),
    }
}

/// Writes to standard output; a reader that went away is no error.
fn print(text: &Shown) -> anyhow::Result<()> {
    match terminal::stdout(text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}
