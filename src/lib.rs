//! The recon stick: master, peer and laptop tool in one binary. ARCHITECTURE.md has the map and its invariants.

pub mod media;
pub mod model;
pub mod store;
pub mod sys;
