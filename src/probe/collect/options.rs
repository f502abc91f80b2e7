//! What collecting is told: time boxes, which parts, and what is known already.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::probe::cabling::PortSetup;
use crate::probe::disks::watch::Watch;

/// How long the quick parts may take.
pub const QUICK_LIMIT: Duration = Duration::from_secs(10);
/// How long the parts may take that wait for others: the management controller, disks that test themselves.
pub const SLOW_LIMIT: Duration = Duration::from_secs(20);
/// How long a management controller that does answer may take to tell its sensors and its log, hundreds of questions of
/// some 10 ms each. One that misses an answer is given up at once and costs a few seconds.
pub const BMC_LIMIT: Duration = Duration::from_secs(40);
/// How long to listen for neighbours: LLDP senders repeat themselves every 30 s (IEEE 802.1AB).
pub const CABLE_WAIT: Duration = Duration::from_secs(35);

/// What collecting is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time box of the quick parts; all parts run side by side.
    pub limit: Duration,
    /// Time box of the parts that wait for others.
    pub slow_limit: Duration,
    /// Time box of the management controller.
    pub bmc_limit: Duration,
    /// How long to listen for neighbours on the cables; zero leaves that out.
    pub cable_wait: Duration,
    /// What `role::ports::ready_all` did before; the default where it was not called.
    pub ports: PortSetup,
    /// Names of the parts to collect; `None` is all.
    pub only: Option<BTreeSet<String>>,
    /// Devices this system runs from, as `sdb`, `sdb1` or `/dev/sdb1`.
    pub boot_medium: BTreeSet<String>,
    /// Watches for disks that come late; `None` takes the list once, as with a captured tree.
    pub watch: Option<Watch>,
    /// RFC 3339; the clock is the caller's.
    pub started_at: String,
    pub recon_version: String,
}

impl Options {
    /// Defaults, with this binary's version.
    pub fn new(started_at: impl Into<String>) -> Options {
        Options {
            limit: QUICK_LIMIT,
            slow_limit: SLOW_LIMIT,
            bmc_limit: BMC_LIMIT,
            cable_wait: CABLE_WAIT,
            ports: PortSetup::default(),
            only: None,
            boot_medium: BTreeSet::new(),
            watch: None,
            started_at: started_at.into(),
            recon_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Which time box a part has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Quick,
    /// Parts that wait for devices.
    Slow,
    Bmc,
    Cables,
}

impl Limit {
    /// From the start of the collection.
    pub(crate) fn of(self, options: &Options) -> Duration {
        match self {
            Limit::Quick => options.limit,
            Limit::Slow => options.slow_limit,
            Limit::Bmc => options.bmc_limit,
            // Listening begins when the ports are up, which takes a moment.
            Limit::Cables => options.cable_wait + options.limit,
        }
    }
}
