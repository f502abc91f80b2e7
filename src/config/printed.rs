//! Settings as the text of a `recon.toml`, every one with its value, whether it was written or is a default. Pure; what is printed is
//! read back as the same settings.

use std::net::Ipv4Addr;

use serde::Serialize;

use crate::model::{ImageWord, OverlayName, PostAction, PowerOff, RootForm};

use super::image_rules::ImageRules;
use super::node_rules::NodeRule;
use super::routed::{Entry, Routed};
use super::settings::Settings;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct File<'a> {
    site: Option<&'a str>,
    network: Network<'a>,
    peers: Peers<'a>,
    #[serde(skip_serializing_if = "ImageRules::is_empty")]
    images: &'a ImageRules,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subnet: Vec<Entry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    node: Vec<&'a NodeRule>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Network<'a> {
    subnet: String,
    lease_range: [Ipv4Addr; 2],
    lease_seconds: u32,
    serve_all: bool,
    tftp_block_size: u16,
    mode: &'a str,
    silent: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Peers<'a> {
    post_action: PostAction,
    poweroff: PowerOff,
    image: Option<&'a ImageWord>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    overlays: &'a [OverlayName],
    root: RootForm,
    failsafe_after: u32,
    kernel_arguments: &'a str,
}

impl Settings {
    /// The text of a file that says all of this. A site without a name has no line, nor has what a rule leaves to the rule of all.
    ///
    /// # Errors
    /// Of `toml`; none is known.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let Settings {
            site,
            network,
            peers,
            image,
            overlays,
            root,
            failsafe_after,
            images,
            kernel_arguments,
            links,
            routed,
            nodes,
            // It is in no file of settings.
            chosen: _,
            // Both are in what machines do.
            never: _,
            no_images: _,
        } = self;
        let peers = self.end(*peers);
        let file = File {
            site: site.as_deref(),
            network: Network {
                subnet: network.net.to_string(),
                lease_range: [network.pool.first.into(), network.pool.last.into()],
                lease_seconds: network.lease.lease_seconds,
                serve_all: network.lease.serve_all,
                tftp_block_size: network.tftp_block_size,
                mode: links.all.as_str(),
                silent: &links.silent,
            },
            peers: Peers {
                post_action: peers.post_action,
                poweroff: peers.poweroff,
                image: image.as_ref(),
                overlays,
                root: *root,
                failsafe_after: *failsafe_after,
                kernel_arguments,
            },
            images,
            subnet: routed.iter().map(Routed::entry).collect(),
            node: nodes.iter().collect(),
        };
        toml::to_string(&file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::EXAMPLE;

    const WHOLE: &str = r#"
        site = "Hall \"2\", Köln # 3"
        [network]
        subnet = "10.20.0.0/22"
        lease-range = ["10.20.1.0", "10.20.3.200"]
        lease-seconds = 600
        serve-all = true
        tftp-block-size = 1024
        mode = "proxy"
        silent = ["eno2", "52-54-00-00-00-09"]
        [peers]
        post-action = "liveboot"
        poweroff = "acpi"
        image = "compute"
        overlays = ["base"]
        root = "squashfs"
        failsafe-after = 5
        kernel-arguments = "nomodeset dyndbg=\"file x +p\" a=\\b"
        [images.compute]
        root = "tmpfs"
        [images.gpu]
        failsafe-after = 0
        kernel-arguments = "nouveau.modeset=0"
        [[subnet]]
        subnet = "10.1.0.0/24"
        via = "10.20.0.3"
        relays = ["10.255.0.1", "10.20.0.3"]
        [[subnet]]
        subnet = "10.2.0.0/28"
        router = "10.2.0.14"
        [[node]]
        mac = "52:54:00:00:00:03"
        address = "10.20.0.9"
        post-action = "inventory"
        [[node]]
        uuid = "4C4C4544-0042-3510-8052-B4C04F4A3232"
        poweroff = "never"
        [[node]]
        serial = "CZ3407A1BC"
        image = "compute"
        [[node]]
        mac = "52:54:00:00:00:04"
        image = "gpu@3ea150742bbf"
        hostname = "gpu-1"
        overlays = ["gpu", "slurm_1"]
        authorized-keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEBX6/FWIWHNiVF4/SQJwnMFYUbRNPL9mGFSut3gxVs0 me@here"]
    "#;

    #[test]
    fn what_is_printed_is_read_back() {
        let uncommented: String = EXAMPLE
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')))
            .map(|line| format!("{line}\n"))
            .collect();
        for text in ["", WHOLE, &uncommented] {
            let settings = Settings::parse(text).unwrap();
            let printed = settings.to_toml().unwrap();
            assert_eq!(Settings::parse(&printed), Ok(settings), "{printed}");
        }
    }

    /// A setting that nobody prints is one of which nobody sees the default.
    #[test]
    fn every_setting_is_printed() {
        let printed = Settings::parse(WHOLE).unwrap().to_toml().unwrap();
        for setting in &crate::config::definitions::SETTINGS {
            let line = format!("{} = ", setting.key);
            assert!(printed.lines().any(|one| one.starts_with(&line)), "{line}\n{printed}");
        }
    }

    #[test]
    fn what_is_held_is_printed_as_the_least_that_can_be_written() {
        let printed = Settings::parse(WHOLE).unwrap().held().to_toml().unwrap();
        for line in ["mode = \"silent\"", "serve-all = false", "poweroff = \"never\""] {
            assert!(printed.contains(line), "{line}\n{printed}");
        }
    }
}
