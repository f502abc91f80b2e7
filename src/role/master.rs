//! The master: storage, services, links, and an end that loses nothing.

mod starts;
pub(crate) mod status;
pub(crate) mod storage;
pub mod tarball;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::rngs::OsRng;
use rand::{RngCore as _, TryRngCore as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::live::{Accepted, REMEDY};
use crate::config::{Live, SiteKey};
use crate::model::console::console;
use crate::model::{RunTime, cause, layout};
use crate::service::boot::loaders::Loaders;
use crate::service::http;
use crate::service::http::site::{BootFiles, Data, Site};
use crate::service::node_table::NodeTable;
use crate::service::workers::Workers;
use crate::stick::medium::{self, Medium};
use crate::store::leases::Journal;
use crate::store::nodes::{Limits, NodeStore, StoredNode};
use crate::sys::{clock, systemd};

use super::remedy;
use crate::role::link::ipv6_leases::Ipv6Leases;
use crate::role::link::manager::{self, Choice, Ended};
use crate::role::link::shared::Shared;
use crate::role::link::tasks::named;
use crate::role::master::status::StatusSources;
use crate::role::master::storage::{StickFiles, Storage};
use crate::role::master::tarball::Keeper;

/// What a master serves, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub links: Choice,
    /// Data folder instead of the stick's partition.
    pub data: Option<PathBuf>,
    /// Medium given by hand: a folder laid out like the image, or the image itself.
    pub medium: Option<PathBuf>,
    pub loaders: Vec<PathBuf>,
    pub http_port: u16,
    /// What is wrong with the kernel command line, a line each: nothing is dared before a person has seen it.
    pub doubts: Vec<String>,
    /// Problems of settings that a person went on with.
    pub accepted: Accepted,
}

/// How long uploads of earlier runs are read before machines are served: tens of thousands, or a few very large ones, would make
/// them wait. The others are listed while they are served.
const NOTE_LIMIT: Duration = Duration::from_secs(2);

/// Serves until `stop`, or until this machine should be a peer of another master; with the site's key, by which that one is known.
pub(crate) async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<(Ended, SiteKey)> {
    let mut problems = Vec::new();
    let lacking = |error: &anyhow::Error| {
        problems.push(format!(
            "no boot medium: {error:#}; machines cannot be booted from here"
        ));
    };
    let medium = find_medium(&config).inspect_err(lacking).ok();
    let (data, found) = (config.data.clone(), medium.clone());
    let opening = tokio::task::spawn_blocking(move || open_storage(data, found.as_ref()));
    let (storage, uploads) = opening.await?.context("opening the data folder")?;
    for notice in &storage.notices {
        console!("{notice}");
    }
    if let Some(why) = &storage.problem {
        console!("{}", remedy::in_memory(why, 0, &[], config.http_port));
    }
    let workers = Workers::start().context("starting threads")?;
    let master = Master::open(config, medium, storage, uploads, workers, problems);
    let key = master.shared.site.key.clone();
    let ended = master.serve(&stop).await;
    // One that yields goes on as a peer; systemd would end it as one that hangs.
    if !matches!(ended, Ok(Ended::Yield { .. })) {
        systemd::stopping();
    }
    let closed = master.close().await;
    let ended = ended?;
    closed?;
    Ok((ended, key))
}

/// The data folder and the uploads in it. A partition whose uploads cannot be opened counts as broken: memory takes its place.
fn open_storage(given: Option<PathBuf>, medium: Option<&Medium>) -> anyhow::Result<(Storage, NodeStore)> {
    let open = |storage: &Storage| NodeStore::open(&storage.folder, Limits::default());
    let on_stick = given.is_none();
    let mut storage = match given {
        Some(folder) => Storage::folder(folder)?,
        None => Storage::of_medium(medium)?,
    };
    let mut uploads = open(&storage);
    if let Err(error) = &uploads
        && storage.durable
        && on_stick
    {
        let why = format!("The uploads on the stick cannot be opened: {}.", cause::told(error));
        storage.close().context("closing the data partition")?;
        storage = Storage::memory(why, medium.and_then(|medium| medium.disk.as_ref()))?;
        uploads = open(&storage);
    }
    Ok((storage, uploads?))
}

fn find_medium(config: &Config) -> anyhow::Result<Medium> {
    match &config.medium {
        Some(path) => {
            medium::at(path).with_context(|| format!("looking for kernel and initrd under {}", path.display()))
        }
        None => medium::of_live_system().context("looking for the boot medium"),
    }
}

struct Master {
    links: Choice,
    storage: Arc<Storage>,
    shared: Shared,
    keeper: Keeper,
    /// Uploads of earlier runs are still to be listed.
    noted_late: bool,
}

impl Master {
    fn open(
        config: Config,
        medium: Option<Medium>,
        storage: Storage,
        uploads: NodeStore,
        workers: Workers,
        mut problems: Vec<String>,
    ) -> Self {
        let files = storage.files.clone();
        let mut random = [0; 32];
        OsRng.unwrap_err().fill_bytes(&mut random);
        let (key, key_problem) = storage.site_key(random);
        problems.extend(key_problem);
        problems.extend(unused_files(&files));
        let settings = Arc::new(Live::new(files.settings(), config.doubts, config.accepted));
        let boot = boot_files(&config.loaders, medium, &mut problems);
        show_problems(&problems, &settings, &uploads);
        let status = Arc::default();
        let (journal, remembered) = Journal::open(&storage.folder, storage.durable, rand::random());
        let file6 = storage.folder.join(layout::LEASES6);
        let ipv6 = Ipv6Leases::open(file6, clock::unix_time(), rand::random());
        let keeper = Keeper::new(uploads.clone(), storage.durable);
        let data = Data {
            folder: storage.folder.clone(),
            uploads,
            durable: storage.durable,
        };
        let storage = Arc::new(storage);
        let sources = StatusSources {
            storage: Arc::downgrade(&storage),
            files,
            keeper: keeper.clone(),
            problems,
            links: Arc::clone(&status),
            http_port: config.http_port,
        };
        let site = Site::new(boot, data, settings, key, workers, Box::new(sources));
        site.node_table()
            .remember(starts::load(&site.data.folder.join(layout::STARTS)));
        http::set_image::load(&site);
        let noted_late = !note_in_time(&site);
        let shared = Shared {
            site: Arc::new(site),
            http_port: config.http_port,
            remembered,
            status,
            journal: Arc::new(journal),
            ipv6: Arc::new(ipv6),
        };
        Master {
            links: config.links,
            storage,
            shared,
            keeper,
            noted_late,
        }
    }

    async fn serve(&self, stop: &CancellationToken) -> anyhow::Result<Ended> {
        let (site, port) = (&self.shared.site, self.shared.http_port);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.with_context(|| format!("binding HTTP to 127.0.0.1 port {port}"))?;
        // A stick that is full of uploads is still being hashed; the rest of them is listed once that is done.
        if self.noted_late {
            let (uploads, node_table) = (self.keeper.uploads().clone(), Arc::clone(&site.node_table));
            let ends = stop.clone();
            tokio::task::spawn_blocking(move || {
                // The program's end waits for this thread.
                let go_on = || !ends.is_cancelled();
                if let Some(nodes) = uploads.list_while(&go_on) {
                    note_stored(&node_table, &nodes, &go_on);
                    say_clashes(&node_table);
                }
            });
        }
        let inner = stop.child_token();
        let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
        let http = http::server::run(listener, Arc::clone(site), inner.clone());
        tasks.spawn(named("local HTTP".to_owned(), http));
        tasks.spawn(self.keeper.clone().keep(inner.clone()));
        tasks.spawn(Arc::clone(&self.shared.ipv6).keep(inner.clone()));
        let file = site.data.folder.join(layout::STARTS);
        tasks.spawn(starts::keep(Arc::clone(&site.node_table), file, inner.clone()));
        systemd::ready("asking each link who serves it");
        let mut links = std::pin::pin!(manager::run(self.shared.clone(), self.links.clone(), inner.clone()));
        let ended = loop {
            tokio::select! {
                ended = &mut links => break ended,
                Some(task) = tasks.join_next() => match task {
                    // The links take their addresses and advertisements back before they end.
                    Ok(Ok(())) if stop.is_cancelled() => {}
                    Ok(Ok(())) => break Err(anyhow::anyhow!("a task of the master ended by itself")),
                    Ok(Err(error)) => break Err(error),
                    Err(error) => break Err(error.into()),
                },
            }
        };
        inner.cancel();
        while tasks.join_next().await.is_some() {}
        ended
    }

    /// Tarball current, everything written out, partition clean.
    async fn close(self) -> anyhow::Result<()> {
        let words = self.storage.closing_words(self.keeper.uploads().stored());
        let Master {
            storage,
            shared,
            keeper,
            ..
        } = self;
        let work = tokio::task::spawn_blocking(move || {
            shared.journal.close();
            keeper.end();
            // Every holder of an open file on the partition has to be gone before it can be unmounted.
            drop((shared, keeper));
            let storage = Arc::into_inner(storage).context("the data partition is still in use")?;
            storage.close().context("closing the data partition")
        });
        work.await??;
        console!("{words}");
        Ok(())
    }
}

/// Files on the stick that are not used, and why.
fn unused_files(files: &StickFiles) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, then) in [
        (layout::AUTHORIZED_KEYS, "ssh stays off"),
        (layout::WORKLOAD, "machines run no workload"),
    ] {
        // One byte tells whether it can be read.
        match (files.read(name, 0), files) {
            (Err(error), _) => problems.push(format!("{name}: it cannot be read: {error}; {then}")),
            (Ok(Some(_)), StickFiles::Disk(_)) => problems.push(format!(
                "{name}: it is on the stick, which cannot be mounted, and is not used; {then}"
            )),
            (Ok(_), _) => {}
        }
    }
    problems
}

fn show_problems(problems: &[String], settings: &Live, uploads: &NodeStore) {
    let remedy = settings.is_held().then(|| REMEDY.to_owned());
    let of_settings = settings.problems().into_iter().chain(remedy);
    for problem in problems.iter().cloned().chain(of_settings).chain(uploads.problems()) {
        console!("{problem}");
    }
}

fn boot_files(folders: &[PathBuf], medium: Option<Medium>, problems: &mut Vec<String>) -> BootFiles {
    let loaders = Loaders::find(folders);
    for name in loaders.missing() {
        tracing::debug!(name, "no such network boot program on this system");
    }
    let Some(medium) = medium else {
        return BootFiles {
            loaders,
            ..BootFiles::default()
        };
    };
    let first_stage = medium.first_stage.unwrap_or_else(|why| {
        problems.push(format!("{why}; machines boot with the larger initrd"));
        None
    });
    BootFiles {
        kernel: Some(medium.kernel),
        initrd: Some(medium.initrd),
        first_stage,
        image: medium.image,
        loaders,
    }
}

/// Lists uploads of earlier runs for a while. False where some are still to be listed.
fn note_in_time(site: &Site) -> bool {
    let uploads = &site.data.uploads;
    let checked = uploads.list_checked();
    let until = Instant::now() + NOTE_LIMIT;
    let noted = note_stored(&site.node_table, &checked, &|| Instant::now() < until);
    let all = uploads.unchecked() == 0 && noted == checked.len();
    if all {
        say_clashes(&site.node_table);
    }
    all
}

/// Lists what earlier runs stored. Reads every upload, so the node table is not locked meanwhile; what this run stored since
/// is newer and stays. Gives how many it came to while `go_on`.
fn note_stored(node_table: &Mutex<NodeTable>, stored: &[StoredNode], go_on: &dyn Fn() -> bool) -> usize {
    for (noted, node) in stored.iter().enumerate() {
        if !go_on() {
            return noted;
        }
        let facts = node.facts();
        let mut node_table = node_table.lock().expect("no holder panics");
        if !node_table.is_stored(&node.id) {
            node_table.stored(&node.id, None, node.sha256.clone(), facts, RunTime::default());
        }
    }
    stored.len()
}

/// Machines of earlier runs that call themselves the same.
fn say_clashes(node_table: &Mutex<NodeTable>) {
    let (clashes, more) = node_table.lock().expect("no holder panics").clashes();
    for clash in &clashes {
        console!("{}", clash);
    }
    if more > 0 {
        console!("{more} more names are those of two machines or more");
    }
}

/// Folders in which distributions keep network boot programs.
pub(crate) fn loader_folders() -> Vec<PathBuf> {
    [
        "/usr/lib/ipxe",
        "/usr/share/ipxe",
        "/boot/ipxe",
        // Signed shim and GRUB: in our image, and where Debian and openSUSE have them.
        "/usr/lib/recon/loaders",
        "/usr/lib/shim",
        "/usr/lib/grub/x86_64-efi-signed",
        "/usr/share/efi/x86_64",
        // The memory test.
        "/boot",
    ]
    .map(PathBuf::from)
    .to_vec()
}
