//! Names on the stick and where it is mounted: each is written here only. Here and not in `stick`, because the store, the
//! settings and HTTP need them too, and all of them may use the model. What each is for: ARCHITECTURE, "The stick".

/// Name of the data partition in the table, and label of its volume.
pub const DATA_NAME: &str = "RECON-DATA";
/// Where the data partition is mounted; without one, the folder itself holds the data in memory. `recon-ssh.service` has the same.
pub const MOUNT_POINT: &str = "/run/recon/data";

/// The settings.
pub const SETTINGS: &str = "recon.toml";
/// Who may come in by ssh, on live images and nodes.
pub const AUTHORIZED_KEYS: &str = "authorized_keys";
/// What sticks of one site share.
pub const SITE_KEY: &str = "site.key";
/// The site's own workload, and the script in it.
pub const WORKLOAD: &str = "post.tgz";

/// Uploads, a folder for each machine.
pub const NODES: &str = "nodes";
/// The inventory in an upload, and the copy of it beside the upload.
pub const INVENTORY: &str = "inventory.json";
/// An upload on its way is `incoming-<number>.part`; other files have their name with `.part` behind it until they are whole.
pub const INCOMING_PREFIX: &str = "incoming-";
pub const PART: &str = ".part";
/// Folders that are served as they are; `export` is also where the tarball is asked for.
pub const ISOS: &str = "isos";
pub const INSTALL: &str = "install";
pub const EXPORT: &str = "export";
/// All of them.
pub const SERVED_FOLDERS: [&str; 4] = [NODES, ISOS, INSTALL, EXPORT];

/// Images of diskless nodes: `images/<name>/<version>/`, and which version counts.
pub const IMAGES: &str = "images";
/// A file with the name of the version that is started; the one before it is in the other.
pub const CURRENT: &str = "current";
pub const PREVIOUS: &str = "previous";
/// Behind the name of a version that was up on some node, beside its folder.
pub const WAS_UP: &str = ".up";

/// Files that lie over the roots of nodes: `overlays/<name>/`, as they lie there.
pub const OVERLAYS: &str = "overlays";

/// The newest upload of every machine in one file; on the medium only while it holds all of them.
pub const TARBALL: &str = "recon-inventory.tar.gz";
/// What the tarball is called while it lacks something.
pub const TARBALL_INCOMPLETE: &str = "recon-inventory-INCOMPLETE.tar.gz";

/// Journals of IPv4 leases are `leases-<number>.jsonl`.
pub const LEASES_PREFIX: &str = "leases-";
/// IPv6 leases, written anew as a whole.
pub const LEASES6: &str = "leases6.jsonl";
/// What a person at the running master had machines start, written anew as a whole.
pub const START_CHOICES: &str = "start-choices.jsonl";
/// How diskless nodes fared with their images, written anew as a whole.
pub const STARTS: &str = "starts.jsonl";
