//! Why the store does not take an upload.

use std::path::Path;

use crate::model::NodeId;
use crate::store::fs_ops::{MediumError, io_error};
use crate::store::upload::UploadError;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("an upload of {declared} bytes is over the limit of {limit} bytes")]
    TooLarge { declared: u64, limit: u64 },
    #[error("{declared} bytes were announced, {received} came")]
    LengthMismatch { declared: u64, received: u64 },
    #[error("the content has SHA-256 {received}, {declared} was announced")]
    DigestMismatch { declared: String, received: String },
    #[error("not an upload: {0}")]
    NotAnUpload(String),
    #[error("no room on the data partition: {needed} bytes needed, {free} free")]
    NoSpace { needed: u64, free: u64 },
    #[error("{limit} nodes are stored here, which is all that one stick takes")]
    TooManyNodes { limit: usize },
    #[error(
        "{limit} machines that call themselves {name} are stored here, and no further one is taken of a name; take the \
         inventories off the stick (recon collect), then remove the folders nodes/{name}-* of machines that are done"
    )]
    TooManyOfOneName { name: NodeId, limit: usize },
    #[error("{waiting} uploads wait to be checked already; ask again")]
    Busy { waiting: usize },
    #[error(transparent)]
    Io(#[from] MediumError),
}

pub(super) fn from_upload(error: UploadError, path: &Path) -> StoreError {
    match error {
        UploadError::Refused(text) => StoreError::NotAnUpload(text),
        unread => io_error("reading", path)(unread.into()).into(),
    }
}
