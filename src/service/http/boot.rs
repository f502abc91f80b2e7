//! What boot programs load: scripts, kernel and initrd, and the programs themselves; what their questions tell of a machine.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::{Response, StatusCode, header};

use crate::config::Settings;
use crate::formats::first_stage::{BusId, FirstStage};
use crate::formats::image::{FIRST_STAGE, KERNEL};
use crate::model::console::console;
use crate::model::slice::Slice;
use crate::model::start_report::SERVER;
use crate::model::{NodePolicy, PostAction, PowerOff, RootForm, Stage};
use crate::service::boot::request::StartsWith;
use crate::service::boot::resolve::BootFile;
use crate::service::boot::script::complete;
use crate::service::boot::{grub, ipxe, memory, programs, request, resolve};
use crate::service::images::Image;
use crate::service::node_table::LoaderReport;
use crate::sys::clock;

use super::files::{self, Asked};
use super::node_images::{self, Plan};
use super::own_files;
use super::response::{Body, line, set_static, whole};
use super::route::Who;
use super::sendfile::WentOut;
use super::site::Site;

/// What asks for a machine's own script, so the language it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Ipxe,
    Menu,
    Grub,
}

impl Reader {
    fn text(self, boot: &request::Boot) -> String {
        match self {
            Reader::Ipxe => ipxe::boot(boot),
            Reader::Menu => ipxe::menu(boot),
            Reader::Grub => grub::boot(boot),
        }
    }

    /// For a node whose image is not here.
    fn without_image(self, master: SocketAddr, who: &Who, reason: &str) -> String {
        match self {
            Reader::Ipxe | Reader::Menu => ipxe::no_image(master, who.mac, reason),
            Reader::Grub => grub::no_image(reason),
        }
    }
}

/// What iPXE asks for first: how to say who it is, then its script. The address that DHCP gives it has no room for what its port is, so
/// it is sent round once more where that counts.
pub(super) async fn ipxe_script(asked: Asked<'_>, master: SocketAddr, who: &Who) -> Response<Body> {
    let policy = asked.site.settings.now().policy(who.mac.as_slice(), who.marks());
    let wants_bus = policy.post_action == PostAction::Image
        || first_stage_of(asked.site, asked.client, policy.post_action).is_some();
    if who.said_mac && (who.said_bus || !wants_bus) {
        return script(asked, master, who, Reader::Ipxe).await;
    }
    asks_script(asked, who, None).await;
    boot_script(ipxe::entry(master, who.mac))
}

/// A machine's own script.
pub(super) async fn script(asked: Asked<'_>, master: SocketAddr, who: &Who, reader: Reader) -> Response<Body> {
    let (site, client) = (asked.site, asked.client);
    let settings = site.settings.now();
    let found = node_images::found(site, &settings, who).await;
    let wanted = found.as_ref().and_then(|found| Some(&found.as_ref().ok()?.wanted));
    // A menu is for a person, who may choose, and has no image.
    let is_menu = reader == Reader::Menu;
    let is_noted = asks_script(asked, who, wanted.map(Arc::as_ref).filter(|_| !is_menu)).await;
    let mut boot = boot_of(site, &settings, master, client, who);
    if is_menu {
        if is_noted {
            site.node_table().chooses(client);
        }
        return boot_script(reader.text(&boot));
    }
    match node_images::plan(site, &settings, (who.mac, client), found).await {
        Plan::NoNode if boot.policy.post_action == PostAction::Failsafe => {
            start_failsafe(
                asked,
                is_noted,
                &mut boot,
                "recon.toml wants this machine here".to_owned(),
            );
        }
        Plan::NoNode => forget_image(asked, is_noted),
        Plan::Missing(word, why) => {
            let reason = format!("the image {word} is not here, or not whole");
            forget_image(asked, is_noted);
            tell_refused(asked, &why);
            return boot_script(reader.without_image(master, who, &reason));
        }
        Plan::Image(image) => {
            let name = &image.pinned.name;
            let root = settings.root_form(who.mac.as_slice(), who.marks(), name);
            boot.kernel_arguments = settings.kernel_arguments(Some(name));
            start_image(asked, is_noted, &mut boot, (&image, root));
        }
        Plan::Failsafe(why) => start_failsafe(asked, is_noted, &mut boot, why),
    }
    boot_script(reader.text(&boot))
}

/// What it starts is no image, and not the failsafe system.
fn forget_image(asked: Asked<'_>, is_noted: bool) {
    if is_noted {
        asked.site.node_table().will_start_other(asked.client);
    }
}

/// Has a script start an image.
fn start_image(asked: Asked<'_>, is_noted: bool, boot: &mut request::Boot, (image, root): (&Image, RootForm)) {
    let files = image.first_stage.initrds(boot.bus);
    if is_noted {
        let version = (image.pinned.name.clone(), image.pinned.version.clone());
        asked
            .site
            .node_table()
            .will_start(asked.client, Some(version), files.last().cloned(), None);
    }
    boot.image = Some(request::NodeImage {
        pinned: image.pinned.clone(),
        root,
        first_stage: files,
    });
}

/// Has a script start the failsafe system: the medium's own first stage, whatever became of the machine before.
fn start_failsafe(asked: Asked<'_>, is_noted: bool, boot: &mut request::Boot, why: String) {
    let (site, client) = (asked.site, asked.client);
    let files = site.boot.first_stage.as_ref().map(|stage| stage.initrds(boot.bus));
    boot.first_stage = files.unwrap_or_default();
    boot.policy = NodePolicy {
        post_action: PostAction::Failsafe,
        poweroff: PowerOff::Never,
    };
    boot.pause_seconds = 0;
    boot.why = Some(why.clone());
    if !is_noted {
        return;
    }
    let last = boot.first_stage.last().cloned();
    let is_news = site.node_table().will_start(client, None, last, Some(why.clone()));
    if is_news {
        let name = site.node_table().name_of(client);
        console!("machine {name}: {why}; it gets the failsafe system");
    }
}

/// Tells the person at the master, once, why a machine does not get what it asks for.
fn tell_refused(asked: Asked<'_>, reason: &str) {
    let (site, client) = (asked.site, asked.client);
    if site.node_table().refused(client, reason) {
        // Its own statement: nobody waits for the node table while the console is slow.
        let name = site.node_table().name_of(client);
        console!("machine {name}: {reason}");
    }
}

pub(super) async fn kernel(asked: Asked<'_>, who: &Who) -> Response<Body> {
    let (site, client) = (asked.site, asked.client);
    if let Some(reason) = no_kernel(site, client, who) {
        tell_refused(asked, &reason);
        return line(StatusCode::CONFLICT, &reason);
    }
    if !asked.head {
        site.node_table().fetched(client, Stage::Kernel, clock::run_time());
    }
    files::slice(asked, site.boot.kernel.as_ref()).await
}

/// A script that says why this machine gets no kernel.
pub(super) fn why(asked: Asked<'_>, who: &Who) -> Response<Body> {
    match no_kernel(asked.site, asked.client, who) {
        Some(reason) => boot_script(ipxe::refusal(&reason)),
        None => line(StatusCode::NOT_FOUND, "nothing is known against it"),
    }
}

/// A file of an image. `names`: its path below the data partition.
pub(super) async fn image_file(asked: Asked<'_>, names: &[String]) -> Response<Body> {
    let (site, client) = (Arc::clone(asked.site), asked.client);
    let first_stage = match names {
        [_, _, _, folder, path @ ..] if folder == FIRST_STAGE => Some(path.join("/")),
        [_, _, _, name] if name == KERNEL && !asked.head => {
            site.node_table().fetched(client, Stage::Kernel, clock::run_time());
            None
        }
        _ => None,
    };
    let went_out: Option<WentOut> = first_stage.filter(|_| !asked.head).map(|path| {
        let note: WentOut = Arc::new(move || site.node_table().initrd(client, Some(&path)));
        note
    });
    let went_out = went_out.as_ref();
    files::data(Asked { went_out, ..asked }, names).await
}

pub(super) async fn initrd(asked: Asked<'_>) -> Response<Body> {
    noted(asked, None, asked.site.boot.initrd.as_ref()).await
}

/// A file of the first stage.
pub(super) async fn first_stage(asked: Asked<'_>, path: &str) -> Response<Body> {
    let stage = asked.site.boot.first_stage.as_ref();
    noted(asked, Some(path), stage.and_then(|stage| stage.file(path))).await
}

/// A file beside the kernel, and when its last byte went out, a note of that: before, no machine starts.
async fn noted(asked: Asked<'_>, first_stage: Option<&str>, slice: Option<&Slice>) -> Response<Body> {
    let (site, client, path) = (Arc::clone(asked.site), asked.client, first_stage.map(str::to_owned));
    let went_out: WentOut = Arc::new(move || site.node_table().initrd(client, path.as_deref()));
    let went_out = Some(&went_out).filter(|_| !asked.head);
    files::slice(Asked { went_out, ..asked }, slice).await
}

pub(super) async fn loader(asked: Asked<'_>, master: SocketAddr, name: &'static str) -> Response<Body> {
    match resolve::boot_file(asked.site, name, master) {
        Some((_, BootFile::File(path))) => {
            if !asked.head {
                let mut node_table = asked.site.node_table();
                node_table.loader_sent(asked.client, name, clock::run_time());
            }
            files::file(asked, &path).await
        }
        Some((_, BootFile::Made(bytes))) => whole(StatusCode::OK, "application/octet-stream", bytes),
        // What is not here went to nobody, so it is no program that did not start.
        None => line(StatusCode::NOT_FOUND, "this master's system does not hold it"),
    }
}

/// A boot script; one that is not complete never leaves, because it would boot a machine into something nobody meant.
pub(super) fn boot_script(text: String) -> Response<Body> {
    match complete(&text) {
        Ok(()) => {
            let mut response = whole(StatusCode::OK, "text/plain; charset=utf-8", text);
            // Recon that follows it tells this master what it starts.
            set_static(&mut response, header::SERVER, SERVER);
            response
        }
        Err(flaw) => {
            console!("a boot script was not sent, because it is not complete: {flaw}");
            line(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("the script is not complete: {flaw}"),
            )
        }
    }
}

/// Notes that a boot program asks for its script, and tells the person at the master of a machine that loops.
/// Returns whether it is certain that it is that machine which asks, so that what it is given may be noted.
async fn asks_script(asked: Asked<'_>, who: &Who, image: Option<&Image>) -> bool {
    if asked.head {
        return false;
    }
    let (site, client) = (asked.site, asked.client);
    let settings = site.settings.now();
    let is_its = own_files::is_believed(site, &settings, client, who.mac.as_slice()).await;
    let policy = settings.policy(who.mac.as_slice(), who.marks());
    let stage = first_stage_of(site, client, policy.post_action);
    let bus = bus_of(site, who);
    let said = LoaderReport {
        needed_mib: match image {
            Some(image) => Some(memory::first_stage_needed_mib(
                image.kernel_bytes,
                image.first_stage.initrd_bytes(bus),
            )),
            None => needed_mib(site, stage, policy.post_action, bus),
        },
        last_file: image
            .map(|image| &image.first_stage)
            .or(site.boot.first_stage.as_ref())
            .and_then(|stage| stage.initrds(bus).pop()),
        mac: who.mac,
        is_its,
        arch: who.arch.clone(),
        serial: who.serial.clone(),
        trouble: who.arch.as_deref().and_then(ipxe::no_kernel_for),
    };
    let told = {
        let mut node_table = site.node_table();
        let news = node_table.script(client, &said, clock::run_time());
        news.map(|news| (node_table.name_of(client), news))
    };
    if let Some((name, news)) = told {
        console!("machine {name}: {news}");
    }
    let now = first_stage_of(site, client, policy.post_action);
    if let Some(news) = starts_otherwise(stage.is_some(), now.is_some()) {
        let name = site.node_table().name_of(client);
        console!("machine {name}: {news}");
    }
    is_its
}

/// What is told of a machine that starts with something else than the last time: with the first stage, or with the initrd.
fn starts_otherwise(had_first_stage: bool, has_first_stage: bool) -> Option<&'static str> {
    match (had_first_stage, has_first_stage) {
        (true, false) => Some("it starts with the initrd this time, which has every driver and takes more memory"),
        (false, true) => Some("it starts with the first stage this time, which takes less memory than the initrd"),
        _ => None,
    }
}

/// The first stage, where a machine is to start with it.
fn first_stage_of(site: &Site, client: IpAddr, action: PostAction) -> Option<&FirstStage> {
    let stage = site
        .boot
        .first_stage
        .as_ref()
        .filter(|_| matches!(action, PostAction::Inventory | PostAction::Failsafe))?;
    if action == PostAction::Failsafe {
        return Some(stage);
    }
    let with = site.node_table().starts_with(client, with_initrd_mib(site, action));
    (with == StartsWith::FirstStage).then_some(stage)
}

/// Memory that a machine with this port needs at least to start with the first stage, or where it gets none, with the initrd; where this
/// master has something to boot it with.
fn needed_mib(site: &Site, stage: Option<&FirstStage>, action: PostAction, bus: Option<BusId>) -> Option<u64> {
    match stage {
        Some(stage) => {
            let kernel = site.boot.kernel.as_ref()?.length;
            Some(memory::first_stage_needed_mib(kernel, stage.initrd_bytes(bus)))
        }
        None => with_initrd_mib(site, action),
    }
}

/// The same where it starts with the initrd.
fn with_initrd_mib(site: &Site, action: PostAction) -> Option<u64> {
    let size = |slice: &Option<Slice>| slice.as_ref().map(|slice| slice.length);
    let sizes = memory::Sizes {
        kernel: size(&site.boot.kernel)?,
        initrd: size(&site.boot.initrd)?,
        image: size(&site.boot.image).unwrap_or(0),
    };
    Some(memory::needed_mib(sizes, action))
}

/// Why a machine's boot script gets no kernel. Who asks without one gets it: a person, a program that measures.
fn no_kernel(site: &Site, client: IpAddr, who: &Who) -> Option<String> {
    let too_little = who.memory_mib.and_then(|has| {
        site.node_table().memory(client, has);
        let action = who.action.unwrap_or(PostAction::Inventory);
        let stage = match who.with {
            Some(StartsWith::FirstStage) => site.boot.first_stage.as_ref(),
            Some(StartsWith::Initrd) => None,
            None => first_stage_of(site, client, action),
        };
        memory::too_little(has, needed_mib(site, stage, action, bus_of(site, who))?)
    });
    too_little.or_else(|| who.action.and_then(|_| site.node_table().stuck(client)))
}

/// What the port is, by what the boot program says; GRUB does not say it, nor does every firmware tell iPXE. There, by an inventory of
/// that machine from before.
fn bus_of(site: &Site, who: &Who) -> Option<BusId> {
    who.bus.or_else(|| site.node_table().bus_of(who.mac?))
}

fn boot_of(site: &Site, settings: &Settings, master: SocketAddr, client: IpAddr, who: &Who) -> request::Boot {
    // A menu offers the inventory whatever the policy is.
    let first_stage = first_stage_of(site, client, PostAction::Inventory);
    let bus = bus_of(site, who);
    request::Boot {
        master,
        client,
        mac: who.mac,
        fills_in: !who.said_mac,
        bus,
        first_stage: first_stage.map(|stage| stage.initrds(bus)).unwrap_or_default(),
        policy: settings.policy(who.mac.as_slice(), who.marks()),
        image: None,
        why: None,
        kernel_arguments: settings.kernel_arguments(None),
        arch: who.arch.clone(),
        memtest_efi: site.boot.loaders.path(programs::MEMTEST_EFI).is_some(),
        memtest_bios: site.boot.loaders.path(programs::MEMTEST_BIOS).is_some(),
        pause_seconds: site.node_table().pause_seconds(client),
    }
}
