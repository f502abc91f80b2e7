//! `recon node set-image`: a person at the master has machines start something else than `recon.toml` says, at their next start or one batch
//! after the other.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use crate::config::start_choices::{Choice, Roll, Start, StartChoices};
use crate::config::{Marks, Settings};
use crate::model::api::{SetImage, StageReport};
use crate::model::console::console;
use crate::model::{MacAddr, NodeId, layout};
use crate::service::workers::blocking;
use crate::store::fs_ops::Disk;
use crate::store::json_lines;

use super::node_images;
use super::response::{Body, line};
use super::route::Who;
use super::short_body::body_of;
use super::site::Site;

/// Largest body of such a wish.
const MAX_BYTES: usize = 4096;
/// More nodes at a time than start from one master without waiting for each other.
const MAX_BATCH: usize = 1000;
/// Ports that a sentence names.
const MAX_NAMED: usize = 5;

/// What is chosen on the data partition. Blocks.
pub(crate) fn load(site: &Site) {
    let file = site.data.folder.join(layout::START_CHOICES);
    match json_lines::load(&file) {
        Ok(choices) => take(site, StartChoices::new(choices)),
        Err(error) => console!("{}: {error}: machines start what recon.toml says", file.display()),
    }
}

fn take(site: &Site, chosen: StartChoices) {
    site.settings.choose(chosen.bare());
    *site.chosen.lock().expect("no holder panics") = chosen;
}

/// Nobody but a person at the master chooses.
pub(super) async fn set(site: &Arc<Site>, client: IpAddr, request: Request<Incoming>) -> Response<Body> {
    if !client.is_loopback() {
        return line(StatusCode::FORBIDDEN, "only on this machine itself");
    }
    let bytes = match body_of(request, MAX_BYTES).await {
        Ok(bytes) => bytes,
        Err(refusal) => return *refusal,
    };
    let asked = serde_json::from_slice::<SetImage>(&bytes).map_err(|error| error.to_string());
    let choice = match asked.and_then(choice) {
        Ok(choice) => choice,
        Err(why) => return line(StatusCode::BAD_REQUEST, &why),
    };
    match keep(site, choice.clone()).await {
        Ok(()) => {}
        Err(why) => return line(StatusCode::CONFLICT, &why),
    }
    let words = said(site, &choice);
    console!("set-image: {words}");
    line(StatusCode::OK, &words)
}

fn choice(asked: SetImage) -> Result<Choice, String> {
    let start: Start = asked.start.parse()?;
    let roll = match (asked.batch, &start) {
        (None, _) => None,
        (Some(_), Start::Failsafe | Start::AsSettings) => {
            return Err("--batch goes with an image: it waits for nodes to be up with it".to_owned());
        }
        (Some(batch), Start::Image(_)) if (1..=MAX_BATCH).contains(&batch) => Some(Roll {
            batch,
            told: Vec::new(),
        }),
        (Some(_), _) => return Err(format!("--batch is 1 to {MAX_BATCH}")),
    };
    Ok(Choice {
        whom: asked.whom.parse()?,
        start,
        roll,
    })
}

/// It counts once it is on the data partition.
async fn keep(site: &Arc<Site>, choice: Choice) -> Result<(), String> {
    let from = Arc::clone(site);
    let work = move || {
        Ok((|| {
            if let Start::Image(word) = &choice.start {
                from.images.find(word)?;
            }
            let mut chosen = from.chosen.lock().expect("no holder panics").clone();
            chosen.add(choice)?;
            write(&from, &chosen)?;
            take(&from, chosen);
            Ok(())
        })())
    };
    blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}

fn write(site: &Site, chosen: &StartChoices) -> Result<(), String> {
    let file = site.data.folder.join(layout::START_CHOICES);
    json_lines::save(&Disk, &file, chosen.choices()).map_err(|error| format!("{}: {error}", file.display()))
}

fn said(site: &Site, choice: &Choice) -> String {
    let mut words = match &choice.start {
        Start::AsSettings => format!("{} starts what recon.toml says", choice.whom),
        start => format!("{} starts {start}", choice.whom),
    };
    // Writing to a String cannot fail.
    let _ = match &choice.roll {
        None => write!(words, ", each machine with its next start"),
        Some(roll) => write!(
            words,
            "; nodes that are up with something else are told to start again with their next word, {} at a time",
            roll.batch
        ),
    };
    if !site.data.durable {
        words += "; the data is in memory, so a restart of this machine forgets it";
    }
    words
}

/// A node says that it is up. True where it is to start again, for what a person chose since.
pub(super) async fn starts_again(site: &Arc<Site>, settings: &Settings, report: &StageReport, id: &NodeId) -> bool {
    let Some(mac) = report.macs.first().copied() else {
        return false;
    };
    let is_part = |site: &Site| {
        let mut chosen = site.chosen.lock().expect("no holder panics");
        chosen.roll_of(&report.macs, Marks::from(Some(id.as_str()))).cloned()
    };
    let Some(roll) = is_part(site) else { return false };
    let who = Who {
        mac: Some(mac),
        uuid: Some(id.as_str().to_owned()),
        ..Who::default()
    };
    let Some(Ok(found)) = node_images::found(site, settings, &who).await else {
        return false;
    };
    let choices = found.choices(settings);
    let (name, version) = &choices.wanted;
    let runs = report.image.as_ref();
    if runs.is_some_and(|runs| (&runs.name, runs.version.as_ref()) == (name, Some(version))) {
        return false;
    }
    let fared = site.node_table().fared(&roll.told, &choices);
    if fared.failed.contains(&mac) {
        return false;
    }
    // One that was told and is still there did not hear it.
    if roll.told.contains(&mac) {
        return true;
    }
    if !fared.leaves_room(roll.batch) {
        return false;
    }
    let from = Arc::clone(site);
    let (macs, id) = (report.macs.clone(), id.clone());
    let told = blocking(move || {
        let mut chosen = from.chosen.lock().expect("no holder panics");
        // Another one may have taken the place meanwhile.
        match chosen.roll_of(&macs, Marks::from(Some(id.as_str()))) {
            Some(now) if *now == roll => now.told.push(mac),
            _ => return Ok(false),
        }
        write(&from, &chosen).map_err(std::io::Error::other)?;
        Ok(true)
    });
    match told.await {
        Ok(true) => {
            console!("set-image: {mac} is told to start again, for {name}@{version}");
            true
        }
        Ok(false) => false,
        Err(error) => {
            tracing::warn!(%error, "noting which node is told to start again");
            false
        }
    }
}

/// The change that goes through the room, as a sentence; none where there is none. Blocks.
pub(crate) fn rolling(site: &Site) -> Option<String> {
    let (choice, roll) = {
        let chosen = site.chosen.lock().expect("no holder panics");
        let (choice, roll) = chosen.roll()?;
        (choice.clone(), roll.clone())
    };
    let Start::Image(word) = &choice.start else { return None };
    let choices = match node_images::look_up(site, word.clone()) {
        Ok(found) => found.choices(&site.settings.now()),
        Err(why) => return Some(format!("{why}: no node is told to start again")),
    };
    let (fared, (with, others)) = {
        let table = site.node_table();
        let is_part = |macs: &[MacAddr], uuid: Option<&str>| choice.whom.is(macs, Marks::from(uuid));
        (
            table.fared(&roll.told, &choices),
            table.up_with(&choices.wanted, is_part),
        )
    };
    let (name, version) = &choices.wanted;
    let mut words = format!(
        "{name}@{version} for {}, {} at a time: {with} nodes are up with it, {others} with something else",
        choice.whom, roll.batch
    );
    for (what, macs) in [
        ("on their way", &fared.on_their_way),
        ("did not come up with it", &fared.failed),
    ] {
        if !macs.is_empty() {
            let _ = write!(words, "; {what}: {}", named(macs));
        }
    }
    if !fared.failed.is_empty() {
        words += "; no further one is told to start again. `recon node retry --all` has them try again, and set-image another version";
    }
    Some(words)
}

fn named(macs: &[MacAddr]) -> String {
    let some: Vec<String> = macs.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    match macs.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", some.join(", ")),
        None => some.join(", "),
    }
}
