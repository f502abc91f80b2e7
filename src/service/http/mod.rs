//! HTTP/1.1 of the master. [`route`], [`range`], [`condition`] and [`admission`] decide; [`server`] owns the loop; [`files`],
//! [`body`], [`wire`], [`gate`] and [`upload`] move bytes.

pub mod admission;
pub mod body;
pub mod client;
pub mod condition;
pub mod files;
pub mod gate;
pub mod range;
pub mod route;
pub mod server;
pub mod site;
pub mod upload;
pub mod wire;
pub mod workload;
