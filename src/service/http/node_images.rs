//! What a diskless node starts: looks up the versions of its image, and how it fared with them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::Settings;
use crate::model::{ImageVersion, ImageWord, MacAddr};
use crate::service::boot::attempts::{Choices, Decision};
use crate::service::images::Image;
use crate::service::workers::blocking;

use super::route::Who;
use super::site::Site;

/// What a machine that asks for its script starts.
#[derive(Debug, Clone)]
pub(super) enum Plan {
    /// It is no node.
    NoNode,
    Image(Arc<Image>),
    /// The failsafe system; why, as a sentence.
    Failsafe(String),
    /// Its image is not here: which, and why.
    Missing(ImageWord, String),
}

/// Everything that is known of a node's image, before it is asked how the node fared.
#[derive(Debug, Clone)]
pub(super) struct Found {
    word: ImageWord,
    pub(super) wanted: Arc<Image>,
    previous: Option<ImageVersion>,
    was_up: bool,
}

impl Found {
    /// What there is to choose from.
    pub(super) fn choices(&self, settings: &Settings) -> Choices {
        let pinned = &self.wanted.pinned;
        Choices {
            wanted: (pinned.name.clone(), pinned.version.clone()),
            previous: self.previous.clone(),
            was_up: self.was_up,
            limit: settings.failsafe_after(&pinned.name),
        }
    }
}

/// What a word means now. Blocks.
///
/// # Errors
/// There is no such image; as a sentence.
pub(super) fn look_up(site: &Site, word: ImageWord) -> Result<Found, String> {
    let images = &site.images;
    let wanted = images.find(&word)?;
    Ok(Found {
        previous: images.previous(&word),
        was_up: images.was_up(&wanted.pinned.name, &wanted.pinned.version),
        word,
        wanted,
    })
}

/// The image of a machine that starts one, or the word for it and why there is none.
pub(super) async fn found(
    site: &Arc<Site>,
    settings: &Settings,
    who: &Who,
) -> Option<Result<Found, (ImageWord, String)>> {
    let word = settings.image(who.mac.as_slice(), who.marks())?.clone();
    let (from, given) = (Arc::clone(site), word.clone());
    let found = blocking(move || Ok(look_up(&from, given)))
        .await
        .unwrap_or_else(|error| Err(error.to_string()));
    Some(found.map_err(|why| (word, why)))
}

/// What the machine at this address starts, of what was found for it.
pub(super) async fn plan(
    site: &Arc<Site>,
    settings: &Settings,
    (mac, client): (Option<MacAddr>, IpAddr),
    found: Option<Result<Found, (ImageWord, String)>>,
) -> Plan {
    let found = match found {
        None => return Plan::NoNode,
        Some(Err((word, why))) => return Plan::Missing(word, why),
        Some(Ok(found)) => found,
    };
    let choices = found.choices(settings);
    let (decision, failed, said) = {
        let table = site.node_table();
        (
            table.decide(mac, client, &choices),
            table.failed_starts(mac, client, &choices.wanted),
            table.why_given_up(mac, client, &choices.wanted),
        )
    };
    if decision == Decision::Wanted {
        return Plan::Image(found.wanted);
    }
    let (name, version) = &choices.wanted;
    let times = match failed {
        1 => "once".to_owned(),
        failed => format!("{failed} times"),
    };
    let mut why = match said {
        Some(said) => format!("{name}@{version} does not start there: {said}"),
        None => format!("{name}@{version} was started {times} and did not come up"),
    };
    if let Some(previous) = found
        .previous
        .filter(|previous| previous != version && (!found.was_up || decision == Decision::Previous))
    {
        let (from, word) = (
            Arc::clone(site),
            ImageWord {
                version: Some(previous.clone()),
                ..found.word
            },
        );
        let other = blocking(move || Ok(from.images.find(&word))).await;
        match other.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(image) if decision == Decision::Previous => return Plan::Image(image),
            Ok(_) => why += &format!(", nor did the one before, {name}@{previous}"),
            Err(error) => why += &format!("; the one before: {error}"),
        }
    }
    // Without one it is tried on and on, with longer pauses.
    if !has_failsafe(site) {
        return Plan::Image(found.wanted);
    }
    Plan::Failsafe(why)
}

/// What the failsafe system is made of is on the medium.
fn has_failsafe(site: &Site) -> bool {
    site.boot.kernel.is_some() && site.boot.first_stage.is_some()
}
