//! What turns a machine, or a captured tree of one, into an inventory: where text comes from, time boxes, what is kept raw. The
//! parts themselves are the folders beside this one.

pub mod capture;
pub mod joined;
pub mod live;
pub mod raw;
pub mod redact;
pub mod rights;
pub mod root;
pub mod run;
pub mod schema;
pub mod timebox;
