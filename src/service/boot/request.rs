//! Whom a boot script is for, and where its master is: what the scripts of all boot programs are made of. Pure.

use std::net::{IpAddr, SocketAddr};

use super::memory::QUERY;
use crate::formats::first_stage::BusId;
use crate::formats::image::{FIRST_STAGE, KERNEL};
use crate::model::{Endpoint, MacAddr, NodePolicy, PinnedImage, PostAction, RootForm, layout};

/// What a machine starts with beside the kernel. Its script chooses, and says so in its question for the kernel: both count the memory of the
/// same files, whatever became of the machine meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartsWith {
    Initrd,
    FirstStage,
}

impl StartsWith {
    pub(crate) const ALL: [Self; 2] = [StartsWith::Initrd, StartsWith::FirstStage];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            StartsWith::Initrd => "initrd",
            StartsWith::FirstStage => "first",
        }
    }
}

/// The image that a node starts in the place of the medium's system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeImage {
    pub pinned: PinnedImage,
    pub root: RootForm,
    /// Files of its first stage for this port, as paths below that folder.
    pub first_stage: Vec<String>,
}

impl NodeImage {
    /// Its folder, below this master.
    fn folder(&self) -> String {
        format!("{}/{}/{}", layout::IMAGES, self.pinned.name, self.pinned.version)
    }
}

/// What a boot script is made of.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Where the client reaches this master.
    pub master: SocketAddr,
    /// Address the client asks from.
    pub client: IpAddr,
    /// Port the client boots from, as it told us.
    pub mac: Option<MacAddr>,
    /// It did not say; iPXE fills it in. Otherwise a port without an Ethernet address stays unnamed, and the system finds one.
    pub fills_in: bool,
    /// What that port is, as it told us.
    pub bus: Option<BusId>,
    /// Files of the first stage that an inventory on this port starts with, as paths below its folder. Empty where the medium has none.
    pub first_stage: Vec<String>,
    pub policy: NodePolicy,
    /// What it starts, where the policy is that it starts an image.
    pub image: Option<NodeImage>,
    /// Why it gets the failsafe system, as a sentence.
    pub why: Option<String>,
    /// More words for the kernel command line, from `recon.toml`.
    pub kernel_arguments: String,
    /// Processor for which the boot program is built, as it told us.
    pub arch: Option<String>,
    /// A memory test is at hand for this kind of firmware.
    pub memtest_efi: bool,
    pub memtest_bios: bool,
    /// The system did not come up on it so far: so long it waits before it tries again.
    pub pause_seconds: u64,
}

impl Boot {
    /// The port's address in a script, or what iPXE puts there.
    pub(super) fn port(&self) -> Option<String> {
        let filled_in = || self.fills_in.then(|| "${netX/mac:hexhyp}".to_owned());
        self.mac.map(|mac| mac.dashed()).or_else(filled_in)
    }

    /// The image, for a node.
    pub(super) fn image(&self) -> Option<&NodeImage> {
        let is_node = self.policy.post_action == PostAction::Image;
        self.image.as_ref().filter(|_| is_node)
    }

    /// Files of the first stage with which it starts; none for the whole system, which needs all that the initrd has.
    fn first_stage(&self) -> &[String] {
        match self.policy.post_action {
            PostAction::Inventory | PostAction::Failsafe => &self.first_stage,
            PostAction::Liveboot => &[],
            PostAction::Image => self.image.as_ref().map_or(&[], |image| &image.first_stage),
        }
    }

    /// The kernel's path below this master.
    pub(crate) fn kernel(&self) -> String {
        match self.image() {
            Some(image) => format!("{}/{KERNEL}", image.folder()),
            None => "boot/x86_64/kernel".to_owned(),
        }
    }

    /// What is loaded beside the kernel, in the order in which it is unpacked: the name that the boot program gives it, and the path
    /// below this master.
    pub(crate) fn initrds(&self) -> Vec<(&str, String)> {
        let name = |path: &'_ String| path.rfind('/').map_or(0, |slash| slash + 1);
        let folder = match self.image() {
            Some(image) => format!("{}/{FIRST_STAGE}", image.folder()),
            None => "boot/x86_64/first".to_owned(),
        };
        let files = self.first_stage().iter();
        match files.as_slice() {
            [] => vec![("initrd", "boot/x86_64/initrd".to_owned())],
            _ => files
                .map(|path| (&path[name(path)..], format!("{folder}/{path}")))
                .collect(),
        }
    }

    /// What the kernel is asked for with: the machine's memory, what it is to do, what it starts with, and the port, by which it is known
    /// how much memory the first stage takes.
    pub(super) fn kernel_query(&self) -> String {
        let with = match self.first_stage().is_empty() {
            true => StartsWith::Initrd,
            false => StartsWith::FirstStage,
        };
        let bus = self.bus.filter(|_| with == StartsWith::FirstStage);
        let bus = bus.map(|bus| format!("&bus={bus}")).unwrap_or_default();
        let action = self.policy.post_action.as_str();
        format!("{QUERY}&action={action}&with={}{bus}", with.as_str())
    }
}

/// Where a client's own boot script is: it says by its settings who it is, and iPXE fills them in. `netX` is the port that
/// iPXE opened last. With a `mac` of twelve digits it is at most 127 characters long, the room of a DHCP header's file name; there is
/// none left in it for what the port is, which [`full_script_url`] has.
pub fn script_url(master: impl Into<SocketAddr>, mac: Option<MacAddr>) -> String {
    let mac = mac.map_or_else(|| "${netX/mac:hexhyp}".to_owned(), |mac| mac.dashed());
    format!(
        "{}/boot.ipxe?mac={mac}&uuid=${{uuid}}&arch=${{buildarch}}&serial=${{serial:uristring}}",
        Endpoint(master.into())
    )
}

/// The same with what the port is: `busid` of iPXE's `net/netdev_settings.c`, five bytes that name its bus, vendor and device.
pub fn full_script_url(master: impl Into<SocketAddr>, mac: Option<MacAddr>) -> String {
    format!("{}&bus=${{netX/busid:hexhyp}}", script_url(master, mac))
}

/// A client as boot programs describe it, for tests.
#[cfg(test)]
pub(crate) mod example {
    use super::{Boot, NodeImage};
    use crate::formats::first_stage;
    use crate::model::{NodePolicy, PostAction, PowerOff, RootForm};

    pub(crate) fn client(post_action: PostAction) -> Boot {
        Boot {
            master: "192.168.219.1:80".parse().unwrap(),
            client: "192.168.219.60".parse().unwrap(),
            mac: Some("52:54:00:12:34:56".parse().unwrap()),
            fills_in: false,
            bus: None,
            first_stage: Vec::new(),
            policy: NodePolicy {
                post_action,
                poweroff: PowerOff::Ipmi,
            },
            image: None,
            why: None,
            kernel_arguments: String::new(),
            arch: Some("x86_64".to_owned()),
            memtest_efi: false,
            memtest_bios: false,
            pause_seconds: 0,
        }
    }

    /// A client of a master whose medium has a first stage, on a port that is this.
    pub(crate) fn staged(post_action: PostAction, port: &str) -> Boot {
        let bus = port.parse().ok();
        Boot {
            bus,
            first_stage: first_stage::example().initrds(bus),
            ..client(post_action)
        }
    }

    /// A node, whose image has a first stage for its port.
    pub(crate) fn node(port: &str) -> Boot {
        let bus = port.parse().ok();
        let image = NodeImage {
            pinned: format!("compute@3ea150742bbf:{}0000", "3ea150742bbf".repeat(5))
                .parse()
                .unwrap(),
            root: RootForm::Auto,
            first_stage: first_stage::example().initrds(bus),
        };
        Boot {
            bus,
            image: Some(image),
            ..client(PostAction::Image)
        }
    }

    /// A node whose image did not come up.
    pub(crate) fn failsafe(port: &str) -> Boot {
        Boot {
            why: Some("compute@3ea150742bbf was started 3 times and did not come up; 100 % of it".to_owned()),
            ..staged(PostAction::Failsafe, port)
        }
    }

    /// An 82540EM of Intel, and a port with two drivers.
    pub(crate) const E1000: &str = "01-80-86-10-0e";
    pub(crate) const TWO_DRIVERS: &str = "01-10-ec-81-68";
}
