//! Which boot program a machine is told to fetch, as DHCP asks for it.

use std::sync::{Arc, Mutex};

use crate::model::console::console;
use crate::model::{Arch, MacAddr};
use crate::service::boot::loaders::Loaders;
use crate::service::boot::programs;
use crate::service::node_table::NodeTable;
use crate::sys::clock;

/// Chooses the loader of one machine, by what is known of it.
#[derive(Debug, Clone, Default)]
pub enum LoaderChoice {
    /// Nothing is known: the first of the table.
    #[default]
    First,
    /// What is here, by how programs fared on the machine.
    ByMachine {
        loaders: Loaders,
        node_table: Arc<Mutex<NodeTable>>,
    },
    #[cfg(test)]
    Fixed(fn(Arch) -> Result<&'static str, &'static str>),
}

impl LoaderChoice {
    /// Name of the loader in the table, or why there is none; a person at the master is told what went wrong. Of a machine whose
    /// port is not known nothing is remembered (a DHCPv6 client whose DUID and address hold none).
    pub fn loader(&self, mac: impl Into<Option<MacAddr>>, arch: Arch) -> Result<&'static str, &'static str> {
        let (loaders, node_table) = match self {
            LoaderChoice::First => return programs::first_held(arch, |_| true),
            LoaderChoice::ByMachine { loaders, node_table } => (loaders, node_table),
            #[cfg(test)]
            LoaderChoice::Fixed(choose) => return choose(arch),
        };
        let held = |name: &str| programs::has_system(name) && loaders.can_boot(name);
        let Some(mac) = mac.into() else {
            return programs::first_held(arch, held);
        };
        let mut nodes = node_table.lock().expect("no holder panics");
        let choice = nodes.loader(mac, arch, held, clock::run_time());
        let told = choice.news.as_ref().map(|news| (nodes.name_of_port(mac), news));
        drop(nodes);
        if let Some((name, news)) = told {
            console!("machine {name}: {news}");
        }
        choice.loader
    }
}
