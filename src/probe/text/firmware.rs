//! All firmware for people, what is alike in one line.

use super::page::Page;
use super::words::{bracketed, labelled, some, with, words};
use crate::formats::text::first;
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
        let same = groups.iter_mut().find(|(known, _)| {
            (&known.component, &known.name, &known.version, &known.note)
                == (&one.component, &one.name, &one.version, &one.note)
        });
        match same {
            Some((_, places)) => places.extend(place),
            None => groups.push((one, place.into_iter().collect())),
        }
    }
    for (one, places) in groups {
        let places = bracketed(some(first(&places, SHOWN_PLACES)));
        let what = words([Some(one.component.clone()), one.name.clone(), places]);
        page.entry(&what).facts([
            Some(one.version.clone()),
            labelled("of", &one.date),
            with("NOTE:", one.note.as_ref()),
        ]);
    }
}
