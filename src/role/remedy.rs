//! What a person can do, where it depends on what this machine does at that moment. Pure. A remedy has to work at the place and
//! in the state in which it is read.

use crate::model::api::{LinkMode, LinkStatus};
use crate::model::layout::TARBALL;

/// Where uploads live in memory only: why, and how they come home before this machine is off. `stored` counts the machines whose
/// upload is here, `port` is HTTP's.
pub(crate) fn in_memory(why: &str, stored: usize, links: &[LinkStatus], port: u16) -> String {
    let kept = format!("{why} Uploads are kept in memory only");
    let fetch = |address: &str| {
        let host = address.split('/').next().unwrap_or(address);
        let port = if port == 80 { String::new() } else { format!(":{port}") };
        format!("before power-off, fetch http://{host}{port}/export/{TARBALL}")
    };
    // In a network with addresses of its own, whoever has one reaches us; nobody gets one from us just for that.
    let proxied = |link: &LinkStatus| link.address.clone().filter(|_| link.mode == LinkMode::Proxy);
    if let Some((link, address)) = links.iter().find_map(|link| Some((link, proxied(link)?))) {
        let name = &link.name;
        return format!("{kept}: {} from a machine in the network of {name}", fetch(&address));
    }
    let served = links.iter().find_map(|link| {
        let serves = link.mode == LinkMode::Serve;
        let address = link.address.as_ref().filter(|_| serves).or(link.old_address.as_ref())?;
        Some((link, address))
    });
    match (served, stored) {
        (Some((link, address)), _) => format!(
            "{kept}: {} from a laptop on {}, with an address beside {address} that was set by hand",
            fetch(address),
            link.name
        ),
        (None, 0) => format!("{kept}; none is here yet, and none comes before a link is served"),
        (None, _) => format!(
            "{kept}, and no link serves them now. Leave this machine on, and connect one of its ports to a switch without a DHCP server, \
             or to a laptop: this line then says where to fetch them"
        ),
    }
}

/// Why uploads live in memory where no disk was booted from, and what changes that. `live`: this is a live system of a recon image.
pub(crate) fn no_disk(live: bool) -> &'static str {
    match live {
        true => {
            "The system did not boot from a stick that it could write to, or was copied to memory first. To keep inventories, boot from \
             the stick as it is."
        }
        false => "This system did not boot from a recon stick. To keep inventories, name a folder with --data.",
    }
}

/// The last words of a master whose uploads live in memory.
pub(crate) fn closed_in_memory(stored: usize, folder: &str) -> String {
    match stored {
        0 => "stopped; nothing was stored".to_owned(),
        1 => format!(
            "stopped; the inventory of 1 machine is in memory only ({folder}) and is lost when this machine is off"
        ),
        _ => format!(
            "stopped; the inventories of {stored} machines are in memory only ({folder}) and are lost when this machine is off"
        ),
    }
}

/// What a screen says where its master does not answer. `peer`: this machine is a peer of that master.
pub(crate) fn no_answer(master: std::net::SocketAddr, peer: bool, error: &str) -> String {
    match peer {
        true => format!("This machine is a peer of {master}, which does not answer: {error}"),
        false if master.ip().is_loopback() => {
            format!("recon is not ready: {error}\nIf it stays so, `systemctl status recon` in the shell says why.")
        }
        false => format!("{master} does not answer: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::http::route::{Route, route};

    fn link(mode: LinkMode, address: Option<&str>) -> LinkStatus {
        LinkStatus {
            name: "eno1".into(),
            mac: "52:54:00:00:00:01".parse().unwrap(),
            mode,
            reason: String::new(),
            address: address.map(str::to_owned),
            old_address: None,
            leases_held: 0,
            mode_seconds: 0,
            mode_changes: 0,
            foreign: vec![],
            ipv6: None,
        }
    }

    /// The path of the address that a sentence names.
    fn url(text: &str) -> Option<(&str, &str)> {
        let rest = text.split_once("http://")?.1;
        let (host, path) = rest.split(' ').next()?.split_once('/')?;
        Some((host, &rest[host.len()..host.len() + 1 + path.len()]))
    }

    #[test]
    fn uploads_in_memory_are_fetched_from_where_they_are_served() {
        let why = "the stick is write-protected.";
        let serve = link(LinkMode::Serve, Some("192.168.219.1/24"));
        let text = in_memory(why, 0, &[link(LinkMode::Silent, None), serve.clone()], 80);
        assert_eq!(
            url(&text),
            Some(("192.168.219.1", "/export/recon-inventory.tar.gz")),
            "{text}"
        );
        assert_eq!(route("GET", url(&text).unwrap().1), Ok(Route::Tarball));
        assert!(
            text.contains("set by hand"),
            "nobody but machines that boot gets an address: {text}"
        );

        let proxy = link(LinkMode::Proxy, Some("10.0.0.7/8"));
        let text = in_memory(why, 3, &[serve, proxy], 8080);
        assert_eq!(url(&text).unwrap().0, "10.0.0.7:8080");
        assert!(!text.contains("by hand"), "{text}");

        // Fallen silent, but what was served runs on until its leases are over.
        let mut fallen = link(LinkMode::Silent, None);
        fallen.old_address = Some("192.168.219.1/24".into());
        assert_eq!(url(&in_memory(why, 3, &[fallen], 80)).unwrap().0, "192.168.219.1");
    }

    #[test]
    fn nothing_is_named_that_nobody_serves() {
        use LinkMode::{Down, Probing, Silent, Yield};
        for stored in [0, 3] {
            for mode in [Down, Probing, Silent, Yield] {
                let text = in_memory("no.", stored, &[link(mode, None)], 80);
                assert_eq!(url(&text), None, "{text}");
                assert_eq!(text.contains("Leave this machine on"), stored > 0, "{text}");
            }
            assert_eq!(url(&in_memory("no.", stored, &[], 80)), None);
            // An address is not yet one at which we answer.
            let proxy = link(LinkMode::Proxy, None);
            assert_eq!(url(&in_memory("no.", stored, &[proxy], 80)), None);
        }
    }

    #[test]
    fn a_stick_is_named_only_where_there_is_one() {
        assert!(no_disk(true).contains("stick as it is") && !no_disk(true).contains("--data"));
        assert!(no_disk(false).contains("--data"));
        for stored in [0, 1, 7] {
            let text = closed_in_memory(stored, "/run/recon/data");
            assert!(!text.contains("written") && !text.contains("stick"), "{text}");
            assert_eq!(text.contains("lost"), stored > 0, "{text}");
        }
    }

    #[test]
    fn a_shell_is_named_only_where_it_helps() {
        let here = "127.0.0.1:80".parse().unwrap();
        let there = "192.168.219.1:80".parse().unwrap();
        assert!(no_answer(here, false, "x").contains("systemctl status recon"));
        assert!(
            !no_answer(there, true, "x").contains("systemctl") && !no_answer(there, false, "x").contains("systemctl")
        );
    }
}
