//! Command line to command. Parsing touches nothing; `run` hands over to the roles.

pub mod args;
mod ask;
mod boot_from;
pub(crate) mod console;
mod image;
mod inventory;
pub mod log;
mod node_list;
mod output;
pub(crate) mod screen;
pub(crate) mod write_disk;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use crate::config::boot_sources::{BOOT_FILE, is_boot_file};
use crate::config::live::Accepted;
use crate::config::load;
use crate::model::Endpoint;
use crate::model::console::console;
use crate::model::shown::Shown;
use crate::role::link::manager::Choice;
use crate::role::{boot_node, guard, master, node, peer, run};
use crate::sys::console::drain;
use crate::sys::watchdog;

use args::Command;
use ask::{ask, end_signal, in_runtime};
use output::print;

/// Runs one command. Errors are for the caller to print; exit codes other than success and failure do not exist.
pub fn run(command: Command) -> anyhow::Result<()> {
    let done = run_command(command);
    drain();
    // Whoever ends with a word, even a bad one, is not what it is for.
    watchdog::stop();
    done
}

fn run_command(command: Command) -> anyhow::Result<()> {
    match command {
        // The person at the machine sees the console, not the journal.
        Command::Run(args) => {
            in_runtime(run_service(listening(args.system()))).inspect_err(|error| console!("{error:#}"))
        }
        Command::Master(args) => in_runtime(run_master(args)),
        Command::Peer(args) => {
            let config = peer::Config {
                master: args.master.parse::<Endpoint>()?.0,
                protect_disks: false,
                network: peer::Network::Ready,
                poweroff: args.poweroff,
                token: None,
                cable_wait: Duration::from_secs(args.cable_wait),
                workload: true,
                key: None,
            };
            in_runtime(peer::run(config))
        }
        Command::Inventory(args) => inventory::run(&args),
        Command::Collect(args) => collect(&args),
        Command::Guard(args) => guard_devices(&args.devices),
        Command::Status(args) => status(args.master.as_deref()),
        Command::Console(args) => console::run(args.asked.master, args.terminal.tty),
        Command::WriteDisk(args) => write_disk::run(&args),
        Command::Settings(args) => settings(&args),
        Command::BootFrom(args) => boot_from::run(args),
        Command::Node(command) => node_list::run(command),
        Command::Image(command) => image::run(command),
        Command::NodeUp => in_runtime(async { node::up::run(stop_signal()?).await }),
    }
}

/// Process 1 of the first stage. The kernel's words in its arguments are not for it.
pub fn init() -> ! {
    log::start(0);
    crate::role::init::begin();
    crate::role::init::run()
}

/// Cancelled when this program is to end.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let (token, ended) = (CancellationToken::new(), end_signal()?);
    let stop = token.clone();
    tokio::spawn(async move {
        ended.await;
        stop.cancel();
    });
    Ok(token)
}

/// Process 1 keeps the signals to itself that end a machine, and its children begin like that.
fn listening(system: run::System) -> run::System {
    if system == run::System::FirstStage
        && let Err(error) = crate::sys::init::hear_end_signals()
    {
        console!("signals: {error}");
    }
    system
}

/// What the unit starts.
async fn run_service(system: run::System) -> anyhow::Result<()> {
    let line = load::kernel_line(Path::new("/proc/cmdline"));
    run::run(line, system, stop_signal()?).await
}

async fn run_master(args: args::MasterArgs) -> anyhow::Result<()> {
    let loaders = if args.loaders.is_empty() {
        master::loader_folders()
    } else {
        args.loaders
    };
    let given = args.link.into_iter().map(|link| (link.name, link.subnet)).collect();
    let config = master::Config {
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
    master::run(config, stop).await.map(|_| ())
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

/// Fails with the devices that are still writable.
fn guard_devices(devices: &[String]) -> anyhow::Result<()> {
    match guard::still_writable(devices).context("listing the disks")? {
        open if open.is_empty() => Ok(()),
        open => bail!("not read-only: {}", open.join("; ")),
    }
}

fn status(master: Option<&str>) -> anyhow::Result<()> {
    let address = ask::whom(master, ask::peer_of())?;
    let (status, nodes) = in_runtime(ask(address, None))?;
    print(&screen::render(&status, &nodes, screen::Size::default()))
}

fn settings(args: &args::SettingsArgs) -> anyhow::Result<()> {
    let file = &args.file;
    if file
        .symlink_metadata()
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    {
        bail!("{}: there is no such file", file.display());
    }
    // What cannot be read is told by whoever reads it next.
    let bytes = load::small_file(file, load::MAX_SETTINGS_BYTES).ok().flatten();
    let is_boot = args.boot || file.file_name().is_some_and(|name| name == BOOT_FILE);
    if is_boot || bytes.is_some_and(|bytes| is_boot_file(&bytes)) {
        return print(&Shown::lines(&boot_node::check::check(file)?));
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
