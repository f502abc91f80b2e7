//! Why there is no data partition, and what a person can do, as sentences for the screen. Pure.

use std::fmt;
use std::io::{self};
use std::path::Path;

/// Why there is no data partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    TooSmall,
    ReadOnly,
    Damaged,
    NoMedium,
    MkfsFailed,
    /// The kernel refused a partition, a loop device or the mount.
    NotUsable,
}

/// Why uploads cannot go to the medium, and what a person can do, as sentences for the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub reason: Reason,
    pub text: String,
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.remedy)
    }
}

impl std::error::Error for Problem {}

/// A problem with what helps as a rule: its reason, and its text as `format!` takes it.
macro_rules! problem {
    ($reason:ident, $($text:tt)+) => {
        $crate::stick::partition::problem::as_a_rule($crate::stick::partition::problem::Reason::$reason, format!($($text)+))
    };
}
pub(super) use problem;

pub(super) fn as_a_rule(reason: Reason, text: String) -> Problem {
    let remedy = match reason {
        Reason::TooSmall => "Use a larger stick.",
        Reason::ReadOnly => "Move the stick's write-protect switch, or use another stick.",
        Reason::Damaged => {
            "Keep the stick: `recon collect /dev/sdX -o inventory.tar.gz` on a Linux laptop, sdX being the stick there, takes every \
             whole inventory off it. Then write the image to it anew."
        }
        Reason::NoMedium => "Boot from a USB stick to keep inventories.",
        Reason::MkfsFailed => "Try another USB port or another stick.",
        Reason::NotUsable => "Boot again; if it stays so, try another stick.",
    };
    remedied(reason, text, remedy)
}

pub(super) fn remedied(reason: Reason, text: impl Into<String>, remedy: &str) -> Problem {
    Problem {
        reason,
        text: text.into(),
        remedy: remedy.to_owned(),
    }
}

/// The kernel's name of an optical drive, also of one that a BMC plays.
pub(super) fn is_optical(device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("sr")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Nothing that is wrong with a CD otherwise (its sectors, its room) is of use to a person.
pub(super) fn optical(device: &Path) -> Problem {
    let text = format!(
        "{} is a CD, perhaps a virtual one, and cannot be written.",
        device.display()
    );
    remedied(Reason::ReadOnly, text, "Boot from a USB stick to keep inventories.")
}

/// Something else uses the device.
pub(super) fn mounted_elsewhere(device: &Path, target: &Path) -> Problem {
    let text = format!("{} is mounted at {} already.", device.display(), target.display());
    remedied(
        Reason::NotUsable,
        text,
        "Unmount it there, and start recon again (`systemctl restart recon`).",
    )
}

pub(super) fn mount_problem(device: &Path, error: &io::Error) -> Problem {
    let device = device.display();
    match error.raw_os_error() {
        Some(libc::ENODEV) => remedied(
            Reason::NotUsable,
            "This kernel has no exFAT driver.",
            "Boot recon's own image, which has one.",
        ),
        Some(libc::EROFS) => problem!(ReadOnly, "{device} is write-protected."),
        Some(libc::EINVAL | libc::EIO) => problem!(Damaged, "The exFAT volume on {device} cannot be mounted: {error}."),
        _ => problem!(NotUsable, "Mounting {device} failed: {error}."),
    }
}

/// A library's message as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}
