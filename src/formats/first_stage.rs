//! The first stage of a boot from the network, as it lies on the medium: a small initrd with our program, the drivers of network
//! ports beside it, and the pack from which everything else is fetched. Which of these a machine gets, by the port it boots from.
//! Pure.

use std::collections::BTreeMap;
use std::io;
use std::str::FromStr;

use crate::model::slice::Slice;

/// Our program and what every machine needs.
pub(crate) const BASE: &str = "base.img";
/// The drivers of all ports, for a machine whose port is not known.
pub(crate) const PORTS: &str = "ports.img";
/// Modules, firmware and programs, of which a machine fetches what it needs.
pub(crate) const PACK: &str = "modules.pack";
/// Which driver a port wants.
pub(crate) const TABLE: &str = "ports.tsv";
/// The table is not read beyond this; for Debian 13 it has 1,829 lines, 82 kB.
const MAX_TABLE_BYTES: u64 = 1 << 20;
/// Drivers that a table may name; Debian 13 has 120. Each is looked for on the medium.
const MAX_MODULES: usize = 1024;
/// With `.img` behind it, what ISO 9660 keeps of a name (ECMA-119 §7.5.1: 30 and a dot). A longer one would not be found.
const MAX_NAME_CHARS: usize = 27;
/// More drivers than this do not tell anything about a port: it gets all.
const MAX_FITTING: usize = 8;

/// Buses whose ids iPXE says and Linux's aliases have. Numbers: `BUS_TYPE_*` of iPXE's `include/ipxe/device.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bus {
    Pci = 1,
    Usb = 10,
}

/// What a network port is, as iPXE's setting `busid` says it: a byte for the bus, vendor and device, big-endian (`struct
/// dhcp_netdev_desc`, the same as in its DHCP option 175.177).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusId {
    bus: Bus,
    vendor: u16,
    device: u16,
}

/// Not the id of a port on a bus that is known here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a port's bus, vendor and device as five bytes")]
pub struct NoBusId;

impl FromStr for BusId {
    type Err = NoBusId;

    /// `01-80-86-10-0e` (iPXE's `hexhyp`), or with colons (its `hex`).
    fn from_str(text: &str) -> Result<Self, NoBusId> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let byte = |part: &str| {
            let is_hex = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).ok().filter(|_| is_hex)
        };
        let bytes: Option<Vec<u8>> = text.split(separator).map(byte).collect();
        let [bus, v1, v2, d1, d2] = bytes.ok_or(NoBusId)?[..] else {
            return Err(NoBusId);
        };
        let bus = [Bus::Pci, Bus::Usb].into_iter().find(|known| *known as u8 == bus);
        Ok(BusId {
            bus: bus.ok_or(NoBusId)?,
            vendor: u16::from_be_bytes([v1, v2]),
            device: u16::from_be_bytes([d1, d2]),
        })
    }
}

impl BusId {
    /// `8086:100e`: vendor and device of a PCI function, as inventories and lspci(8) write them.
    pub(crate) fn of_pci(text: &str) -> Option<BusId> {
        let (vendor, device) = text.split_once(':')?;
        let number = |text: &str| {
            let is_hex = text.len() == 4 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
            u16::from_str_radix(text, 16).ok().filter(|_| is_hex)
        };
        Some(BusId::pci(number(vendor)?, number(device)?))
    }

    /// A function of PCI.
    pub(crate) fn pci(vendor: u16, device: u16) -> BusId {
        BusId {
            bus: Bus::Pci,
            vendor,
            device,
        }
    }
}

impl std::fmt::Display for BusId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([v1, v2], [d1, d2]) = (self.vendor.to_be_bytes(), self.device.to_be_bytes());
        let bus = self.bus as u8;
        write!(f, "{bus:02x}-{v1:02x}-{v2:02x}-{d1:02x}-{d2:02x}")
    }
}

/// A line of the table, as far as an id reaches; `None`: any.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alias {
    bus: Bus,
    vendor: Option<u32>,
    device: Option<u32>,
    module: String,
}

impl Alias {
    /// What an alias says of vendor and device: `pci:v…d…sv*…`, eight digits each, and `usb:v…p…d*…`, four each
    /// (`scripts/mod/file2alias.c` of Linux). What stands behind is not known of a port. `None`: an alias of another bus, or one
    /// that is written in some other way and so fits nothing.
    fn parse(pattern: &str, module: &str) -> Option<Self> {
        let forms = [(Bus::Pci, "pci:v", 8, 'd', "sv"), (Bus::Usb, "usb:v", 4, 'p', "d")];
        forms.into_iter().find_map(|(bus, start, digits, between, behind)| {
            let (vendor, rest) = pattern.strip_prefix(start)?.split_once(between)?;
            let number = |text: &str| match text {
                "*" => Some(None),
                _ if text.len() == digits => u32::from_str_radix(text, 16).ok().map(Some),
                _ => None,
            };
            let end = if rest.starts_with('*') { 1 } else { digits };
            let (device, rest) = (rest.get(..end)?, rest.get(end..)?);
            rest.starts_with(behind).then_some(Alias {
                bus,
                vendor: number(vendor)?,
                device: number(device)?,
                module: module.to_owned(),
            })
        })
    }

    fn fits(&self, port: BusId) -> bool {
        let same = |wanted: Option<u32>, is: u16| wanted.is_none_or(|wanted| wanted == u32::from(is));
        self.bus == port.bus && same(self.vendor, port.vendor) && same(self.device, port.device)
    }
}

/// The third field of a line whose driver the base has, or the kernel itself.
const IN_BASE: &str = "base";

/// Which driver a port wants: `ports.tsv`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortTable {
    aliases: Vec<Alias>,
    /// Whether a module has an image of its own.
    modules: BTreeMap<String, bool>,
}

impl PortTable {
    /// Reads lines of a pattern and a module, and `base` where the module has no image of its own; tabs between. Aliases of buses
    /// whose ids no boot program says are left out.
    ///
    /// # Errors
    /// The first line that is none, that two lines of a module do not agree, or that there is too much of it, as a part of a
    /// sentence. Half a table would give a machine a first stage without its driver.
    pub fn read(text: &str) -> Result<Self, String> {
        check_length(text.len() as u64)?;
        let mut table = PortTable::default();
        for (number, line) in (1..).zip(text.lines()) {
            let (pattern, module, has_image) =
                fields(line).ok_or_else(|| format!("line {number} of {TABLE} is no alias"))?;
            table.aliases.extend(Alias::parse(pattern, module));
            if *table.modules.entry(module.to_owned()).or_insert(has_image) != has_image {
                return Err(format!(
                    "line {number} of {TABLE} says of {module} what another line denies"
                ));
            }
            if table.modules.len() > MAX_MODULES {
                return Err(format!("{TABLE} names more than {MAX_MODULES} modules"));
            }
        }
        match table.aliases.is_empty() {
            true => Err(format!("{TABLE} has no aliases")),
            false => Ok(table),
        }
    }

    /// Every module that has an image of its own, once.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        let modules = self.modules.iter();
        modules
            .filter(|(_, has_image)| **has_image)
            .map(|(name, _)| name.as_str())
    }

    /// Modules that a port may want, each once, in the table's order.
    fn fitting(&self, port: BusId) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for alias in self.aliases.iter().filter(|alias| alias.fits(port)) {
            if !found.contains(&alias.module.as_str()) {
                found.push(&alias.module);
            }
        }
        found
    }
}

/// Refuses a table that is not read.
fn check_length(bytes: u64) -> Result<(), String> {
    match bytes > MAX_TABLE_BYTES {
        true => Err(format!("{TABLE} has {bytes} bytes, more than {MAX_TABLE_BYTES}")),
        false => Ok(()),
    }
}

/// Pattern and module of a line, and whether the module has an image of its own.
fn fields(line: &str) -> Option<(&str, &str, bool)> {
    let (pattern, rest) = line.split_once('\t')?;
    let (module, has_image) = match rest.split_once('\t') {
        Some((module, IN_BASE)) => (module, false),
        Some(_) => return None,
        None => (rest, true),
    };
    (pattern.contains(':') && is_module(module)).then_some((pattern, module, has_image))
}

/// It becomes a part of a path and of a script.
fn is_module(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.len() <= MAX_NAME_CHARS && name.bytes().all(plain)
}

/// The files of a first stage, and which of them a machine gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstStage {
    pub base: Slice,
    pub ports: Slice,
    /// None where a machine fetches a whole root in the place of single parts.
    pub pack: Option<Slice>,
    /// By module, each that has an image of its own by the table.
    pub port: BTreeMap<String, Slice>,
    pub table: PortTable,
}

impl FirstStage {
    /// All of it; `None` where there is none. A part of it is an error: no machine must get one. `file`: what lies at a path below its
    /// folder; `content`: the bytes of a file that was found.
    ///
    /// # Errors
    /// What is missing or cannot be read.
    pub(crate) fn read(
        file: &impl Fn(&[&str]) -> io::Result<Slice>,
        content: &impl Fn(&Slice) -> io::Result<Vec<u8>>,
    ) -> Result<Option<FirstStage>, String> {
        let held = |names: &[&str]| match file(names) {
            Ok(slice) if slice.length == 0 => Err(format!("{} is empty", names.join("/"))),
            Ok(slice) => Ok(Some(slice)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", names.join("/"))),
        };
        let Some(base) = held(&[BASE])? else {
            return Ok(None);
        };
        let needed = |names: &[&str]| held(names)?.ok_or_else(|| format!("there is no {}", names.join("/")));
        let (ports, pack) = (needed(&[PORTS])?, held(&[PACK])?);
        let text = needed(&[TABLE])?;
        // Before it is in memory.
        check_length(text.length)?;
        let text = content(&text).map_err(|error| format!("{TABLE}: {error}"))?;
        let table = PortTable::read(&String::from_utf8(text).map_err(|_| format!("{TABLE} is no text"))?)?;
        let mut port = BTreeMap::new();
        for module in table.images() {
            let image = needed(&["port", &format!("{module}.img")])?;
            port.insert(module.to_owned(), image);
        }
        Ok(Some(FirstStage {
            base,
            ports,
            pack,
            port,
            table,
        }))
    }

    /// Files for a machine that boots from this port, by their paths below the first stage's folder, in the order in which they
    /// are unpacked.
    pub fn initrds(&self, port: Option<BusId>) -> Vec<String> {
        let fitting = port.map(|port| self.table.fitting(port)).unwrap_or_default();
        let drivers = match fitting.len() {
            1..=MAX_FITTING => {
                let held = fitting.into_iter().filter(|module| self.port.contains_key(*module));
                held.map(|module| format!("port/{module}.img")).collect()
            }
            _ => vec![PORTS.to_owned()],
        };
        std::iter::once(BASE.to_owned()).chain(drivers).collect()
    }

    /// The file at a path below the first stage's folder.
    pub(crate) fn file(&self, path: &str) -> Option<&Slice> {
        match path {
            BASE => Some(&self.base),
            PORTS => Some(&self.ports),
            PACK => self.pack.as_ref(),
            _ => self.port.get(path.strip_prefix("port/")?.strip_suffix(".img")?),
        }
    }

    /// Bytes of what [`FirstStage::initrds`] gives.
    pub(crate) fn initrd_bytes(&self, port: Option<BusId>) -> u64 {
        let names = self.initrds(port);
        names.iter().filter_map(|name| Some(self.file(name)?.length)).sum()
    }
}

/// A first stage by hand, for tests: drivers `e1000` (of 30 bytes), `igb` and `r8169`, and a `virtio_pci` that the base has.
#[cfg(test)]
pub(crate) fn example() -> FirstStage {
    let slice = |length| Slice {
        path: "/medium".into(),
        offset: 0,
        length,
        patches: Vec::new(),
    };
    let table = "pci:v00008086d0000100Esv*sd*bc*sc*i*\te1000\n\
                 pci:v00008086d00001521sv*sd*bc*sc*i*\tigb\n\
                 pci:v000010ECd00008168sv*sd*bc*sc*i*\tr8169\n\
                 pci:v000010ECd00008168sv*sd*bc*sc*i*\tigb\n\
                 pci:v00001AF4d*sv*sd*bc*sc*i*\tvirtio_pci\tbase\n\
                 virtio:d00000001v*\tvirtio_net\tbase\n\
                 usb:v0BDAp8153d*dc*dsc*dp*icFFisc*ip*in*\tr8152\tbase\n";
    let ports = [("e1000", 30), ("igb", 40), ("r8169", 50)];
    FirstStage {
        base: slice(1000),
        ports: slice(200),
        pack: Some(slice(9000)),
        port: ports.map(|(name, length)| (name.to_owned(), slice(length))).into(),
        table: PortTable::read(table).unwrap(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bus_id_is_five_bytes_and_nothing_else() {
        let port: BusId = "01-80-86-10-0e".parse().unwrap();
        assert_eq!((port.bus, port.vendor, port.device), (Bus::Pci, 0x8086, 0x100e));
        assert_eq!("01:80:86:10:0E".parse(), Ok(port));
        assert_eq!(port.to_string(), "01-80-86-10-0e");
        let usb: BusId = "0a-0b-da-81-53".parse().unwrap();
        assert_eq!((usb.bus, usb.to_string().as_str()), (Bus::Usb, "0a-0b-da-81-53"));
        for odd in [
            "",
            "-",
            "01",
            "0180861 00e",
            "01-80-86-10",
            "01-80-86-10-0e-",
            "01-80-86-10-0e-00",
            "01-80:86-10-0e",
            "1-80-86-10-0e",
            "+1-80-86-10-0e",
            "01-80-86-10-0g",
            "01--80-86-10-0e",
            // EFI and Hyper-V have no vendors, and there is no bus 0.
            "07-80-86-10-0e",
            "09-80-86-10-0e",
            "00-00-00-00-00",
            "ff-ff-ff-ff-ff",
        ] {
            assert_eq!(odd.parse::<BusId>(), Err(NoBusId), "{odd}");
        }
    }

    #[test]
    fn a_port_gets_its_driver_and_one_that_is_not_known_gets_all() {
        let stage = example();
        let of = |port: &str| stage.initrds(port.parse().ok());
        assert_eq!(of("01-80-86-10-0e"), ["base.img", "port/e1000.img"]);
        assert_eq!(stage.initrd_bytes("01-80-86-10-0e".parse().ok()), 1030);
        // Two drivers for one port: which of them takes it, its subsystem says.
        assert_eq!(of("01-10-ec-81-68"), ["base.img", "port/r8169.img", "port/igb.img"]);
        // Its driver is in the base, whatever device of this vendor it is.
        assert_eq!(of("01-1a-f4-10-41"), ["base.img"]);
        assert_eq!(of("0a-0b-da-81-53"), ["base.img"]);
        for unknown in [
            "",
            "01-80-86-ff-ff",
            "01-ff-ff-ff-ff",
            "07-80-86-10-0e",
            "0a-80-86-10-0e",
        ] {
            assert_eq!(of(unknown), ["base.img", "ports.img"], "{unknown}");
        }
        assert_eq!(stage.initrd_bytes(None), 1200);
        for name in stage.initrds("01-10-ec-81-68".parse().ok()) {
            assert!(stage.file(&name).is_some(), "{name}");
        }
        for (name, length) in [("ports.img", 200), ("modules.pack", 9000), ("port/igb.img", 40)] {
            assert_eq!(stage.file(name).map(|file| file.length), Some(length), "{name}");
        }
        for none in [
            "",
            "ports.tsv",
            "port/",
            "port/.img",
            "port/igb",
            "igb.img",
            "port/virtio_pci.img",
            "port/../base.img",
        ] {
            assert_eq!(stage.file(none), None, "{none}");
        }
    }

    #[test]
    fn more_drivers_than_a_port_has_are_all_of_them() {
        let lines = |count: usize| -> String {
            let line = |number| format!("pci:v00001000d*sv*sd*bc*sc*i*\tdriver_{number}\n");
            (0..count).map(line).collect()
        };
        for (count, want) in [(MAX_FITTING, MAX_FITTING + 1), (MAX_FITTING + 1, 2)] {
            let table = PortTable::read(&lines(count)).unwrap();
            let base = example().base;
            let stage = FirstStage {
                port: table.images().map(|name| (name.to_owned(), base.clone())).collect(),
                table,
                ..example()
            };
            assert_eq!(stage.initrds("01-10-00-00-01".parse().ok()).len(), want, "{count}");
        }
        assert!(PortTable::read(&lines(MAX_MODULES)).is_ok());
        let said = PortTable::read(&lines(MAX_MODULES + 1)).unwrap_err();
        assert_eq!(said, "ports.tsv names more than 1024 modules");
    }

    #[test]
    fn half_a_table_is_none() {
        for (text, why) in [
            ("", "ports.tsv has no aliases"),
            ("virtio:d00000001v*\tvirtio_net\n", "ports.tsv has no aliases"),
            (
                "pci:v00008086d*sv*\te1000\npci:v0000",
                "line 2 of ports.tsv is no alias",
            ),
            ("pci:v00008086d*sv* e1000\n", "line 1 of ports.tsv is no alias"),
            ("pci:v00008086d*sv*\t\n", "line 1 of ports.tsv is no alias"),
            ("pci:v00008086d*sv*\t../e1000\n", "line 1 of ports.tsv is no alias"),
            (
                "pci:v00008086d*sv*\te1000 || poweroff\n",
                "line 1 of ports.tsv is no alias",
            ),
            ("pci:v00008086d*sv*\te1000\tigb\n", "line 1 of ports.tsv is no alias"),
            (
                &format!("pci:v*d*sv*\t{}\n", "m".repeat(28)),
                "line 1 of ports.tsv is no alias",
            ),
            ("\te1000\n", "line 1 of ports.tsv is no alias"),
            ("pci:v*d*sv*\te1000\t\n", "line 1 of ports.tsv is no alias"),
            ("pci:v*d*sv*\te1000\tbase\t\n", "line 1 of ports.tsv is no alias"),
            (
                "pci:v*d*sv*\te1000\tbase\npci:v1*\te1000\n",
                "line 2 of ports.tsv says of e1000 what another line denies",
            ),
        ] {
            assert_eq!(PortTable::read(text), Err(why.to_owned()), "{text:?}");
        }
        let large = PortTable::read(&"#".repeat((1 << 20) + 1)).unwrap_err();
        assert_eq!(large, "ports.tsv has 1048577 bytes, more than 1048576");
    }

    #[test]
    fn a_table_says_which_modules_have_images() {
        let images = |text: &str| Vec::from_iter(PortTable::read(text).unwrap().images().map(str::to_owned));
        let text =
            "pci:v*d*sv*\tigb\nvirtio:d1\tvirtio_net\tbase\npci:v1*\te1000\npci:v2*\tigb\nusb:v1\tvirtio_net\tbase\n";
        assert_eq!(images(text), ["e1000", "igb"]);
    }

    #[test]
    fn an_alias_fits_by_vendor_and_device_alone() {
        let fits = |pattern: &str, port: &str| {
            Alias::parse(pattern, "x").is_some_and(|alias| alias.fits(port.parse().unwrap()))
        };
        for pattern in [
            "pci:v00008086d0000100Esv*sd*bc*sc*i*",
            "pci:v00008086d0000100esv0000103Csd00003207bc02sc00i00",
            "pci:v00008086d*sv*sd*bc02sc00i*",
            "pci:v*d*sv*sd*bc02sc00i*",
            "pci:v*d0000100Esv*sd*bc*sc*i*",
        ] {
            assert!(fits(pattern, "01-80-86-10-0e"), "{pattern}");
        }
        for pattern in [
            "pci:v00008086d0000100Fsv*sd*bc*sc*i*",
            "pci:v00018086d0000100Esv*sd*bc*sc*i*",
            "pci:v8086d100Esv*",
            "pci:v00008086d0000100E",
            "pci:v00008086",
            "pci:v00008086d",
            "pci:*",
            "pci:v0000808\u{e9}d0000100Esv*",
            "pci:v00008086d000\u{e9}100Esv*",
            "usb:v8086p100Ed*dc*dsc*dp*ic*isc*ip*in*",
            "",
        ] {
            assert!(!fits(pattern, "01-80-86-10-0e"), "{pattern}");
        }
        assert!(fits("usb:v0BDAp8153d*dc*dsc*dp*icFFisc*ip*in*", "0a-0b-da-81-53"));
        assert!(fits("usb:v0BDAp8153d30*dc*dsc*dp*ic*isc*ip*in*", "0a-0b-da-81-53"));
        assert!(!fits("usb:v0BDAp8152d*dc*dsc*dp*ic*isc*ip*in*", "0a-0b-da-81-53"));
    }

    proptest! {
        #[test]
        fn every_id_is_read_back(text in "(01|0a)(-[0-9a-f]{2}){4}") {
            prop_assert_eq!(text.parse::<BusId>().unwrap().to_string(), text);
        }

        #[test]
        fn whatever_is_said_does_no_harm(text in "\\PC{0,40}", pattern in "(pci|usb):v[0-9A-F*é]{0,9}[dp][0-9a-f*é]{0,9}(sv|d)?\\PC{0,4}") {
            let _ = text.parse::<BusId>().is_ok();
            let _ = PortTable::read(&text).is_ok();
            let _ = Alias::parse(&pattern, "x").is_some();
        }
    }
}
