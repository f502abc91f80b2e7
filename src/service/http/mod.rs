//! HTTP/1.1 of the master. [`route`], [`range`], [`condition`], [`admission`], [`quota`] and [`pace`] decide; [`server`] owns the loop; [`files`],
//! [`export`], [`body`], [`wire`], [`gate`], [`door`] and [`upload`] move bytes.

pub mod admission;
pub mod body;
pub mod client;
pub mod condition;
pub mod export;
pub mod files;
pub mod limits;
pub mod min_rate;
pub mod quota;
pub mod range;
pub mod route;
pub mod sendfile;
pub mod server;
pub mod site;
pub mod transfer_queue;
pub mod upload;
pub mod workload;
