//! iPXE's scripts, run by us: what one says to fetch and to start. Pure; whoever runs it fetches, waits and starts.
//!
//! A script is the word of a stranger: everything about it is bounded, it changes nothing but its own settings, and a word that is not
//! known fails its line and is told, where others would boot half a script.

mod command;
mod images;
mod lex;
mod options;
mod ports;
mod run;
mod settings;

use thiserror::Error;

pub(crate) use images::{Initrd, Plan};
pub(crate) use lex::{MAX_SCRIPT_BYTES, Script, is_script};
pub(crate) use run::{Answer, Interpreter, Request};
pub(crate) use settings::Settings;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ScriptError {
    #[error("it does not begin with #!ipxe")]
    NoScript,
    #[error("it is longer than {MAX_SCRIPT_BYTES} bytes")]
    TooLong,
    #[error("it is not text in UTF-8")]
    NoText,
    #[error("it has too many {0}")]
    TooMuch(&'static str),
    #[error("{0}")]
    Word(String),
}
