//! Settings, from text to checked values: kernel command line and `recon.toml`. Only [`load`] reads files.

pub(crate) mod boot_file;
pub(crate) mod boot_sources;
pub(crate) mod cmdline;
pub(crate) mod definitions;
pub(crate) mod draft;
pub(crate) mod fault;
pub(crate) mod image_rules;
pub(crate) mod link_rule;
pub mod live;
pub mod load;
mod mac_pattern;
pub(crate) mod marks;
pub(crate) mod node_rules;
pub(crate) mod printed;
pub(crate) mod reader;
pub(crate) mod routed;
pub mod settings;
pub(crate) mod site_key;
pub(crate) mod start_choices;
pub(crate) mod subnet;
pub(crate) mod values;

pub use cmdline::KernelLine;
pub(crate) use cmdline::MAX_WHY_CHARS;
pub use fault::Faults;
pub use link_rule::LinkRule;
pub use live::Live;
pub use marks::Marks;
pub use settings::Settings;
pub use site_key::{NoSiteKey, SiteKey};
pub use subnet::{LeasePolicy, NoSubnet, Subnet};
