//! Boot mode, Secure Boot, boot entries, TPM, lockdown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the machine trusts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Security {}
