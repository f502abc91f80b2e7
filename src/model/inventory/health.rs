//! What the kernel has noticed about the health of the machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counters and log lines since the kernel started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// Machine checks, all processors together.
    pub machine_checks: Option<MachineChecks>,
    /// Memory errors, all controllers together; by module they stand in `memory.ecc_controllers`.
    pub memory_errors: Option<MemoryErrors>,
    /// PCI Express errors (AER), all functions together.
    pub pcie_errors: Option<PcieErrors>,
    /// How often processors were slowed down because they were too hot.
    pub throttling: Option<Throttling>,
    /// Lines of the kernel's log of level error and above.
    pub kernel_log: Option<KernelLog>,
    /// What makes the kernel's own state doubtful.
    pub taint: Option<Taint>,
    /// The machine's clocks.
    pub clock: Option<Clock>,
    /// Records of crashes before this start, by name (`/sys/fs/pstore`).
    pub crash_records: Vec<String>,
    /// The worst that firmware recorded of the start before this one (ACPI BERT).
    pub boot_error: Option<BootError>,
}

/// Machine checks, all processors together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineChecks {
    /// Banks of one processor that can report.
    pub banks: Option<u32>,
    /// Machine check exceptions taken (`MCE` of `/proc/interrupts`).
    pub exceptions: Option<u64>,
    /// Interrupts because a count of corrected errors went over its limit (`THR`).
    pub threshold_interrupts: Option<u64>,
    /// Interrupts for errors in data that nobody has used yet (`DFR`, AMD).
    pub deferred_interrupts: Option<u64>,
    /// Interrupts of the temperature watch (`TRM`).
    pub thermal_interrupts: Option<u64>,
}

/// Memory errors, all controllers together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryErrors {
    /// Controllers that count.
    pub controllers: u32,
    /// Errors that were corrected.
    pub corrected: u64,
    /// Errors that could not be corrected.
    pub uncorrected: u64,
}

/// PCI Express errors, all functions together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PcieErrors {
    /// Functions that count.
    pub functions: u32,
    /// Corrected by the link itself.
    pub corrected: u64,
    /// Uncorrected; the link goes on.
    pub nonfatal: u64,
    /// Uncorrected; the link had to be reset.
    pub fatal: u64,
    /// Functions with an error, at most 256.
    pub with_errors: Vec<PcieErrorCount>,
}

/// Errors of one PCI function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PcieErrorCount {
    /// `0000:3b:00.0`
    pub pci_address: String,
    /// Corrected by the link itself.
    pub corrected: u64,
    /// Uncorrected; the link goes on.
    pub nonfatal: u64,
    /// Uncorrected; the link had to be reset.
    pub fatal: u64,
    /// Which errors, in the specification's short names, with their counts: `RxErr 3`.
    pub kinds: Vec<String>,
}

/// How often processors were slowed down because they were too hot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Throttling {
    /// Times a core was slowed down, all cores together.
    pub core_events: u64,
    /// Times a whole package was slowed down, all packages together.
    pub package_events: u64,
    /// By package.
    pub packages: Vec<PackageThrottling>,
}

/// The same of one package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackageThrottling {
    /// The kernel's number of the package.
    pub package: u32,
    /// Times a core of it was slowed down.
    pub core_events: u64,
    /// Times the whole package was slowed down.
    pub package_events: u64,
    /// How long the whole package was slowed down.
    pub package_millis: Option<u64>,
}

/// Lines of the kernel's log of level error and above.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KernelLog {
    /// Lines the log held.
    pub lines_read: u64,
    /// Lines of level error and above among them.
    pub error_lines: u64,
    /// The last of those, at most 200, oldest first.
    pub errors: Vec<KernelLogLine>,
}

/// One line of the kernel's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KernelLogLine {
    /// `emergency`, `alert`, `critical` or `error`.
    pub level: String,
    /// When, counted from the start of the kernel.
    pub uptime_ms: u64,
    /// The line. May name addresses and serial numbers.
    #[schemars(extend("x-sensitive" = true))]
    pub text: String,
}

/// What makes the kernel's own state doubtful.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Taint {
    /// The kernel's bit mask; 0 is untainted.
    pub mask: u64,
    /// The bits that are set, in words.
    pub reasons: Vec<String>,
}

/// The machine's clocks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Clock {
    /// The clock that was read: `rtc0`.
    pub rtc: String,
    /// Name its driver gives it.
    pub rtc_driver: Option<String>,
    /// What the hardware clock showed, as seconds since 1970 if it runs on UTC.
    pub rtc_seconds: i64,
    /// Hardware clock minus system clock. The hardware tells whole seconds only, so a difference of one means nothing.
    pub rtc_offset_seconds: Option<i64>,
    /// System clock minus the master's; told by a peer that had an answer of the master to compare with.
    pub master_clock_offset_ms: Option<i64>,
}

/// What firmware recorded of the start before this one (ACPI 6.5, 18.3.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BootError {
    /// `recoverable`, `fatal`, `corrected` or `none`.
    pub severity: String,
    /// Entries in the record.
    pub entries: u32,
}
