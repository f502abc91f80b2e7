//! HTTP/1.1 of the master. [`route`] and [`range`] decide; [`server`] owns the loop; [`files`] and [`upload`] move bytes.

pub mod client;
pub mod files;
pub mod range;
pub mod route;
pub mod server;
pub mod site;
pub mod upload;
