//! The programs of others that recon starts: no other can be named where one is started. `kiwi/programs.tsv` says where each comes
//! from, README what is run for what.

use std::path::PathBuf;
use std::process::Command;
use std::{fmt, io};

/// Makes [`Program`] and [`PROGRAMS`] of one table, a line for each, which `tools/check.sh` reads as well.
macro_rules! programs {
    ($($program:ident = $file:literal,)+) => {
        /// A program that recon starts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Program {
            $($program,)+
            #[cfg(test)]
            OfTests(&'static str),
        }

        /// All of them.
        pub const PROGRAMS: &[Program] = &[$(Program::$program),+];

        impl Program {
            /// Its file's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Program::$program => $file,)+
                    #[cfg(test)]
                    Program::OfTests(file) => file,
                }
            }
        }
    };
}

programs! {
    Arcconf = "arcconf",
    Bash = "bash",
    FsckExfat = "fsck.exfat",
    MkfsExfat = "mkfs.exfat",
    NvidiaSmi = "nvidia-smi",
    Perccli = "perccli64",
    Sh = "sh",
    Smartctl = "smartctl",
    Sqfstar = "sqfstar",
    Ssacli = "ssacli",
    Storcli = "storcli64",
    Systemctl = "systemctl",
    Udevadm = "udevadm",
}

impl Program {
    /// To be started by its caller, who waits for it. What only has to end in time is for [`super::cmd`] to run.
    pub(crate) fn command(self) -> Command {
        Command::new(self.name())
    }
}

/// The file of this program.
pub(crate) fn path() -> io::Result<PathBuf> {
    std::fs::read_link("/proc/self/exe")
}

/// This program once more, to be started by its caller.
pub(crate) fn this() -> Command {
    Command::new("/proc/self/exe")
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
