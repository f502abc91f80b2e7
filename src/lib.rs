//! The recon stick: master, peer and laptop tool in one binary. ARCHITECTURE.md has the map and its invariants.

pub mod cli;
pub mod config;
pub mod formats;
pub mod image;
pub mod model;
pub mod probe;
pub mod role;
pub mod service;
pub mod stick;
pub mod store;
pub mod sys;

#[cfg(test)]
#[path = "../tests/golden.rs"]
mod golden;
