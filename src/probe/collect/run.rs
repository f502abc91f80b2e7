//! The run itself: which kernel, started how.

use super::root::Root;
use crate::model::inventory::{Part, Run};

const CMDLINE: &str = "/proc/cmdline";
/// random(4): a UUID made once at each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const RELEASE: &str = "/proc/sys/kernel/osrelease";
/// The kernel keeps at most 4 KiB on any architecture we boot.
pub(crate) const CMDLINE_LIMIT: u64 = 64 * 1024;

/// Kernel release and command line; duration and time are filled in by who knows them.
pub(crate) fn run(root: &Root, recon_version: &str, started_at: &str) -> Part<Run> {
    let mut gaps = Vec::new();
    let mut get = |item: &str, path: &str| match root.text(path, CMDLINE_LIMIT) {
        Ok(text) => Some(text),
        Err(error) => {
            gaps.push(error.gap(item));
            None
        }
    };
    let run = Run {
        recon_version: recon_version.to_owned(),
        started_at: started_at.to_owned(),
        duration_ms: 0,
        boot_id: root.value(BOOT_ID),
        kernel_release: get("kernel_release", RELEASE).and_then(|text| crate::formats::text::clean(&text)),
        kernel_command_line: get("kernel_command_line", CMDLINE).map(|text| without_secrets(text.trim())),
    };
    Part::ok(format!("{RELEASE}, {CMDLINE}"), run).with_items(gaps)
}

/// The command line with the value of `recon.token=` blotted out: an inventory is passed around, a token is not.
/// Control characters go as well; the kernel takes any byte.
pub(crate) fn without_secrets(command_line: &str) -> String {
    const KEY: &str = "recon.token=";
    let mut safe = String::new();
    let mut rest = command_line;
    while let Some(at) = rest.find(KEY) {
        let (before, found) = rest.split_at(at);
        let value = &found[KEY.len()..];
        let end = match value.strip_prefix('"') {
            Some(quoted) => quoted.find('"').map_or(value.len(), |end| end + 2),
            None => value.find(char::is_whitespace).unwrap_or(value.len()),
        };
        safe.push_str(before);
        safe.push_str(KEY);
        safe.push_str("***");
        rest = &value[end..];
    }
    safe.push_str(rest);
    crate::formats::text::line(&safe).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_does_not_travel() {
        for (line, safe) in [
            ("quiet recon.token=s3cret pxeaddr=1", "quiet recon.token=*** pxeaddr=1"),
            ("recon.token=\"a b\" x", "recon.token=*** x"),
            ("recon.token=\"open", "recon.token=***"),
            ("recon.token=", "recon.token=***"),
            ("a=b", "a=b"),
        ] {
            assert_eq!(without_secrets(line), safe);
        }
    }

    proptest! {
        #[test]
        fn any_line_is_kept_or_blotted(line in "\\PC{0,20}(recon.token=)?\\PC{0,20}") {
            let _ = without_secrets(&line);
        }
    }
}
