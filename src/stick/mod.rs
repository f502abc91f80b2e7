//! The stick itself: which medium this machine was started from, its data partition, installing onto a disk, and taking the
//! inventories home.

pub mod collect;
pub mod install;
pub mod medium;
pub mod partition;
pub mod peek;
