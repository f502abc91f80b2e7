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

pub use error::{MAX_SCRIPT_BYTES, ScriptError};
pub use images::{Initrd, Place, Plan};
pub use lex::{Script, is_script};
pub use request::{Answer, Request};
pub use run::Interpreter;
pub use settings::{Processor, Settings};
