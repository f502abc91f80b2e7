//! From where the machines of a link fetch what they boot: one value for every server that tells them.

use std::net::IpAddr;

use crate::model::{Endpoint, HTTP_PORT};

use crate::service::loader_choice::LoaderChoice;

#[derive(Debug, Clone)]
pub struct BootSource {
    /// Of the master's HTTP, on every link.
    pub http_port: u16,
    /// Which boot program a machine gets.
    pub loaders: LoaderChoice,
}

impl BootSource {
    /// The master's HTTP, where this is its address.
    pub fn endpoint(&self, server: impl Into<IpAddr>) -> Endpoint {
        Endpoint::new(server, self.http_port)
    }
}

/// The port of HTTP, and of each kind of firmware the first boot program.
impl Default for BootSource {
    fn default() -> Self {
        BootSource {
            http_port: HTTP_PORT,
            loaders: LoaderChoice::default(),
        }
    }
}
