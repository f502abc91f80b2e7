//! What a boot script is told of this machine, by iPXE's names. Pure. What cannot be read is not set, as in iPXE.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::service::boot_script::{Processor, Settings};
use crate::service::fetch::url::Host;

/// An Ethernet port and its addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) mac: String,
    /// What it is, where it is a PCI function, as iPXE's `busid` has it: `01:80:86:10:0e`.
    pub(super) bus: Option<String>,
    pub(super) ipv4: Option<(Ipv4Addr, u8)>,
    pub(super) ipv6: Option<(Ipv6Addr, u8)>,
    /// All of them, these and further ones, those of the link alone too.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) gateway: Option<Ipv4Addr>,
    /// The port that it is a VLAN of, and its number.
    pub(super) vlan: Option<(String, u16)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// In the kernel's order, those without hardware last.
    pub(super) ports: Vec<Port>,
    /// iPXE's name of a setting, and what the firmware says: `("serial", "S1")`.
    pub(super) firmware: Vec<(&'static str, String)>,
    pub(super) is_efi: bool,
    pub(super) hostname: Option<String>,
    pub(super) dns: Option<IpAddr>,
    pub(super) domain: Option<String>,
    pub(super) memory_mebibytes: Option<u64>,
    pub(super) unix_time: u64,
    pub(super) processor: Option<Processor>,
}

/// iPXE's word for the architecture of a program.
fn buildarch() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "i386",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The version of iPXE whose words are understood. Scripts compare it, or show it.
const VERSION: &str = "1.21.1+";

/// The port that has this address.
pub(super) fn boot_port(machine: &Machine, local: Option<IpAddr>) -> Option<usize> {
    let has = |port: &Port| local.is_some_and(|local| port.addresses.contains(&local));
    machine.ports.iter().position(has)
}

/// `local`: our own address on the way to the script, by which the port is known that `netX` means.
pub(super) fn settings(machine: &Machine, local: Option<IpAddr>) -> Settings {
    let mut settings = Settings::with_boot_port(boot_port(machine, local).unwrap_or(0));
    settings = settings.on(machine.processor);
    let number = |name: &str| machine.ports.iter().position(|port| port.name == name);
    for (own, port) in machine.ports.iter().enumerate() {
        let vlan = port
            .vlan
            .as_ref()
            .and_then(|(parent, id)| Some(format!("net{}-{id}", number(parent)?)));
        let scope = vlan.unwrap_or_else(|| format!("net{own}"));
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                settings.put(&scope, name, &value);
            }
        };
        put("mac", Some(port.mac.clone()));
        // Of xNBA, the iPXE that xCAT's scripts are for.
        put("machyp", Some(port.mac.replace(':', "-")));
        put("busid", port.bus.clone());
        put("ifname", Some(port.name.clone()));
        put("ip", port.ipv4.map(|(ip, _)| ip.to_string()));
        put("netmask", port.ipv4.map(|(_, length)| netmask(length).to_string()));
        put("gateway", port.gateway.map(|gateway| gateway.to_string()));
        put("ip6", port.ipv6.map(|(ip, _)| ip.to_string()));
        put("len6", port.ipv6.map(|(_, length)| length.to_string()));
        let has_address = port.ipv4.is_some() || port.ipv6.is_some();
        let server = machine.dns.filter(|_| has_address);
        put("dns", server.filter(IpAddr::is_ipv4).map(|server| server.to_string()));
        put("dns6", server.filter(IpAddr::is_ipv6).map(|server| server.to_string()));
        put("domain", machine.domain.clone().filter(|_| has_address));
    }
    let platform = if machine.is_efi { "efi" } else { "pcbios" };
    let mut put = |name: &str, value: &str| settings.put("", name, value);
    put("platform", platform);
    put("buildarch", buildarch());
    put("version", VERSION);
    put("unixtime", &machine.unix_time.to_string());
    if let Some(memory) = machine.memory_mebibytes {
        put("memsize", &memory.to_string());
    }
    if let Some(name) = &machine.hostname {
        put("hostname", name);
    }
    for (name, value) in &machine.firmware {
        settings.put("smbios", name, value);
    }
    settings
}

/// Puts in whom DHCP would have named as the server, which scripts ask for their files: where the script came from, if that is an address
/// of the kind which the setting holds.
pub(super) fn served_by(mut settings: Settings, host: &Host) -> Settings {
    if let Host::Address(IpAddr::V4(address)) = host {
        settings.put("", "next-server", &address.to_string());
    }
    settings
}

fn netmask(length: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0))
}

/// The router of the default route of each port in a file as `/proc/net/route`: the port's name and the router.
pub(super) fn routers(text: &str) -> Vec<(String, Ipv4Addr)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, network, router) = (words.next()?, words.next()?, words.next()?);
        let router = u32::from_str_radix(router, 16).ok().filter(|router| *router != 0)?;
        // The kernel writes the number as it lies in memory.
        (network == "00000000").then(|| (name.to_owned(), Ipv4Addr::from(router.to_ne_bytes())))
    };
    text.lines().filter_map(line).collect()
}

/// The VLANs in a file as `/proc/net/vlan/config`: each one's name, the port that it is on, and its number.
pub(super) fn vlans(text: &str) -> Vec<(String, String, u16)> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split('|').map(str::trim).collect();
        let [name, id, parent] = words[..] else { return None };
        Some((name.to_owned(), parent.to_owned(), id.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// An address of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ipv6Address {
    pub(crate) port: String,
    pub(super) address: Ipv6Addr,
    pub(super) length: u8,
    /// Not of the link or of the machine alone.
    pub(crate) is_global: bool,
    /// The kernel found nobody else who has it, and no longer looks.
    pub(crate) is_checked: bool,
}

/// The addresses of each port in a file as `/proc/net/if_inet6` (`if6_seq_show` of net/ipv6/addrconf.c).
pub(crate) fn ipv6_addresses(text: &str) -> Vec<Ipv6Address> {
    const GLOBAL: &str = "00";
    // IFA_F_TENTATIVE and IFA_F_DADFAILED of include/uapi/linux/if_addr.h.
    const UNUSABLE: u8 = 0x40 | 0x08;
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _, length, scope, flags, port] = words[..] else {
            return None;
        };
        Some(Ipv6Address {
            port: port.to_owned(),
            address: Ipv6Addr::from_bits(u128::from_str_radix(address, 16).ok()?),
            length: u8::from_str_radix(length, 16).ok()?,
            is_global: scope == GLOBAL,
            is_checked: u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & UNUSABLE == 0),
        })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::boot_script::{Answer, Interpreter, Request, Script};
    use crate::service::fetch::url::Target;

    fn machine() -> Machine {
        let port = |number: u8| Port {
            name: format!("eth{number}"),
            mac: format!("52:54:00:00:00:0{number}"),
            ipv4: Some((Ipv4Addr::new(192, 0, 2, number), 25)),
            addresses: vec![IpAddr::from([192, 0, 2, number]), IpAddr::from([198, 51, 100, number])],
            ..Port::default()
        };
        let six: (Ipv6Addr, u8) = ("2001:db8::1".parse().unwrap(), 64);
        Machine {
            ports: vec![
                Port {
                    ipv6: Some(six),
                    addresses: vec![IpAddr::from([192, 0, 2, 0]), six.0.into()],
                    ..port(0)
                },
                Port {
                    gateway: Some(Ipv4Addr::new(192, 0, 2, 126)),
                    bus: Some("01:80:86:10:0e".to_owned()),
                    ..port(1)
                },
                Port {
                    vlan: Some(("eth0".to_owned(), 42)),
                    ipv4: None,
                    ..port(2)
                },
            ],
            firmware: vec![
                ("serial", "S 1".to_owned()),
                ("uuid", "00112233-4455-6677-8899-aabbccddeeff".to_owned()),
            ],
            is_efi: true,
            hostname: Some("host".to_owned()),
            dns: Some(IpAddr::from([192, 0, 2, 53])),
            domain: Some("a.example".to_owned()),
            memory_mebibytes: Some(7000),
            unix_time: 12,
            processor: None,
        }
    }

    #[track_caller]
    fn says(local: Option<IpAddr>, text: &str) -> String {
        let script = Script::read(format!("#!ipxe\necho {text}").as_bytes()).unwrap();
        let mut interpreter = Interpreter::new(script, None, settings(&machine(), local));
        match interpreter.next(Answer::Done) {
            Request::Say(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_script_sees_the_machine() {
        let local = Some(IpAddr::from([192, 0, 2, 1]));
        for (text, seen) in [
            (
                "${mac} ${net0/mac:hexhyp} ${netX/ip}",
                "52:54:00:00:00:01 52-54-00-00-00-00 192.0.2.1",
            ),
            (
                "${netmask} ${gateway} ${dns} ${domain}",
                "255.255.255.128 192.0.2.126 192.0.2.53 a.example",
            ),
            ("${net0/ip6}/${net0/len6} ${ip6}", "2001:db8::1/64 2001:db8::1"),
            (
                "${serial} ${uuid} ${asset}.",
                "S 1 00112233-4455-6677-8899-aabbccddeeff .",
            ),
            ("${platform} ${hostname} ${memsize} ${unixtime}", "efi host 7000 12"),
            ("${net7/mac}.", "."),
            ("${netX/busid:hexhyp} ${net0/busid}.", "01-80-86-10-0e ."),
            ("${netX/machyp} ${next-server}.", "52-54-00-00-00-01 ."),
        ] {
            assert_eq!(says(local, text), seen, "{text}");
        }
        assert_eq!(says(None, "${mac}"), "52:54:00:00:00:00");
        assert_eq!(says(None, "${net0-42/mac}"), "52:54:00:00:00:02");
        assert_eq!(
            says(Some("2001:db8::1".parse().unwrap()), "${mac}"),
            "52:54:00:00:00:00"
        );
        // The way to the script begins at a further address of the second port.
        assert_eq!(
            says(Some(IpAddr::from([198, 51, 100, 1])), "${mac} ${ip}"),
            "52:54:00:00:00:01 192.0.2.1"
        );
        assert!(["x86_64", "arm64"].contains(&says(None, "${buildarch}").as_str()));
    }

    #[test]
    fn whoever_gave_the_script_is_the_next_server() {
        for (host, next_server) in [
            ("192.0.2.1:8080", "192.0.2.1"),
            ("[2001:db8::1]", ""),
            ("boot.example", ""),
        ] {
            let host = Target::read(&format!("http://{host}/x")).unwrap().host;
            let script = Script::read(b"#!ipxe\necho ${next-server}").unwrap();
            let told = served_by(settings(&machine(), None), &host);
            let said = Interpreter::new(script, None, told).next(Answer::Done);
            assert_eq!(said, Request::Say(next_server.to_owned()));
        }
    }

    #[test]
    fn the_kernels_files_are_read() {
        let routes =
            "Iface\tDestination\tGateway \tFlags\neth0\t00000000\t010200C0\t0003\neth0\t000200C0\t00000000\t0001\n";
        if cfg!(target_endian = "little") {
            assert_eq!(routers(routes), [("eth0".to_owned(), Ipv4Addr::new(192, 0, 2, 1))]);
        }
        let addresses = "20010db8000000000000000000000001 02 40 00 80     eth0\n\
                         fe800000000000000000000000000001 02 40 20 80     eth0\nx\n";
        let config = "VLAN Dev name\t | VLAN ID\nName-Type: X\neth0.42        | 42  | eth0\n";
        assert_eq!(vlans(config), [("eth0.42".to_owned(), "eth0".to_owned(), 42)]);
        let of_eth0 = |address: &str, is_global| Ipv6Address {
            port: "eth0".to_owned(),
            address: address.parse().unwrap(),
            length: 64,
            is_global,
            is_checked: true,
        };
        assert_eq!(
            ipv6_addresses(addresses),
            [of_eth0("2001:db8::1", true), of_eth0("fe80::1", false)]
        );
        assert_eq!(
            [0, 8, 32].map(|length| netmask(length).to_string()),
            ["0.0.0.0", "255.0.0.0", "255.255.255.255"]
        );
    }
}
