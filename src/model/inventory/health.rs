//! What the kernel has noticed about the health of the machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counters and log lines.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Health {}
