//! `[images.NAME]` of `recon.toml`: how one image is started, where that differs from all others. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{ImageName, RootForm};

/// What stands under one `[images.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ImageRule {
    /// How nodes have its root in memory, where no rule of their own says it.
    pub root: Option<RootForm>,
    /// Failed starts of a version after which a node gets another one, or the failsafe system; 0: never.
    pub failsafe_after: Option<u32>,
    /// Words for the kernel command line of its nodes, behind those of all machines.
    pub kernel_arguments: Option<String>,
}

/// By name; none for an image that is like all others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ImageRules(pub(super) BTreeMap<ImageName, ImageRule>);

impl ImageRules {
    pub(super) fn of(&self, name: &ImageName) -> Option<&ImageRule> {
        self.0.get(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
