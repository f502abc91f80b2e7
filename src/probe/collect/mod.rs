//! What turns a machine, or a captured tree of one, into an inventory: where text comes from, time boxes, what is kept raw. The
//! parts themselves are the folders beside this one.

pub(crate) mod capture;
pub(crate) mod collection;
pub(crate) mod job;
pub(crate) mod joined;
pub(crate) mod late;
pub(crate) mod live;
pub(crate) mod options;
pub(crate) mod parts;
pub(crate) mod raw;
pub(crate) mod redact;
pub(crate) mod rights;
pub(crate) mod root;
pub(crate) mod run;
pub(crate) mod running;
pub(crate) mod schema;
pub(crate) mod timebox;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is behind these locks is replaced as a whole, so a probe that panicked leaves nothing half done.
fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
