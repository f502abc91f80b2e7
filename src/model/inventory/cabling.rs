//! Which switch port each cable ends in, by LLDP and CDP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the neighbours said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cabling {}
