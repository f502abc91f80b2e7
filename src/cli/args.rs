//! Arguments of every subcommand, as text a person reads with `--help`. Parsing does nothing else.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Subnet;
use crate::model::{BootMethod, ImageName, ImageWord, PowerOff};
use crate::role::run::System;

/// The recon stick: one machine serves, the others boot from it, inventory
/// themselves, upload and power off.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 80, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// More log lines on standard error: -v for packets and requests
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Do what this machine is here for: peer of a master, or master where none is
    ///
    /// The unit of the image starts this. pxeaddr= or recon.master= on the
    /// kernel command line make a peer. Otherwise every wired link is asked who
    /// serves it, as `recon master --elect` does; where another recon master
    /// serves, this machine becomes its peer, and takes over when it is gone.
    Run(RunArgs),
    /// Serve given links, at once or each as it does no harm there
    ///
    /// Without --elect the links are served at once and nobody is asked: for
    /// laboratories and for people who know the network. With --elect each link is
    /// in one of four modes, decided within 10 seconds and watched for ever:
    ///
    ///   serve   alone there: addresses and boot files
    ///   proxy   another DHCP server is there: boot files to machines that boot from
    ///           the network (proxyDHCP, ports 67 and 4011), never an address; this
    ///           machine takes an address from that server
    ///   yield   another recon master is there: stands by until it is gone
    ///   silent  another server boots machines there, or recon.toml says so
    ///
    /// `recon status` shows each link's mode and why. Leaves this machine's disks as
    /// they are. Stops on SIGTERM.
    #[command(verbatim_doc_comment)]
    Master(MasterArgs),
    /// Inventory this machine for a master, upload, end by policy
    ///
    /// Leaves this machine's disks and links as they are.
    Peer(PeerArgs),
    /// Print what this machine is made of
    Inventory(InventoryArgs),
    /// Take every stored inventory from a stick into one tarball
    ///
    /// Reads the stick's data partition itself: nothing is mounted or written,
    /// and an image file needs no root. Every checksum is verified.
    Collect(CollectArgs),
    /// Set internal disks read-only, except a recon medium
    Guard(GuardArgs),
    /// Print a master's links, storage and nodes
    Status(StatusArgs),
    /// Show a master's status on a terminal; Enter opens a shell
    Console(ConsoleArgs),
    /// Write the image this system runs from to a disk chosen from a menu
    WriteDisk(WriteDiskArgs),
    /// Check a recon.toml and print what it means
    Settings(SettingsArgs),
    /// Start what a boot script on a web server says (iPXE's language)
    ///
    /// Fetches the script, runs it with what this machine is (addresses, UUID,
    /// serial number), and starts the kernel that it names. Menus take what the
    /// script prefers, at once. TLS is always verified, proxies are those of the
    /// environment (http_proxy, https_proxy, no_proxy). No secret of a URL is shown.
    #[command(verbatim_doc_comment)]
    BootFrom(BootFromArgs),
    /// List diskless nodes, and have them try their images again
    #[command(subcommand)]
    Node(NodeCommand),
    /// Make and check images of root file systems
    ///
    /// An image is a folder: the root as an archive, the kernel that its modules
    /// belong to, what a node starts from before it has that root, and image.json,
    /// which says what all of it has to be.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Tell the master that this node is up, and that it still is
    ///
    /// recon starts this in the system of every diskless node; it is of no use elsewhere.
    #[command(hide = true)]
    NodeUp,
}

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Print what each node was given, how far it came, and why it is in failsafe
    List(StatusArgs),
    /// Forget failed starts: a node in the failsafe system starts its image again
    ///
    /// Only at the master itself.
    Retry(NodeRetryArgs),
    /// Have machines start another image than recon.toml says
    ///
    /// Only at the master itself. It counts from each machine's next start on, also when
    /// the master was started again; with --batch nodes that are up with something else
    /// are started again, some at a time, and none further where one of them fails.
    #[command(verbatim_doc_comment)]
    SetImage(NodeSetImageArgs),
}

#[derive(Debug, Args)]
pub struct NodeSetImageArgs {
    /// A MAC, its beginning such as 52:54:00:*, a UUID, or all
    pub node: String,
    /// NAME or NAME@VERSION, failsafe, or as-settings for what recon.toml says
    pub image: String,
    /// Start nodes again that are up with something else, so many at a time
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
}

#[derive(Debug, Args)]
pub struct NodeRetryArgs {
    /// A node, by the MAC of its port or by its name
    #[arg(value_name = "NODE", required_unless_present = "all")]
    pub node: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "node")]
    pub all: bool,
}

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Pack a root file system and its kernel
    ///
    /// The root is any tree with a kernel and its modules in it, made by KIWI,
    /// mmdebstrap, dnf --installroot or by hand. The same tree gives the same bytes.
    /// Kernels and initrds in /boot stay out of the archive, as do sockets and what is
    /// mounted below the root.
    #[command(verbatim_doc_comment)]
    Pack(ImagePackArgs),
    /// Read an image whole and hold it against its manifest
    Check(ImageCheckArgs),
    /// Bring an image to a master's data partition; nodes start it from then on
    ///
    /// The copy is read whole before it counts. Nodes that started the version before keep it.
    Add(ImageAddArgs),
    /// List the images of a master's data partition
    List(ImageDataArgs),
    /// Take an image, or one version of it, from a master's data partition
    Remove(ImageRemoveArgs),
    /// Sign an image
    ///
    /// Writes image.json.sig, as `ssh-keygen -Y sign -n recon-image -f KEY image.json`
    /// does, which also signs with keys that have a passphrase or are in an agent.
    #[command(verbatim_doc_comment)]
    Sign(ImageSignArgs),
    /// Unpack an image into an empty folder, as a node does
    ///
    /// Owners, devices and extended attributes need root.
    Unpack(ImageUnpackArgs),
}

#[derive(Debug, Args)]
pub struct ImagePackArgs {
    /// The root file system: a folder, an archive of one (tar; gzip, xz or zstd), or a
    /// container image as a folder (OCI layout, as skopeo copy … oci:FOLDER makes it)
    #[arg(value_name = "ROOT")]
    pub root: PathBuf,
    /// Folder of the image
    #[arg(short, long, value_name = "FOLDER")]
    pub output: PathBuf,
    /// Version of the kernel, where the root has several
    #[arg(long, value_name = "VERSION")]
    pub kernel: Option<String>,
    /// The static recon that a node starts with [default: this one]
    #[arg(long, value_name = "FILE")]
    pub recon: Option<PathBuf>,
    /// Public keys (ssh-ed25519, a line each): nodes that start from this image take
    /// no root that none of them signed
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// Level of zstd: more takes longer and saves little
    #[arg(long, value_name = "1-19", default_value_t = crate::image::make::LEVEL, value_parser = clap::value_parser!(i32).range(1..=19))]
    pub level: i32,
    /// Without the root as a squashfs, which nodes with little memory have in the place
    /// of the unpacked one; it is made by sqfstar of squashfs-tools
    #[arg(long)]
    pub no_squashfs: bool,
    /// Files that are newer get this time, in seconds since 1970
    #[arg(long, value_name = "SECONDS")]
    pub newest: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ImageCheckArgs {
    /// Folder of the image
    #[arg(value_name = "FOLDER")]
    pub image: PathBuf,
    /// Public keys (ssh-ed25519, a line each) of which one has to have signed it
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ImageSignArgs {
    /// Folder of the image
    #[arg(value_name = "FOLDER")]
    pub image: PathBuf,
    /// Private key, as ssh-keygen -t ed25519 makes it
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

#[derive(Debug, Args)]
pub struct ImageDataArgs {
    /// Root of the data partition, RECON-DATA of a stick, or the folder that a master was given by --data
    #[arg(long, value_name = "FOLDER", default_value = crate::model::layout::MOUNT_POINT)]
    pub data: PathBuf,
}

#[derive(Debug, Args)]
pub struct ImageAddArgs {
    /// Folder of the image
    #[arg(value_name = "FOLDER")]
    pub image: PathBuf,
    /// What recon.toml calls it
    #[arg(long, value_name = "NAME")]
    pub name: ImageName,
    #[command(flatten)]
    pub to: ImageDataArgs,
}

#[derive(Debug, Args)]
pub struct ImageRemoveArgs {
    /// NAME for all of it, NAME@VERSION for one version
    #[arg(value_name = "IMAGE")]
    pub image: ImageWord,
    #[command(flatten)]
    pub from: ImageDataArgs,
}

#[derive(Debug, Args)]
pub struct ImageUnpackArgs {
    /// Folder of the image
    #[arg(value_name = "FOLDER")]
    pub image: PathBuf,
    /// Where the root goes: an empty folder
    #[arg(value_name = "ROOT")]
    pub root: PathBuf,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Runs inside the initrd: only a peer's work is possible there
    #[arg(long)]
    pub initrd: bool,
    /// Runs inside recon's own initrd, where nobody else loads drivers
    #[arg(long, conflicts_with = "initrd")]
    pub first_stage: bool,
}

impl RunArgs {
    /// What this runs in.
    pub(crate) fn system(&self) -> System {
        match (self.first_stage, self.initrd) {
            (true, _) => System::FirstStage,
            (false, true) => System::Initrd,
            (false, false) => System::Whole,
        }
    }
}

#[derive(Debug, Args)]
pub struct MasterArgs {
    /// Link to serve, with its address: eth1 or eth1=192.168.219.1/24
    #[arg(long, required = true, value_name = "LINK")]
    pub link: Vec<LinkArg>,
    /// Ask who serves each link first, and go on asking
    #[arg(long)]
    pub elect: bool,
    /// Folder for uploads and settings [default: the stick's data partition]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder laid out like the image [default: the medium this system runs from]
    #[arg(long, value_name = "DIR")]
    pub medium: Option<PathBuf>,
    /// Folder with network boot programs; can be given more than once
    #[arg(long, value_name = "DIR")]
    pub loaders: Vec<PathBuf>,
    /// TCP port of HTTP
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    pub http_port: u16,
}

/// `eth1` or `eth1=192.168.219.1/24`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkArg {
    pub name: String,
    pub subnet: Option<Subnet>,
}

impl FromStr for LinkArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, subnet) = match text.split_once('=') {
            None => (text, None),
            Some((name, network)) => {
                let error = || format!("{network:?} is not address/prefix such as 192.168.219.1/24");
                let (address, prefix) = network.split_once('/').ok_or_else(error)?;
                let address: Ipv4Addr = address.parse().map_err(|_| error())?;
                let prefix: u8 = prefix.parse().map_err(|_| error())?;
                let subnet = Subnet::around(address, prefix).map_err(|error| error.to_string())?;
                (name, Some(subnet))
            }
        };
        // IFNAMSIZ, with its closing zero byte.
        if name.is_empty() || name.len() > 15 || name.contains('/') {
            return Err(format!("{name:?} is not an interface name"));
        }
        Ok(LinkArg {
            name: name.to_owned(),
            subnet,
        })
    }
}

#[derive(Debug, Args)]
pub struct PeerArgs {
    /// The master: http://192.168.219.1 or an address with an optional port
    #[arg(long, value_name = "URL")]
    pub master: String,
    /// How to end once stored [default: as the master says]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub poweroff: Option<PowerOff>,
    /// Seconds to listen for the switches (LLDP, CDP) before the last upload
    #[arg(long, value_name = "SECONDS", default_value_t = 35, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub cable_wait: u64,
}

#[derive(Debug, Args)]
pub struct InventoryArgs {
    /// Read a captured tree instead of the running system
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Only these parts, by their names in the JSON: --only disks,nics
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Hide serial numbers, addresses and other names, the same one the same way
    #[arg(long)]
    pub redact: bool,
    /// Write what was read to a tar as well, for a bug report
    ///
    /// Unpacked, it works with --root. With --redact, names in it are hidden too.
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
    /// Seconds to listen for the switches (LLDP, CDP) on ports that are up
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub cable_wait: u64,
    /// Switch on ports that are down while the inventory is taken (needs root)
    ///
    /// They are switched off again at the end, unless something uses them by then. A machine that was booted from a recon
    /// master does this by itself, and leaves them on.
    #[arg(long)]
    pub ports_up: bool,
    /// Print the JSON Schema of the inventory and stop
    #[arg(long, exclusive = true)]
    pub schema: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    /// Every field that has a value, as a tree
    Tree,
}

#[derive(Debug, Args)]
pub struct CollectArgs {
    /// Device of a stick, an image of it, or its mounted data partition; several sticks go into one tarball
    #[arg(required = true)]
    pub source: Vec<PathBuf>,
    /// Where the tarball goes
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct GuardArgs {
    /// Devices such as /dev/sda [default: all]
    pub devices: Vec<String>,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The master to ask [default: the one this machine is a peer of, else itself]
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
}

#[derive(Debug, Args)]
pub struct ConsoleArgs {
    #[command(flatten)]
    pub asked: StatusArgs,
    #[command(flatten)]
    pub terminal: TerminalArgs,
}

#[derive(Debug, Args)]
pub struct TerminalArgs {
    /// Terminal to use [default: standard input and output]
    #[arg(long, value_name = "DEVICE")]
    pub tty: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct WriteDiskArgs {
    /// Image or medium to write [default: the medium this system runs from]
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    #[command(flatten)]
    pub terminal: TerminalArgs,
}

#[derive(Debug, Args)]
pub struct SettingsArgs {
    /// recon.toml of a stick, or recon.txt of a boot image, known by this name or by its tables
    pub file: PathBuf,
    /// It is recon.txt of a boot image, whatever is in it
    #[arg(long)]
    pub boot: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["url", "infra_env"]))]
pub struct BootFromArgs {
    /// The boot script, http or https; or a kernel, or a plan in JSON
    pub url: Option<String>,
    #[command(flatten)]
    pub assisted: AssistedArgs,
    /// Only print what would be started; needs no root
    #[arg(long)]
    pub plan: bool,
    /// Print the plan as JSON
    #[arg(long, requires = "plan", conflicts_with_all = ["verify", "no_jump"])]
    pub json: bool,
    /// Certificates (PEM) to believe beside the usual ones; can be given more than once
    #[arg(long, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
    /// Go through this proxy, whatever the environment says
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// Header for the server of the URL alone: 'Name: value', or @FILE with one a line
    #[arg(long, value_name = "HEADER")]
    pub header: Vec<String>,
    /// Words to add to the kernel's command line
    #[arg(long, value_name = "WORDS")]
    pub append: Option<String>,
    /// SHA-256 that a file must have, by its name: vmlinuz=HEX; where one is given, every file needs its own
    #[arg(long, value_name = "NAME=HEX")]
    pub sha256: Vec<String>,
    /// Start it by kexec; or by reboot: look at it, then have the firmware
    /// start whatever it has next
    #[arg(long, value_enum, hide_possible_values = true, value_name = "kexec|reboot")]
    pub method: Option<BootMethod>,
    /// Only load it; systemctl kexec or kexec -e starts it
    #[arg(long, conflicts_with_all = ["plan", "method"])]
    pub no_jump: bool,
    /// Fetch every file whole, check all that a start would (memory for it too), and
    /// start nothing; needs no root and no kexec
    #[arg(long, conflicts_with_all = ["plan", "method", "no_jump"])]
    pub verify: bool,
    /// This machine may be stopped for it (needed but on a live image)
    #[arg(long, conflicts_with_all = ["plan", "verify"])]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct AssistedArgs {
    /// The script of assisted-service for this infra-env, instead of a URL
    #[arg(long, value_name = "UUID")]
    pub infra_env: Option<String>,
    /// Where that service is asked [default: `https://api.openshift.com/api`]
    #[arg(long, value_name = "URL", requires = "infra_env", conflicts_with = "url")]
    pub api: Option<String>,
    /// Access token for it, in a file; sent to it alone
    #[arg(long, value_name = "FILE", requires = "infra_env", conflicts_with = "url")]
    pub token_file: Option<PathBuf>,
    /// Refresh token, in a file: access tokens are asked for with it
    #[arg(long, value_name = "FILE", requires = "infra_env", conflicts_with_all = ["token_file", "url"])]
    pub refresh_token_file: Option<PathBuf>,
    /// Where that is done [default: the login of Red Hat]
    #[arg(long, value_name = "URL", requires = "refresh_token_file", conflicts_with = "url")]
    pub token_url: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed_and_fits_eighty_columns() {
        let mut cli = Cli::command();
        cli.clone().debug_assert();
        let mut texts = vec![cli.render_long_help().to_string()];
        for sub in cli.get_subcommands_mut() {
            texts.push(sub.render_long_help().to_string());
        }
        for text in texts {
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line:?}");
            }
        }
    }

    #[test]
    fn links_are_read() {
        let link: LinkArg = "veth0=192.168.219.1/24".parse().unwrap();
        assert_eq!(link.name, "veth0");
        assert_eq!(link.subnet.unwrap().server, Ipv4Addr::new(192, 168, 219, 1));
        assert_eq!(
            "eth0".parse(),
            Ok(LinkArg {
                name: "eth0".into(),
                subnet: None
            })
        );
        for bad in [
            "",
            "=10.0.0.1/24",
            "eth0=10.0.0.1",
            "eth0=10.0.0.0/24",
            "eth0=10.0.0.1/31",
            "averyveryverylongname",
        ] {
            assert!(bad.parse::<LinkArg>().is_err(), "{bad:?}");
        }
    }
}
