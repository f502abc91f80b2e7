//! All firmware for people, what is alike in one line.

use super::page::Page;
use super::words::{labelled, list, words};
use crate::model::inventory::Firmware;

/// Places named for one line; further ones are counted.
const SHOWN_PLACES: usize = 4;

pub(super) fn lines(page: &mut Page, all: &Vec<Firmware>) {
    if all.is_empty() {
        page.item("none found");
    }
    let mut groups: Vec<(&Firmware, Vec<&str>)> = Vec::new();
    for one in all {
        let place = one.belongs_to.as_deref();
        let same = groups.iter_mut().find(|(first, _)| {
            (&first.component, &first.name, &first.version, &first.note)
                == (&one.component, &one.name, &one.version, &one.note)
        });
        match same {
            Some((_, places)) => places.extend(place),
            None => groups.push((one, place.into_iter().collect())),
        }
    }
    for (one, places) in groups {
        let shown = places.iter().take(SHOWN_PLACES).copied().collect::<Vec<_>>().join(", ");
        let more = places.len().saturating_sub(SHOWN_PLACES);
        let places = match (shown.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(format!("({shown})")),
            (false, more) => Some(format!("({shown} and {more} more)")),
        };
        let what = words([Some(one.component.clone()), one.name.clone(), places]);
        let facts = list([
            Some(one.version.clone()),
            labelled("of", &one.date),
            one.note.clone().map(|note| format!("NOTE: {note}")),
        ]);
        page.item(&format!("{what}: {facts}"));
    }
}
