//! Why the kernel refused something: for want of rights, or in spite of them.

use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

/// Rights that reading hardware takes, by their bit (linux/capability.h).
const NEEDED: [(u32, &str); 6] = [
    (1, "CAP_DAC_OVERRIDE"),
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (17, "CAP_SYS_RAWIO"),
    (21, "CAP_SYS_ADMIN"),
    (34, "CAP_SYSLOG"),
];
const STATUS: &str = "/proc/self/status";
const USERS: &str = "/proc/self/uid_map";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const LIMIT: u64 = 64 * 1024;

/// What this process may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Effective user.
    user: Option<u32>,
    /// Effective capabilities, a bit each.
    capabilities: Option<u64>,
    /// Its users are not those of the machine (user_namespaces(7)).
    own_users: bool,
    /// `integrity` or `confidentiality` (kernel_lockdown(7)).
    lockdown: Option<String>,
}

impl Rights {
    /// From the texts of `/proc/self/status`, `/proc/self/uid_map` (proc(5)) and the kernel's lockdown file.
    pub(crate) fn parse(status: &str, users: &str, lockdown: &str) -> Rights {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let user = field("Uid:").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
        let capabilities = field("CapEff:").and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
        let words: Vec<&str> = users.split_whitespace().collect();
        let held = lockdown.split_whitespace().find_map(|word| {
            let held = word.strip_prefix('[')?.strip_suffix(']')?;
            matches!(held, "integrity" | "confidentiality").then(|| held.to_owned())
        });
        Rights {
            user,
            capabilities,
            // The whole range, each user itself; no text at all where the kernel has no such namespaces.
            own_users: !words.is_empty() && words != ["0", "0", "4294967295"],
            lockdown: held,
        }
    }

    /// Why the kernel may have said EPERM or EACCES.
    pub(crate) fn refusal(&self) -> String {
        let lacks: Vec<&str> = match self.capabilities {
            Some(bits) => NEEDED
                .iter()
                .filter(|(bit, _)| bits >> bit & 1 == 0)
                .map(|(_, name)| *name)
                .collect(),
            None => Vec::new(),
        };
        let is_root = self.user == Some(0);
        if !is_root && (!lacks.is_empty() || self.capabilities.is_none()) {
            return "needs root".to_owned();
        }
        if self.own_users {
            return "refused to root of a container: it is not root of the machine".to_owned();
        }
        if !lacks.is_empty() {
            let lacks = lacks.join(", ");
            return format!("refused to root without {lacks}: a container or a service with fewer rights");
        }
        match &self.lockdown {
            Some(mode) => format!("refused to root too: the kernel is locked down ({mode})"),
            None => "refused to root too: by the driver, the firmware, a security module or the rules of a container"
                .to_owned(),
        }
    }
}

/// Why this process was refused something on the running machine.
pub(crate) fn refusal() -> String {
    static RIGHTS: OnceLock<Rights> = OnceLock::new();
    let rights = RIGHTS.get_or_init(|| {
        // Not through a `Root`: what that is refused is told with the words from here.
        let text = |path: &str| {
            let mut text = String::new();
            let read = File::open(path).and_then(|file| file.take(LIMIT).read_to_string(&mut text));
            read.map(|_| text).unwrap_or_default()
        };
        Rights::parse(&text(STATUS), &text(USERS), &text(LOCKDOWN))
    });
    rights.refusal()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "000001ffffffffff";
    const MACHINE: &str = "         0          0 4294967295\n";

    fn refused(user: u32, bits: &str, users: &str, lockdown: &str) -> String {
        let status = format!("Name:\trecon\nUid:\t1000\t{user}\t{user}\t{user}\nCapInh:\t0\nCapEff:\t{bits}\n");
        Rights::parse(&status, users, lockdown).refusal()
    }

    #[test]
    fn root_is_asked_for_only_where_it_would_help() {
        assert_eq!(refused(1000, "0000000000000000", MACHINE, ""), "needs root");
        for told in [
            refused(0, ALL, MACHINE, "[none] integrity confidentiality"),
            refused(0, ALL, MACHINE, "none [integrity] confidentiality"),
            refused(0, ALL, "0 100000 65536\n", ""),
            // Docker's default set: no CAP_SYS_ADMIN, no CAP_SYS_RAWIO.
            refused(0, "00000000a80425fb", MACHINE, ""),
            refused(1000, ALL, MACHINE, ""),
        ] {
            assert!(!told.contains("needs root"), "{told}");
        }
        assert!(refused(0, ALL, MACHINE, "none [integrity] confidentiality").contains("locked down (integrity)"));
        assert!(refused(0, ALL, "0 100000 65536\n", "").contains("container"));
        assert!(refused(0, "00000000a80425fb", MACHINE, "").contains("CAP_SYS_RAWIO, CAP_SYS_ADMIN"));
        assert!(refused(0, ALL, MACHINE, "").contains("firmware"));
        // Nothing known of us: the likely thing.
        assert_eq!(Rights::default().refusal(), "needs root");
    }
}
