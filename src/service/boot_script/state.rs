//! What commands of a script work on: everything that it set, fetched and said. Pure.

use super::images::Images;
use super::settings::Settings;

/// A menu as it is made, line by line.
#[derive(Debug, Default)]
pub(super) struct Menu {
    /// Names of what can be chosen.
    pub(super) items: Vec<String>,
    /// The one that the menu itself prefers.
    pub(super) preferred: Option<String>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) images: Images,
    pub(super) menu: Menu,
    pub(super) params: Vec<(String, String)>,
    /// What is still to be shown.
    pub(super) said: Vec<String>,
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            images: Images::default(),
            menu: Menu::default(),
            params: Vec::new(),
            said: Vec::new(),
        }
    }

    pub(super) fn say(&mut self, text: String) {
        self.said.push(text);
    }
}
