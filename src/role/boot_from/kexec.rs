//! Whether this machine can start another kernel by itself, and why it did not take one. Pure.

use serde::Serialize;

const DISABLED: &str = "kernel.kexec_load_disabled is 1: nothing is loaded until the next boot";
const USED_UP: &str = "kernel.kexec_load_limit_reboot is 0: no more is loaded until the next boot";

/// What the kernel of this machine says of kexec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KexecFacts {
    /// It has kexec_file_load(2).
    pub(super) is_there: bool,
    /// `kernel.kexec_load_disabled`
    pub(super) is_disabled: bool,
    /// `kernel.kexec_load_limit_reboot`, which counts down: no more may be loaded.
    pub(super) is_used_up: bool,
    /// Something is loaded already.
    pub(super) is_loaded: bool,
    /// `none [integrity] confidentiality`
    pub(super) lockdown: Option<String>,
    pub(super) is_root: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Kexec {
    pub(crate) is_possible: bool,
    /// Why not, or what has to be so.
    pub(crate) notes: Vec<String>,
}

impl KexecFacts {
    pub(super) fn verdict(&self) -> Kexec {
        let mut notes = Vec::new();
        let mut stops = |holds: bool, why: &str| {
            if holds {
                notes.push(why.to_owned());
            }
            holds
        };
        let stopped = [
            stops(
                !self.is_there,
                "the kernel of this machine has no kexec_file_load (CONFIG_KEXEC_FILE)",
            ),
            stops(self.is_there && self.is_disabled, DISABLED),
            stops(self.is_there && self.is_used_up, USED_UP),
        ];
        let is_possible = !stopped.contains(&true);
        if let Some(mode) = self.locked().filter(|_| is_possible) {
            notes.push(format!(
                "this machine is locked down ({mode}): only a kernel with a signature that it believes is started"
            ));
        }
        if is_possible && !self.is_root {
            notes.push("it needs root".to_owned());
        }
        if self.is_loaded {
            notes.push("another kernel is loaded already; it gives way, and takes memory until then".to_owned());
        }
        Kexec { is_possible, notes }
    }

    /// The mode of kernel_lockdown(7) that is on.
    fn locked(&self) -> Option<&'static str> {
        let lockdown = self.lockdown.as_deref().unwrap_or_default();
        ["integrity", "confidentiality"]
            .into_iter()
            .find(|mode| lockdown.contains(&format!("[{mode}]")))
    }

    /// Why kexec_file_load(2) gave this error (errno(3)), and what helps. `kernel/kexec_file.c` says which error means what: with
    /// `CONFIG_KEXEC_SIG_FORCE` what is wrong with the signature, and without it `EPERM` whatever is wrong, if the machine is locked down.
    pub(super) fn refusal(&self, error: i32) -> String {
        let why = match error {
            libc::EPERM => return self.forbidden(),
            libc::ENODATA => "this machine starts only signed kernels, and this one has no signature",
            libc::ENOKEY => {
                "the kernel is signed with a key that this machine does not have among its own (UEFI db, MOK, or built in)"
            }
            libc::EKEYREJECTED => {
                "this machine rejects the kernel's signature: the file was changed after signing, or its key is revoked or not for this"
            }
            libc::EBADMSG | libc::ELIBBAD => "the kernel's signature is damaged: this machine cannot read it",
            libc::ENOPKG => "this machine's kernel lacks the algorithm with which the other one is signed",
            libc::EACCES => "a security policy of this machine (IMA, SELinux) forbids this kernel",
            libc::ENOEXEC => {
                "the kernel of this machine cannot start files of this form: on x86 only a bzImage that may lie above 4 GiB, from Linux 3.8 on"
            }
            libc::ENOMEM => "there is too little memory",
            libc::EADDRNOTAVAIL => "memory has no gap that is large enough for it",
            libc::EFBIG | libc::EOVERFLOW => "a file is longer than the kernel of this machine takes",
            libc::ETXTBSY => "somebody still writes to one of the files",
            libc::EBUSY => "something else is being loaded",
            libc::EINVAL => "the kernel of this machine does not take it: its command line may be too long for it",
            libc::ENOSYS => "the kernel of this machine has no kexec_file_load",
            _ => "the kernel of this machine does not take it",
        };
        why.to_owned()
    }

    /// `EPERM` stands for all of these.
    fn forbidden(&self) -> String {
        match self.locked() {
            _ if !self.is_root => "it needs root".to_owned(),
            _ if self.is_disabled => DISABLED.to_owned(),
            _ if self.is_used_up => USED_UP.to_owned(),
            Some(mode) => format!(
                "this machine is locked down ({mode}), as Secure Boot does it: it starts only kernels with a signature that it believes, and \
                 this one has none"
            ),
            None => "it may not: whoever runs this is root without the right to start kernels (CAP_SYS_BOOT), as in a container, or a \
                     security module forbids it"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kexec_is_judged_by_what_the_kernel_says() {
        let root = KexecFacts {
            is_there: true,
            is_root: true,
            ..KexecFacts::default()
        };
        let verdict = |facts: &KexecFacts| {
            let Kexec { is_possible, notes } = facts.verdict();
            (is_possible, notes.join(" "))
        };
        assert_eq!(verdict(&root), (true, String::new()));
        let lockdown = |text: &str| Some(text.to_owned());
        for (facts, possible, says) in [
            (KexecFacts::default(), false, "CONFIG_KEXEC_FILE"),
            (
                KexecFacts {
                    is_disabled: true,
                    ..root.clone()
                },
                false,
                "kexec_load_disabled is 1",
            ),
            (
                KexecFacts {
                    lockdown: lockdown("none [integrity] confidentiality"),
                    ..root.clone()
                },
                true,
                "(integrity)",
            ),
            (
                KexecFacts {
                    lockdown: lockdown("[none] integrity confidentiality"),
                    ..root.clone()
                },
                true,
                "",
            ),
            (
                KexecFacts {
                    is_root: false,
                    ..root.clone()
                },
                true,
                "needs root",
            ),
            (
                KexecFacts {
                    is_loaded: true,
                    ..root.clone()
                },
                true,
                "loaded already",
            ),
        ] {
            let (is_possible, notes) = verdict(&facts);
            assert_eq!((is_possible, notes.contains(says)), (possible, true), "{notes}");
            // Nothing is said where nothing is to be said.
            assert_eq!(notes.is_empty(), says.is_empty(), "{notes}");
        }
    }

    #[test]
    fn an_error_is_explained_by_what_the_kernel_says_of_itself() {
        let root = KexecFacts {
            is_there: true,
            is_root: true,
            ..KexecFacts::default()
        };
        let locked = KexecFacts {
            lockdown: Some("none [integrity] confidentiality".to_owned()),
            ..root.clone()
        };
        let disabled = KexecFacts {
            is_disabled: true,
            ..locked.clone()
        };
        let used_up = KexecFacts {
            is_used_up: true,
            ..locked.clone()
        };
        for (facts, error, says) in [
            (&KexecFacts::default(), libc::EPERM, "it needs root"),
            (&root, libc::EPERM, "CAP_SYS_BOOT"),
            (&locked, libc::EPERM, "locked down (integrity)"),
            (&disabled, libc::EPERM, "kernel.kexec_load_disabled is 1"),
            (&used_up, libc::EPERM, "kernel.kexec_load_limit_reboot is 0"),
            (&locked, libc::ENODATA, "has no signature"),
            (&locked, libc::ENOKEY, "signed with a key that"),
            (&locked, libc::EKEYREJECTED, "rejects the kernel's signature"),
            (&locked, libc::ELIBBAD, "damaged"),
            (&locked, libc::EBADMSG, "damaged"),
            (&root, libc::ENOPKG, "algorithm"),
            (&root, libc::EACCES, "policy"),
            (&locked, libc::ENOEXEC, "bzImage"),
            (&root, libc::ENOMEM, "too little memory"),
            (&root, libc::EADDRNOTAVAIL, "no gap"),
            (&root, libc::EFBIG, "longer than"),
            (&root, libc::ETXTBSY, "writes"),
            (&root, libc::EBUSY, "being loaded"),
            (&root, libc::EINVAL, "command line"),
            (&root, libc::ENOSYS, "has no kexec_file_load"),
            (&root, libc::EIO, "does not take it"),
        ] {
            let said = facts.refusal(error);
            assert!(said.contains(says), "{error}: {said}");
        }
        // Only a refusal for want of rights is one of these.
        assert!(!locked.refusal(libc::ENOEXEC).contains("locked down"));
    }
}
