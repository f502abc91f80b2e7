//! iPXE's scripts, run by us: what one says to fetch and to start. Pure; whoever runs it fetches, waits and starts.
//!
//! A script is the word of a stranger: everything about it is bounded, it changes nothing but its own settings, and a word that is not
//! known fails its line and is told, where others would boot half a script.

mod command;
mod error;
mod images;
mod lex;
mod options;
mod ports;
mod request;
mod run;
mod settings;
mod state;
mod url;

pub(crate) use error::MAX_SCRIPT_BYTES;
#[cfg(test)]
pub(crate) use images::Place;
pub(crate) use images::{Initrd, Plan};
pub(crate) use lex::{Script, is_script};
pub(crate) use request::{Answer, Request};
pub(crate) use run::Interpreter;
pub(crate) use settings::{Processor, Settings};
