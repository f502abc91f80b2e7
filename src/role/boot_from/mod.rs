//! `recon boot-from`: a boot script from any web server, and what it says started by kexec.

pub(crate) mod asked;
pub(crate) mod assisted;
mod json_plan;
mod kexec;
mod last_report;
mod load;
pub(crate) mod look;
pub(crate) mod machine;
pub(crate) mod plan;
pub(crate) mod run;
mod session;
pub(crate) mod settings;
pub(crate) mod way;
