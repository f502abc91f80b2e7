//! The recon stick: master, peer and laptop tool in one binary. ARCHITECTURE.md has the map and its invariants.

pub mod config;
pub mod model;
pub mod role;
pub mod service;
pub mod sys;
