//! HTTP/1.1 of the master. [`route`], [`range`], [`condition`], [`admission`], [`quota`] and [`min_rate`] decide; [`server`] owns the
//! loop, [`answer`] picks what [`boot`], [`nodes`], [`files`], [`own_files`], [`set_image`] and [`export`] answer; [`body`], [`sendfile`], [`transfer_queue`],
//! [`limits`] and [`upload`] move bytes. What is refused, and with which status, is in [`refusal`].

pub(crate) mod admission;
pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod boot;
pub mod client;
pub(crate) mod condition;
pub(crate) mod export;
pub(crate) mod files;
pub(crate) mod limits;
pub(crate) mod min_rate;
pub(crate) mod node_images;
pub(crate) mod nodes;
pub(crate) mod own_files;
pub(crate) mod quota;
pub(crate) mod range;
pub(crate) mod refusal;
pub(crate) mod response;
pub mod route;
pub(crate) mod sendfile;
pub mod server;
pub(crate) mod set_image;
pub(crate) mod short_body;
pub mod site;
pub(crate) mod transfer_queue;
pub mod upload;
pub mod workload;
