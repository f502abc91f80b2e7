//! GPUs, display adapters and accelerators: PCI functions, what their drivers show, and `nvidia-smi` where it is
//! installed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::formats::text::clean;
use crate::model::inventory::{Gpu, Item, Part, PartStatus};
use crate::probe::collect::live::LiveSources;
use crate::probe::collect::root::Root;
use crate::probe::collect::timebox;
use crate::probe::{bus, pci};
use crate::sys::cmd;
use crate::sys::program::Program;

/// Named when nothing else is known.
pub(crate) const SOURCE: &str = pci::SOURCE;
const SMI_SOURCE: &str = "nvidia-smi --query-gpu";
/// VGA, 3D and other display controllers, processing accelerators.
const CLASSES: [&str; 5] = ["0x0300", "0x0301", "0x0302", "0x0380", "0x1200"];
const NVIDIA: &str = "10de";
/// The first call loads the driver's state of every GPU, which takes seconds without the persistence daemon.
const SMI_LIMIT: Duration = Duration::from_secs(15);
/// In the order of the columns that [`smi_rows`] reads.
const SMI_FIELDS: &str = "pci.bus_id,name,uuid,serial,vbios_version,driver_version,memory.total,temperature.gpu,\
                          power.limit,ecc.errors.uncorrected.volatile.total";
/// GPUs that are told; the virtual functions of a shared one are GPUs as well.
const MAX_GPUS: usize = 4096;

/// All of them.
pub(crate) fn gpus(root: &Root, live: Option<Arc<dyn LiveSources>>, limit: Duration) -> Part<Vec<Gpu>> {
    let addresses = match root.list(SOURCE) {
        Ok(addresses) => addresses,
        Err(error) => return error.missing(SOURCE),
    };
    let is_gpu = |address: &String| {
        let class = root.value(format!("{SOURCE}/{address}/class")).unwrap_or_default();
        CLASSES.iter().any(|prefix| class.starts_with(prefix))
    };
    let addresses: Vec<String> = addresses.into_iter().filter(is_gpu).collect();
    let addresses = root.first("count", addresses, MAX_GPUS);
    if addresses.is_empty() {
        return Part::missing(PartStatus::Absent, SOURCE, "no display or accelerator function");
    }
    let mut gpus: Vec<Gpu> = addresses.iter().map(|address| base(root, address)).collect();
    let mut items = Vec::new();
    let is_nvidia = |gpu: &Gpu| gpu.id.as_deref().is_some_and(|id| id.starts_with(NVIDIA));
    let can_ask = !root.is_live() || (live.is_some() && cmd::exists(Program::NvidiaSmi));
    if gpus.iter().any(is_nvidia) && can_ask {
        let tree = root.clone();
        let asked = timebox::spawn("probe-nvidia-smi", move || {
            tree.ask("nvidia-smi/query-gpu.csv", nvidia_smi)
        });
        let outcome = asked.wait(Instant::now() + limit.min(SMI_LIMIT));
        match outcome.read_or_gap(Program::NvidiaSmi.name(), SMI_SOURCE) {
            Ok((answer, millis)) => {
                let rows = smi_rows(&String::from_utf8_lossy(&answer));
                for gpu in &mut gpus {
                    if let Some(row) = rows.get(&gpu.pci_address) {
                        take_row(gpu, row);
                    }
                }
                items.push(Item::ok(Program::NvidiaSmi.name(), SMI_SOURCE, millis));
            }
            // The capture was made where the program is not.
            Err(gap) if gap.status == PartStatus::Unsupported && !root.is_live() => {}
            Err(gap) => items.push(gap),
        }
    }
    Part::ok("/sys/bus/pci/devices, /proc/driver/nvidia", gpus).with_items(items)
}

fn nvidia_smi() -> io::Result<Vec<u8>> {
    let query = format!("--query-gpu={SMI_FIELDS}");
    let output = cmd::run(
        Program::NvidiaSmi,
        &[query.as_str(), "--format=csv,noheader,nounits"],
        SMI_LIMIT,
    );
    output
        .map(|output| output.stdout.into_bytes())
        .map_err(io::Error::other)
}

fn base(root: &Root, address: &str) -> Gpu {
    let at = |file: &str| format!("{SOURCE}/{address}/{file}");
    let place = root.resolve(at("")).unwrap_or_default();
    let names = bus::pci_names(bus::pci_id(root, &place));
    let mut gpu = Gpu {
        pci_address: address.to_owned(),
        id: names.id,
        vendor: names.vendor,
        name: names.device,
        driver: root.link_name(at("driver")),
        numa_node: bus::numa_node(root, &place),
        vbios: root.value(at("vbios_version")),
        // amdgpu shows these two.
        serial: root
            .value(at("serial_number"))
            .filter(|serial| serial.chars().any(|c| c != '0')),
        ..Gpu::default()
    };
    gpu.driver_version = gpu
        .driver
        .as_ref()
        .and_then(|driver| root.value(format!("/sys/module/{driver}/version")));
    if let Some(bytes) = root.number(at("mem_info_vram_total")) {
        gpu.memory_bytes = Some(bytes);
        gpu.memory_source = Some("amdgpu".to_owned());
    }
    gpu.window_bytes = root.text(at("resource"), 8192).ok().as_deref().and_then(largest_window);
    let shown = format!("/proc/driver/nvidia/gpus/{address}/information");
    if let Ok(text) = root.text(shown, 8192) {
        let field = |key: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'));
            line.and_then(clean).filter(|value| !value.contains('?'))
        };
        gpu.name = field("Model").or(gpu.name);
        gpu.uuid = field("GPU UUID");
        gpu.vbios = field("Video BIOS").or(gpu.vbios);
    }
    gpu
}

/// Largest window for memory that may be read ahead, of the lines `start end flags` of a `resource` file. The flags are
/// those of include/linux/ioport.h: memory 0x200, prefetch 0x2000.
fn largest_window(text: &str) -> Option<u64> {
    let size = |line: &str| {
        let mut words = line
            .split_whitespace()
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16));
        let (start, end, flags) = (words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?);
        if flags & 0x2200 != 0x2200 {
            return None;
        }
        end.checked_sub(start)?.checked_add(1)
    };
    // The first six are the windows of the function itself.
    text.lines().take(6).filter_map(size).max()
}

/// Rows by PCI address as sysfs writes it.
fn smi_rows(text: &str) -> BTreeMap<String, Vec<Option<String>>> {
    let cells = |line: &str| -> Vec<Option<String>> {
        // `[N/A]`, `[Not Supported]` and the like.
        let told = |cell: &String| !cell.starts_with('[') && cell != "N/A";
        line.split(',').map(|cell| clean(cell).filter(told)).collect()
    };
    let rows = text.lines().take(MAX_GPUS).map(cells);
    rows.filter_map(|row| Some((sysfs_address(row.first()?.as_deref()?)?, row)))
        .collect()
}

/// `00000000:3B:00.0` → `0000:3b:00.0`.
fn sysfs_address(bus_id: &str) -> Option<String> {
    let (domain, rest) = bus_id.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    let address = format!("{domain:04x}:{}", rest.to_ascii_lowercase());
    bus::is_pci_address(&address).then_some(address)
}

fn take_row(gpu: &mut Gpu, row: &[Option<String>]) {
    let cell = |at: usize| row.get(at).cloned().flatten();
    let number = |at: usize| {
        cell(at)
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|number| number.is_finite())
    };
    gpu.name = cell(1).or(gpu.name.take());
    gpu.uuid = cell(2).or(gpu.uuid.take());
    gpu.serial = cell(3).filter(|serial| serial != "0").or(gpu.serial.take());
    gpu.vbios = cell(4).or(gpu.vbios.take());
    gpu.driver_version = cell(5).or(gpu.driver_version.take());
    if let Some(mebibytes) = cell(6).and_then(|text| text.parse::<u64>().ok()) {
        gpu.memory_bytes = mebibytes.checked_mul(1 << 20);
        gpu.memory_source = Some(Program::NvidiaSmi.to_string());
    }
    gpu.temperature_celsius = number(7);
    gpu.power_limit_watts = number(8);
    gpu.uncorrected_errors = cell(9).and_then(|text| text.parse().ok());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_row_of_nvidia_smi_is_read() {
        let text = "00000000:3B:00.0, NVIDIA A10, GPU-11111111-2222-3333-4444-555555555555, 1320000000001, \
                    94.02.5C.00.03, 550.54.15, 23028, 41, 150.00, 0\n\
                    00000000:AF:00.0, NVIDIA T4, [N/A], [Not Supported], N/A, 550.54.15, [N/A], 33, [N/A], [N/A]\n";
        let rows = smi_rows(text);
        let mut gpu = Gpu::default();
        take_row(&mut gpu, &rows["0000:3b:00.0"]);
        assert_eq!(gpu.name.as_deref(), Some("NVIDIA A10"));
        assert_eq!(gpu.serial.as_deref(), Some("1320000000001"));
        assert_eq!(gpu.memory_bytes, Some(23028 << 20));
        assert_eq!(gpu.temperature_celsius, Some(41.0));
        assert_eq!(gpu.power_limit_watts, Some(150.0));
        assert_eq!(gpu.uncorrected_errors, Some(0));
        let mut gpu = Gpu {
            memory_bytes: Some(1),
            ..Gpu::default()
        };
        take_row(&mut gpu, &rows["0000:af:00.0"]);
        assert_eq!((gpu.uuid, gpu.serial, gpu.memory_bytes), (None, None, Some(1)));
        assert_eq!(gpu.temperature_celsius, Some(33.0));
    }

    #[test]
    fn the_largest_window_is_a_hint() {
        let text = "0x00000000fa000000 0x00000000faffffff 0x0000000000040200\n\
                    0x000000d000000000 0x000000d7ffffffff 0x000000000014220c\n\
                    0x000000d800000000 0x000000d801ffffff 0x000000000014220c\n";
        assert_eq!(largest_window(text), Some(32 << 30));
        assert_eq!(largest_window("0x0 0x0 0x0\n"), None);
        assert_eq!(largest_window("0x0 0xffffffffffffffff 0x2200"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_rows_or_none(text in "\\PC{0,200}") {
            let mut gpu = Gpu::default();
            for row in smi_rows(&text).values() {
                take_row(&mut gpu, row);
            }
            let _ = largest_window(&text);
        }
    }
}
