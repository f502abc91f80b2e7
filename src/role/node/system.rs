//! What goes on of recon in a node's own system: a program and a few files below /run, which the new root takes over as it is. Nothing is
//! written into the root.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::formats::image::INIT;
use crate::model::{ImageName, ImageVersion, MacAddr, NodeId};
use crate::probe::collect::root::Root;
use crate::sys::{mount, program};

const FOLDER: &str = "/run/recon";
/// This program: the initrd's own file, which stays in memory for as long as it is seen here.
const PROGRAM: &str = "/run/recon/recon";
/// Who this node is.
const DESCRIBED: &str = "/run/recon/node.json";
const UNIT: &str = "recon-up.service";
const UNIT_TEXT: &str = include_str!("recon-up.service");
/// Where systemd looks for what lives no longer than this boot (systemd.unit(5)).
const UNITS: &str = "/run/systemd/system";
const TARGET: &str = "multi-user.target.wants";
/// Where udev does (udev(7)).
const RULES: &str = "/run/udev/rules.d";
const GUARD: &str = "01-recon-guard.rules";
/// The rule of the live image, with its program where it is here.
const GUARD_TEXT: &str = include_str!("../../../overlay/usr/lib/udev/rules.d/01-recon-guard.rules");
const GUARD_PROGRAM: &str = "/usr/bin/recon";

/// What a node's own system is to know of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Described {
    pub(super) master: SocketAddr,
    pub(super) id: NodeId,
    pub(super) macs: Vec<MacAddr>,
    /// By which its rule may know it.
    #[serde(default)]
    pub(super) serial: Option<String>,
    pub(super) image: ImageName,
    pub(super) version: ImageVersion,
}

/// Puts everything there.
pub(super) fn prepare(described: &Described) -> io::Result<()> {
    fs::create_dir_all(FOLDER)?;
    fs::write(DESCRIBED, serde_json::to_vec(described)?)?;
    if !mount::mounted()?.iter().any(|mount| mount.target == Path::new(PROGRAM)) {
        fs::write(PROGRAM, "")?;
        mount::bind(&program::path()?, Path::new(PROGRAM))?;
    }
    let wants = Path::new(UNITS).join(TARGET);
    fs::create_dir_all(&wants)?;
    fs::write(Path::new(UNITS).join(UNIT), UNIT_TEXT)?;
    match symlink(format!("../{UNIT}"), wants.join(UNIT)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::create_dir_all(RULES)?;
    fs::write(Path::new(RULES).join(GUARD), guard())
}

/// Whether this root has a first program that can be started. Once this system is left there is no way back but a restart.
///
/// # Errors
/// It has none; as a sentence.
pub(super) fn must_start(root: &Path) -> Result<(), String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{INIT} of this image cannot be started: {why}");
    // Its links are of that root.
    let path = Root::at(root)
        .resolve(INIT.trim_start_matches('/'))
        .map_err(|error| wrong(&error))?;
    let metadata = fs::metadata(root.join(path)).map_err(|error| wrong(&error))?;
    match () {
        () if !metadata.is_file() => Err(wrong(&"it is no file")),
        () if metadata.permissions().mode() & 0o111 == 0 => Err(wrong(&"it is not executable")),
        () => Ok(()),
    }
}

/// Disks that the node's own system finds are read-only as everywhere.
fn guard() -> String {
    GUARD_TEXT.replace(GUARD_PROGRAM, PROGRAM)
}

/// What was put there.
pub(super) fn described() -> io::Result<Described> {
    Ok(serde_json::from_slice(&fs::read(DESCRIBED)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_without_a_first_program_is_not_started() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("sbin")).unwrap();
        fs::create_dir_all(root.path().join("lib/systemd")).unwrap();
        let (init, program) = (root.path().join("sbin/init"), root.path().join("lib/systemd/systemd"));
        let why = |words: &str| {
            let why = must_start(root.path()).unwrap_err();
            assert!(
                why.starts_with("/sbin/init of this image") && why.contains(words),
                "{why}"
            );
        };
        why("not there");
        // As Debian has it, and it is not this machine's own.
        symlink("/lib/systemd/systemd", &init).unwrap();
        why("not there");
        fs::write(&program, "").unwrap();
        why("not executable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        must_start(root.path()).unwrap();
        fs::remove_file(&program).unwrap();
        fs::create_dir(&program).unwrap();
        why("no file");
    }

    #[test]
    fn the_guard_is_that_of_the_live_image() {
        let rule = guard();
        assert!(rule.contains(&format!("PROGRAM=\"{PROGRAM} guard /dev/%k\"")), "{rule}");
        assert!(!rule.contains(GUARD_PROGRAM));
        assert!(UNIT_TEXT.contains(&format!("ExecStart={PROGRAM} node-up\n")));
    }
}
