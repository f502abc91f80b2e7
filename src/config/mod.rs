//! Settings, from text to checked values: kernel command line and `recon.toml`. Only [`load`] reads files.

pub(crate) mod cmdline;
pub(crate) mod definitions;
pub mod live;
pub mod load;
pub(crate) mod routed;
pub mod settings;
pub(crate) mod site_key;

pub use cmdline::KernelLine;
pub use live::Live;
pub use settings::{NodePolicy, Settings};
pub use site_key::SiteKey;
