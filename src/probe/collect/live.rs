//! What only the running machine can answer: ioctls, the management controller, and the sysinfo crate as a second
//! opinion on totals. A captured tree has no live sources; then these facts are reported as unsupported.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::timebox::{self, Outcome};
use crate::model::MacAddr;
use crate::model::inventory::{Item, PartStatus};
use crate::sys::ethtool::{self, DriverInfo};
use crate::sys::ipmi::{AskBmc, Bmc, BmcError};

/// Totals as the sysinfo crate counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub memory_bytes: u64,
    pub cores: Option<u32>,
    pub threads: u32,
}

/// Sources beside the tree. Any of them may hang; callers put each call into a time box of its own.
pub trait LiveSources: Send + Sync {
    /// Burnt-in address of a port.
    fn permanent_mac(&self, interface: &str) -> io::Result<Option<MacAddr>>;
    /// Driver and firmware of a port.
    fn driver_info(&self, interface: &str) -> io::Result<DriverInfo>;
    /// Memory and processors, counted by somebody else.
    fn totals(&self) -> anyhow::Result<Totals>;
    /// Opens the management controller.
    fn bmc(&self) -> Result<Box<dyn AskBmc>, BmcError>;
    /// Machine name as `uname -m` has it.
    fn arch(&self) -> String {
        std::env::consts::ARCH.to_owned()
    }
}

/// The second opinion on totals, if it comes in time: it is worth having, but not worth losing a part for.
pub(crate) fn totals(live: Option<&Arc<dyn LiveSources>>, limit: Duration) -> Option<Result<Totals, Item>> {
    let live = Arc::clone(live?);
    let pending = timebox::spawn("probe-totals", move || live.totals());
    let told = match pending.wait(Instant::now() + limit) {
        Outcome::Done { value, .. } => value.map_err(|error| error.to_string()),
        Outcome::TimedOut { millis } => Err(format!("no answer within {millis} ms")),
        Outcome::Died { reason } => Err(reason),
    };
    Some(told.map_err(|reason| Item::gap("sysinfo", PartStatus::Failed, reason)))
}

/// The machine we run on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl LiveSources for ThisMachine {
    fn permanent_mac(&self, interface: &str) -> io::Result<Option<MacAddr>> {
        ethtool::permanent_mac(interface)
    }

    fn driver_info(&self, interface: &str) -> io::Result<DriverInfo> {
        ethtool::driver_info(interface)
    }

    fn totals(&self) -> anyhow::Result<Totals> {
        let mut system = sysinfo::System::new()?;
        system.refresh_memory();
        system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Totals {
            memory_bytes: system.total_memory(),
            cores: sysinfo::System::physical_core_count().ok().map(count),
            threads: count(system.cpus().len()),
        })
    }

    fn bmc(&self) -> Result<Box<dyn AskBmc>, BmcError> {
        Ok(Box::new(Bmc::open()?))
    }
}
