//! The stick itself: which medium this machine was started from, its data partition, installing onto a disk, and taking the
//! inventories home.

pub mod collect;
pub(crate) mod install;
pub(crate) mod medium;
pub(crate) mod partition;
pub(crate) mod peek;
