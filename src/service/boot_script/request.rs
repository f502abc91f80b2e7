//! What a script asks of whoever runs it, and how that ended. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::images::Plan;

/// What the script asks of whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Fetch this and keep it under its number. An answer of [`Answer::Fetched`] is wanted.
    Fetch {
        image: usize,
        url: String,
        /// What a POST carries; a GET where there is nothing.
        post: Vec<(String, String)>,
    },
    /// Show this. Words of a stranger.
    Say(String),
    Wait(Duration),
    /// An address of the host of this name is wanted, as [`Answer::Address`].
    LookUp(String),
    /// Start this. It is only answered when that failed.
    Boot(Plan),
    /// The script came to its end: 0, or the number that it ended with.
    Exit(u32),
    /// The script did not come to its end. Words of a stranger.
    Failed(String),
    Shell,
    Reboot,
    PowerOff,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Address(IpAddr),
    /// What was fetched, if [`super::is_script`] says so of it; else as little of it as one likes.
    Fetched {
        /// Where it was found in the end: names in it are looked for beside that, not where a redirection began.
        url: Option<String>,
        bytes: Vec<u8>,
    },
    /// It was fetched, and could only go along with a kernel: it is neither one nor a script.
    NoKernel {
        url: Option<String>,
        /// What it is instead.
        why: String,
    },
    Failed(String),
}
