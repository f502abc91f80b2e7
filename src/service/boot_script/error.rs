//! Why a script is not run, or no further. Pure.

use thiserror::Error;

/// Longest script. What is longer is refused; those of the field have a few KiB.
pub const MAX_SCRIPT_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScriptError {
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
