//! Processors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Processors, summed up and by socket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cpus {
    /// As `uname -m` says it.
    pub arch: Option<String>,
    /// As the processor names its maker: `GenuineIntel`.
    pub vendor: Option<String>,
    /// Name for people, as the processor tells it.
    pub model: Option<String>,
    /// Family, model and stepping as numbers, for errata lists.
    pub family_number: Option<u32>,
    /// See `family_number`.
    pub model_number: Option<u32>,
    /// See `family_number`.
    pub stepping: Option<u32>,
    /// Microcode revision of the first processor, in hex with `0x`.
    pub microcode: Option<String>,
    /// Every microcode revision in use; more than one is a fault of firmware.
    #[serde(default)]
    pub microcode_revisions: Vec<String>,
    /// Kinds of cores, where the processor tells them by number (arm64, POWER); a machine may mix them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<CpuKind>,
    /// Sockets with a processor the kernel uses. Outside x86 what SMBIOS says counts, where it says something: the kernel's
    /// packages may be clusters there.
    pub sockets: Option<u32>,
    /// Cores the kernel uses, all sockets together.
    pub cores: Option<u32>,
    /// Threads the kernel uses, all sockets together.
    pub threads: Option<u32>,
    /// Threads that exist but are switched off, as the kernel lists them: `4-7,12`.
    #[serde(default)]
    pub offline_threads: Option<String>,
    /// Feature flags of the first processor, in the kernel's words.
    pub flags: Vec<String>,
    /// Caches, equal ones counted together, by level.
    #[serde(default)]
    pub caches: Vec<CpuCache>,
    /// Limits and governor of the clock; absent where the kernel does not steer it.
    #[serde(default)]
    pub frequency: Option<CpuFrequency>,
    /// Threads that share a core.
    #[serde(default)]
    pub smt: Option<Smt>,
    /// What the kernel says of each known weakness of processors, in the order of their names.
    #[serde(default)]
    pub vulnerabilities: Vec<CpuVulnerability>,
    /// Running virtual machines here, and being one.
    #[serde(default)]
    pub virtualization: Virtualization,
    /// SMBIOS type 4, empty sockets included.
    pub packages: Vec<CpuPackage>,
}

/// Cores that are alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuKind {
    /// `Neoverse-N1`, `POWER9`; the number where it has no name.
    pub model: String,
    /// `r3p1`, `2.2`.
    pub stepping: Option<String>,
    /// Threads on such cores.
    pub threads: u32,
}

/// Caches that are alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuCache {
    /// 1 is nearest to the core.
    pub level: u32,
    /// `data`, `instruction` or `unified`.
    pub kind: String,
    /// Size of one of them.
    pub size_bytes: Option<u64>,
    /// Ways of associativity; 0 stands for fully associative.
    pub ways: Option<u32>,
    /// Length of a cache line.
    pub line_bytes: Option<u32>,
    /// How many threads share one of them.
    pub shared_by_threads: u32,
    /// How many there are in the machine.
    pub count: u32,
}

/// How the kernel steers the clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuFrequency {
    /// `intel_pstate`, `amd-pstate-epp`, `acpi-cpufreq`, …
    pub driver: Option<String>,
    /// Governors in use, each once.
    pub governors: Vec<String>,
    /// Lowest clock the hardware can run at.
    pub min_mhz: Option<u32>,
    /// Highest clock the hardware can run at, boost included.
    pub max_mhz: Option<u32>,
    /// Guaranteed clock, where the driver tells it.
    pub base_mhz: Option<u32>,
    /// Highest clock the settings allow; below `max_mhz` where somebody limited it.
    pub allowed_max_mhz: Option<u32>,
    /// Whether clocks above the base are allowed.
    pub boost: Option<bool>,
}

/// Simultaneous multithreading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Smt {
    /// The kernel's control file: `on`, `off`, `forceoff`, `notsupported`, `notimplemented`.
    pub control: Option<String>,
    /// True when some core runs more than one thread.
    pub active: Option<bool>,
}

/// One known weakness of processors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuVulnerability {
    /// The kernel's name for it: `spectre_v2`.
    pub name: String,
    /// True when the kernel calls the machine vulnerable; false when it is not affected or something is done about it.
    pub vulnerable: bool,
    /// The kernel's own words.
    pub state: String,
}

/// Running virtual machines here, and being one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Virtualization {
    /// `vmx` (Intel) or `svm` (AMD) where the processor offers it and firmware left it on.
    pub extension: Option<String>,
    /// True when this machine is itself a virtual one.
    pub guest: Option<bool>,
    /// What it runs under, as the hypervisor signs: `KVMKVMKVM`, `VMwareVMware`, `Microsoft Hv`, `xen`.
    pub hypervisor: Option<String>,
}

/// One socket, SMBIOS type 4.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuPackage {
    /// Name of the socket on the board.
    pub socket: Option<String>,
    /// False for an empty socket.
    pub populated: bool,
    /// Maker, in the firmware's words.
    pub vendor: Option<String>,
    /// Name for people, in the firmware's words.
    pub model: Option<String>,
    /// Cores the processor has.
    pub cores: Option<u16>,
    /// Cores that firmware left on.
    pub cores_enabled: Option<u16>,
    /// Threads the processor has.
    pub threads: Option<u16>,
    /// Highest clock the socket supports.
    pub max_speed_mhz: Option<u16>,
    /// Clock at the start of the machine.
    pub boot_speed_mhz: Option<u16>,
    /// Serial number, on the few processors that tell it.
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// Part number, in the firmware's words.
    pub part_number: Option<String>,
}
