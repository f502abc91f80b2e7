//! Waiting for drivers, for a while: an inventory taken before them would miss disks and ports that are there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::model::cause;
use crate::sys::cmd;
use crate::sys::program::Program;

/// Longest wait for drivers; a device that takes longer is missed rather than waited for.
const SETTLE: Duration = Duration::from_secs(30);
/// Longest wait for a USB disk that the kernel has not looked at yet (its own delay is one second).
const USB_SETTLE: Duration = Duration::from_secs(4);
/// Where udev takes orders while it runs (systemd-udevd.service(8)).
const UDEV: &str = "/run/udev/control";
const USB_STORAGE: &str = "/sys/bus/usb/drivers/usb-storage";
/// More devices than anybody plugs in.
const MAX_USB: usize = 256;

/// Waits until the drivers of everything that was found are loaded. Blocks.
pub(crate) fn wait_for_drivers() {
    wait(Path::new(UDEV), || {
        let limit = format!("--timeout={}", SETTLE.as_secs());
        if let Err(error) = cmd::run(Program::Udevadm, &["settle", &limit], SETTLE + Duration::from_secs(5)) {
            tracing::warn!(error = cause::told(&error), "waiting for device events");
        }
    });
}

/// `settle_events` is asked only where udev takes orders: elsewhere whoever loads the drivers has done so when this is called.
fn wait(udev: &Path, settle_events: impl FnOnce()) {
    if udev.exists() {
        settle_events();
    }
    // The kernel gives USB storage a second before it looks for disks there, and no event says that one is still to come.
    let deadline = Instant::now() + USB_SETTLE;
    while usb_disk_to_come(Path::new(USB_STORAGE)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// True while a device of the usb-storage driver has no SCSI target yet.
fn usb_disk_to_come(driver: &Path) -> bool {
    let children = |folder: &Path, prefix: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_USB);
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        named.map(|entry| entry.path()).collect()
    };
    // Interfaces are named like `2-1:1.0`; the driver's own attributes have no colon.
    let is_interface = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().contains(':'))
    };
    children(driver, "").into_iter().filter(is_interface).any(|interface| {
        let hosts = children(&interface, "host");
        !hosts.iter().any(|host| !children(host, "target").is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_waited_for_where_udev_runs() {
        let dir = tempfile::tempdir().unwrap();
        let udev = dir.path().join("control");
        wait(&udev, || panic!("there is no udev"));
        std::fs::write(&udev, "").unwrap();
        let mut asked = 0;
        wait(&udev, || asked += 1);
        assert_eq!(asked, 1);
    }

    #[test]
    fn a_usb_disk_is_to_come_until_it_has_a_target() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            !usb_disk_to_come(&dir.path().join("none")),
            "no driver, nothing to wait for"
        );
        std::fs::write(dir.path().join("new_id"), "").unwrap();
        assert!(!usb_disk_to_come(dir.path()));
        let host = dir.path().join("2-1:1.0/host6");
        std::fs::create_dir_all(&host).unwrap();
        assert!(usb_disk_to_come(dir.path()));
        std::fs::create_dir(host.join("target6:0:0")).unwrap();
        assert!(!usb_disk_to_come(dir.path()));
    }
}
