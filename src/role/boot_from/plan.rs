//! What a boot script would start here, and what stands against it. Pure.
//!
//! Everything that is shown is without secrets, and harmless to terminals.

use std::fmt::Write;
use std::str::FromStr;

use serde::Serialize;

use super::kexec::Kexec;
use crate::formats::boot_image;
use crate::model::shown::{self, Shown};
use crate::model::{BootMethod, secrets};
use crate::probe::text::decimal_size;
use crate::service::boot_script::{self, Initrd};

/// Memory that loading takes beside the files themselves, in tenths of their size: the kernel holds a copy and the segments it makes of
/// it. Measured with 62 MB and Debian's kernel 6.12: 3.04 times is enough and 2.53 times is not, out of memory inside the system call.
const LOAD_TENTHS: u64 = 31;
/// Longest command line of a kernel that does not say its own (`COMMAND_LINE_SIZE` of arch/x86 and arch/arm64, less the closing zero).
const COMMAND_LINE_BYTES: usize = 2047;
/// Of the length that a bzImage says, what its loader keeps free for a crash kernel's `elfcorehdr=` (`MAX_ELFCOREHDR_STR_LEN`), and the
/// closing zero, which it counts (`bzImage64_load` of arch/x86/kernel/kexec-bzimage64.c).
const KEPT_FREE_BYTES: usize = 30 + 1;

/// A file, as far as it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its length in bytes, where the server says it.
    bytes: Option<u64>,
    /// What kernel its beginning is of, and what initrd; or what it is instead.
    kernel: Result<boot_image::Kernel, String>,
    initrd: Result<&'static str, String>,
}

impl Seen {
    pub(super) fn of(bytes: Option<u64>, head: &[u8]) -> Self {
        Self {
            bytes,
            kernel: boot_image::kernel(head),
            initrd: boot_image::initrd(head),
        }
    }

    /// What it is where it is no kernel.
    pub(super) fn no_kernel(&self) -> Option<&str> {
        self.kernel.as_ref().err().map(String::as_str)
    }

    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }
}

/// What a file has to have, by its name or by the last part of its URL: `vmlinuz=HEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sum {
    name: String,
    pub(super) sha256: [u8; 32],
}

impl FromStr for Sum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not NAME=SHA256 with 64 digits in hex");
        let (name, hex) = text
            .rsplit_once('=')
            .filter(|(_, hex)| hex.len() == 64)
            .ok_or_else(wrong)?;
        let mut sha256 = [0; 32];
        for (byte, digits) in sha256.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        let name = name.to_owned();
        Ok(Self { name, sha256 })
    }
}

/// All that a file has to have: the sums of its name, or where there are none, those of the last part of its URL.
pub(super) fn sums_of<'a>(sums: &'a [Sum], name: &str, url: &str) -> Vec<&'a Sum> {
    let called = |name: &str| sums.iter().filter(|sum| sum.name == name).collect::<Vec<_>>();
    let own = called(name);
    match own.is_empty() {
        true => called(last_part(url)),
        false => own,
    }
}

/// What stands against a start where sums are given. A file without one would be the script's choice, and so would be what is checked;
/// and whoever gave one of no file would believe that file to be checked.
fn sum_problems(sums: &[Sum], wanted: &boot_script::Plan) -> Vec<String> {
    let initrds = wanted.initrds.iter();
    let initrds = initrds.map(|initrd| (initrd.name.as_str(), initrd.url.as_str()));
    let files: Vec<_> = std::iter::once((last_part(&wanted.url), wanted.url.as_str()))
        .chain(initrds)
        .collect();
    let mut names: Vec<_> = files.iter().map(|(name, _)| shown::line(name)).collect();
    names.dedup();
    let names = names.join(", ");
    let of_file = |(name, url): &(&str, &str)| sums_of(sums, name, url);
    let used: Vec<&Sum> = files.iter().flat_map(of_file).collect();
    let unused = sums.iter().filter(|sum| !used.contains(sum));
    let mut problems: Vec<String> = unused
        .map(|sum| format!("no file is called {}; there are {names}", sum.name))
        .collect();
    let bare = files.iter().filter(|file| of_file(file).is_empty() && !sums.is_empty());
    problems.extend(bare.map(|(name, _)| format!("no sum is given for {}", shown::line(name))));
    // Of a plan in JSON and of whoever asks, say.
    let at_odds = |file: &&(&str, &str)| {
        let mut sums = of_file(file).into_iter().map(|sum| sum.sha256);
        let first = sums.next();
        sums.any(|sum| Some(sum) != first)
    };
    let at_odds = files.iter().filter(at_odds);
    problems
        .extend(at_odds.map(|(name, _)| format!("two sums are given for {}, and no file has both", shown::line(name))));
    problems
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) url: String,
    /// `None` where the server does not say it.
    pub(crate) bytes: Option<u64>,
    pub(crate) form: Option<String>,
    /// Where a plain file goes in the root file system.
    pub(crate) path: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// Of all files whose length is known.
    pub(crate) files_bytes: u64,
    /// What loading takes beside them.
    pub(crate) load_bytes: u64,
    pub(crate) needed_bytes: u64,
    pub(crate) available_bytes: Option<u64>,
    pub(crate) is_enough: bool,
}

/// Memory for files of so many bytes, `held` of which are in memory already.
pub(super) fn memory(files_bytes: u64, held: u64, available_bytes: Option<u64>) -> Memory {
    let load_bytes = files_bytes.saturating_mul(LOAD_TENTHS).div_ceil(10);
    let needed_bytes = load_bytes.saturating_add(files_bytes.saturating_sub(held));
    Memory {
        files_bytes,
        load_bytes,
        needed_bytes,
        available_bytes,
        is_enough: available_bytes.is_none_or(|available| available >= needed_bytes),
    }
}

impl Memory {
    /// Why there is not enough.
    pub(super) fn refusal(&self) -> Option<String> {
        let available = self.available_bytes.filter(|_| !self.is_enough)?;
        Some(format!(
            "too little memory: {} are needed for {} of files, and {} are available",
            decimal_size(self.needed_bytes),
            decimal_size(self.files_bytes),
            decimal_size(available)
        ))
    }
}

/// What would be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Boot {
    pub(crate) kernel: File,
    pub(crate) command_line: String,
    pub(crate) initrds: Vec<File>,
    pub(crate) memory: Memory,
    /// SHA-256 that files have to have. Nothing is compared with them before the files are fetched whole.
    pub(crate) sums_given: usize,
    /// Why it would not start.
    pub(crate) problems: Vec<String>,
}

pub(super) fn last_part(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

/// `seen` gives what was seen of an image, by its number. Where nothing is loaded here, what loading needs stands against nothing.
pub(super) fn boot<'a>(
    plan: &boot_script::Plan,
    seen: impl Fn(usize) -> Option<&'a Seen>,
    sums: &[Sum],
    available_bytes: Option<u64>,
    method: BootMethod,
) -> Boot {
    let mut problems = Vec::new();
    let nothing = Seen::of(None, &[]);
    let known = seen(plan.kernel).unwrap_or(&nothing);
    let read = &known.kernel;
    let kernel = File {
        name: shown::line(last_part(&plan.url)).into_owned(),
        url: secrets::url(&plan.url),
        bytes: known.bytes,
        form: read.as_ref().ok().map(|kernel| kernel.form.to_owned()),
        path: None,
    };
    match read {
        Ok(read) if method == BootMethod::Reboot => {
            problems.extend(foreign(read).into_iter().chain(cut_short(read, known.bytes)))
        }
        Ok(read) => problems.extend(unfit(read, known.bytes, &plan.command_line)),
        Err(why) => problems.push(format!("{}: {why}", kernel.name)),
    }
    let mut initrds = Vec::new();
    for initrd in &plan.initrds {
        let (file, problem) = initrd_of(initrd, seen(initrd.image).unwrap_or(&nothing));
        problems.extend(problem);
        initrds.push(file);
    }
    let files_bytes = initrds
        .iter()
        .chain([&kernel])
        .filter_map(|file| file.bytes)
        .fold(0, u64::saturating_add);
    let memory = memory(files_bytes, 0, available_bytes);
    problems.extend(memory.refusal().filter(|_| method == BootMethod::Kexec));
    problems.extend(sum_problems(sums, plan));
    Boot {
        kernel,
        command_line: secrets::text(&plan.command_line),
        initrds,
        memory,
        sums_given: sums.len(),
        problems,
    }
}

fn initrd_of(initrd: &Initrd, seen: &Seen) -> (File, Option<String>) {
    let read = match &initrd.place {
        // Whatever it is.
        Some(_) => Ok("plain file"),
        None => seen.initrd.as_deref(),
    };
    let name = shown::line(&initrd.name).into_owned();
    let problem = read.as_ref().err().map(|why| format!("{name}: {why}"));
    let place = initrd.place.as_ref().map(|place| format!("/{}", place.path));
    let file = File {
        name,
        url: secrets::url(&initrd.url),
        bytes: seen.bytes,
        form: read.ok().map(str::to_owned),
        path: place,
    };
    (file, problem)
}

/// That no machine of this kind runs this kernel.
fn foreign(kernel: &boot_image::Kernel) -> Option<String> {
    let here = std::env::consts::ARCH;
    let arch = kernel.arch.filter(|arch| *arch != here)?;
    Some(format!("the kernel is for {arch}, and this machine is {here}"))
}

/// That a file of so many bytes lacks the end of this kernel, of which no loader would know before it runs.
fn cut_short(kernel: &boot_image::Kernel, bytes: Option<u64>) -> Option<String> {
    let (bytes, least) = bytes.zip(kernel.least_bytes)?;
    let words = || format!("the kernel is cut short: by its own head it has {least} bytes, and its file has {bytes}");
    (bytes < least).then(words)
}

/// What this kernel has against this machine, against the length of its file in bytes where that is known, and against its command line.
pub(super) fn unfit(kernel: &boot_image::Kernel, bytes: Option<u64>, command_line: &str) -> Vec<String> {
    let mut problems = Vec::from_iter(foreign(kernel));
    problems.extend(cut_short(kernel, bytes));
    if kernel.arch.is_none() && std::env::consts::ARCH == "x86_64" {
        problems.push(format!(
            "the kernel is in a form ({}) that kexec takes on ARM only",
            kernel.form
        ));
    }
    let most = kernel.command_line_bytes.map_or(COMMAND_LINE_BYTES, |bytes| {
        (bytes as usize).saturating_sub(KEPT_FREE_BYTES)
    });
    if command_line.len() > most {
        problems.push(format!(
            "its command line has {} bytes, and the kernel takes {most}",
            command_line.len()
        ));
    }
    problems
}

/// How the script ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    Boot(Box<Boot>),
    /// It ended without anything to start: with 0, or the number that it ended with.
    Exit(u32),
    Shell,
    Reboot,
    PowerOff,
    /// Whoever writes the scripts leaves this machine to its disk.
    LocalDisk,
    /// It did not come to its end: why, in words.
    Failed(String),
}

/// What `--plan` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub(crate) script: String,
    /// What the script says on its way, and what was decided in the place of a person.
    pub(crate) said: Vec<String>,
    pub(crate) end: End,
    pub(crate) kexec: Kexec,
}

impl Report {
    /// Whether a start would come to something: another kernel, or this machine's own disk where a service leaves it to that.
    /// Whether this very machine has kexec is another matter: a plan is of use elsewhere too.
    pub(crate) fn is_startable(&self, method: BootMethod) -> bool {
        match &self.end {
            End::Boot(boot) => boot.problems.is_empty(),
            End::LocalDisk => true,
            End::Reboot => method == BootMethod::Reboot,
            End::Exit(_) | End::Shell | End::PowerOff | End::Failed(_) => false,
        }
    }

    pub(crate) fn text(&self) -> Shown {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "Script    {}", shown::line(&self.script));
        for (number, said) in self.said.iter().enumerate() {
            let label = if number == 0 { "says" } else { "" };
            let _ = writeln!(out, "  {label:<7} {}", shown::line(said));
        }
        let ends = |what: &str| format!("Nothing is started: {what}\n");
        match &self.end {
            End::Boot(boot) => boot.write(&mut out),
            End::Exit(0) => {
                out += &ends("the script ends without `boot`, and the next boot device would have its turn")
            }
            End::Exit(code) => out += &ends(&format!("the script ends with the error {code}")),
            End::Shell => out += &ends("the script opens a shell"),
            End::Reboot => out += &ends("the script reboots the machine"),
            End::PowerOff => out += &ends("the script switches the machine off"),
            End::Failed(why) => out += &ends(&shown::line(why)),
            End::LocalDisk => {
                out += &ends(
                    "assisted-service has no script for this machine, which is installed or about to be: it boots from its disk",
                );
            }
        }
        let possible = if self.kexec.is_possible {
            "possible"
        } else {
            "not possible"
        };
        let notes: Vec<_> = self.kexec.notes.iter().map(|note| shown::line(note)).collect();
        let _ = writeln!(
            out,
            "kexec     {}",
            [&[possible.into()][..], &notes].concat().join("; ")
        );
        Shown::lines(&out)
    }
}

impl Boot {
    fn write(&self, out: &mut String) {
        let file = |label: &str, file: &File| {
            let size = file.bytes.map_or_else(|| "size not told".to_owned(), decimal_size);
            let path = file.path.as_ref().map(|path| format!(" as {path}")).unwrap_or_default();
            let form = file.form.as_deref().unwrap_or("unknown form");
            let words = format!("{} ({size}, {form}){path}", file.name);
            format!(
                "{label:<9} {}\n          {}\n",
                shown::line(&words),
                shown::line(&file.url)
            )
        };
        *out += &file("Kernel", &self.kernel);
        let _ = writeln!(out, "  line    {}", shown::line(&self.command_line));
        for initrd in &self.initrds {
            *out += &file("Initrd", initrd);
        }
        let memory = &self.memory;
        let available = memory
            .available_bytes
            .map_or_else(|| "an unknown amount".to_owned(), decimal_size);
        let _ = writeln!(
            out,
            "Memory    {} needed: {} of files, and {} times that to load them; {available} available",
            decimal_size(memory.needed_bytes),
            decimal_size(memory.files_bytes),
            LOAD_TENTHS as f64 / 10.0
        );
        if self.sums_given > 0 {
            let _ = writeln!(
                out,
                "Sums      {} given: compared when the files are fetched whole, not here",
                self.sums_given
            );
        }
        for problem in &self.problems {
            let _ = writeln!(out, "Problem   {}", shown::line(problem));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kexec::KexecFacts;
    use super::*;
    use crate::formats::boot_image::tests::bzimage;
    use crate::model::shown::{EVIL, assert_harmless};
    use crate::service::boot_script::Place;

    fn plan() -> boot_script::Plan {
        let initrd = |image, name: &str, place| Initrd {
            image,
            name: name.to_owned(),
            url: format!("http://u:hunter2@a/{name}?token=hunter2"),
            place,
        };
        let place = Place {
            path: "etc/x".to_owned(),
            mode: 0o600,
            folders: 0,
        };
        boot_script::Plan {
            kernel: 1,
            url: "http://a/linux?image_token=hunter2".to_owned(),
            command_line: "console=ttyS0 recon.token=hunter2".to_owned(),
            initrds: vec![initrd(2, "main", None), initrd(3, "extra", Some(place))],
        }
    }

    fn of(kernel: Vec<u8>, initrd: &[u8], available: u64) -> Boot {
        let seen = [
            Seen::of(Some(12_000_000), &kernel),
            Seen::of(Some(48_000_000), initrd),
            Seen::of(None, b"<html>"),
        ];
        boot(
            &plan(),
            |image| seen.get(image - 1),
            &[],
            Some(available),
            BootMethod::Kexec,
        )
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_only_kexec_needs_stands_against_no_other_start() {
        let mut long = plan();
        long.command_line = "x".repeat(100_000);
        let problems = |kernel: Vec<u8>, method| {
            let seen = [
                Seen::of(Some(1 << 40), &kernel),
                Seen::of(None, b"070701"),
                Seen::of(None, b""),
            ];
            boot(&long, |image| seen.get(image - 1), &[], Some(1), method).problems
        };
        assert_eq!(problems(bzimage(), BootMethod::Kexec).len(), 2);
        assert_eq!(problems(bzimage(), BootMethod::Reboot), [""; 0]);
        assert_eq!(
            problems(b"<html>".to_vec(), BootMethod::Reboot).len(),
            1,
            "no kernel at all"
        );
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_kernel_that_lacks_its_end_is_not_started() {
        let problems = |bytes, method| {
            let kernel = Seen::of(bytes, &bzimage());
            let other = Seen::of(None, b"070701");
            let seen = |image| Some(if image == 1 { &kernel } else { &other });
            boot(&plan(), seen, &[], None, method).problems
        };
        let whole = bzimage().len() as u64;
        for method in [BootMethod::Kexec, BootMethod::Reboot] {
            assert_eq!(problems(None, method), [""; 0]);
            assert_eq!(problems(Some(whole), method), [""; 0]);
            assert_eq!(
                problems(Some(whole - 1), method),
                ["the kernel is cut short: by its own head it has 1024 bytes, and its file has 1023"]
            );
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_good_plan_says_what_is_started_and_no_secret() {
        let boot = of(bzimage(), b"070701", 246_000_000);
        assert_eq!(boot.problems, [""; 0]);
        assert_eq!(
            (
                boot.memory.files_bytes,
                boot.memory.load_bytes,
                boot.memory.needed_bytes
            ),
            (60_000_000, 186_000_000, 246_000_000)
        );
        assert_eq!(boot.initrds[1].path.as_deref(), Some("/etc/x"));
        let report = Report {
            script: "http://a/boot.ipxe".to_owned(),
            said: vec!["hello".to_owned(), "again".to_owned()],
            end: End::Boot(Box::new(boot)),
            kexec: KexecFacts {
                is_there: true,
                ..KexecFacts::default()
            }
            .verdict(),
        };
        let text = report.text();
        assert_eq!(
            &*text,
            "Script    http://a/boot.ipxe\n  says    hello\n          again\n\
             Kernel    linux (12 MB, bzImage)\n          http://a/linux?image_token=[hidden]\n\
             \x20 line    console=ttyS0 recon.token=[hidden]\n\
             Initrd    main (48 MB, cpio)\n          http://[hidden]@a/main?token=[hidden]\n\
             Initrd    extra (size not told, plain file) as /etc/x\n          http://[hidden]@a/extra?token=[hidden]\n\
             Memory    246 MB needed: 60 MB of files, and 3.1 times that to load them; 246 MB available\n\
             kexec     possible; it needs root\n"
        );
        let json = Shown::json(&report).unwrap();
        assert!(!json.contains("hunter2") && !text.contains("hunter2"), "{json}");
    }

    #[test]
    fn what_stands_against_a_boot_is_said() {
        let mut kernel = bzimage();
        kernel[0x238] = 9 + 31;
        kernel[0x239] = 0;
        let problems = of(kernel, b"<html><title>Log in</title>", 245_999_999)
            .problems
            .join("\n");
        for what in [
            "has 33 bytes, and the kernel takes 9",
            "main: it is no initrd but a web page (HTML): \"Log in\"",
            "too little memory: 246 MB are needed for 60 MB of files, and 246 MB are available",
        ] {
            assert!(problems.contains(what), "{problems}");
        }
        // 2047 less the 31 that the loader keeps free.
        let read = boot_image::kernel(&bzimage()).unwrap();
        let too_long = |bytes: usize| {
            let problems = unfit(&read, None, &"x".repeat(bytes));
            problems
                .iter()
                .any(|problem| problem.contains("and the kernel takes 2016"))
        };
        assert!(!too_long(2016) && too_long(2017));
        assert_eq!(crate::config::boot_file::MAX_APPEND_BYTES, 2016);
        let mut arm = vec![0; 64];
        arm[56..60].copy_from_slice(b"ARM\x64");
        let other = boot_image::Kernel {
            arch: Some("sparc"),
            ..boot_image::kernel(&arm).unwrap()
        };
        assert!(unfit(&other, None, "")[0].contains("is for sparc"));
        assert!(of(b"<html>".to_vec(), b"070701", 0).problems[0].starts_with("linux: it is no kernel but a web page"));
    }

    #[test]
    fn where_a_sum_is_given_every_file_has_one() {
        let problems = |names: &[&str]| {
            let sums: Vec<Sum> = names
                .iter()
                .map(|name| format!("{name}={}", "0".repeat(64)).parse().unwrap())
                .collect();
            // What the files are like is not asked here.
            let of_sums = |problem: &String| problem.contains(" sum ") || problem.contains("no file");
            let mut problems = boot(&plan(), |_| None, &sums, None, BootMethod::Kexec).problems;
            problems.retain(of_sums);
            problems.join("; ")
        };
        assert_eq!(problems(&[]), "");
        assert_eq!(problems(&["linux", "main", "extra"]), "");
        assert_eq!(
            problems(&["linux"]),
            "no sum is given for main; no sum is given for extra"
        );
        assert_eq!(
            problems(&["linux", "main", "extra", "vmlinuz"]),
            "no file is called vmlinuz; there are linux, main, extra"
        );
        let twice = [
            format!("linux={}", "0".repeat(64)).parse().unwrap(),
            format!("linux={}", "1".repeat(64)).parse().unwrap(),
        ];
        let found = boot(&plan(), |_| None, &twice, None, BootMethod::Kexec).problems;
        assert!(
            found
                .iter()
                .any(|problem| problem.starts_with("two sums are given for linux")),
            "{found:?}"
        );
        // The script names another kernel, and the one that the sum is of an initrd.
        let mut swapped = plan();
        swapped.url = "http://a/evil".to_owned();
        swapped.initrds[0].name = "linux".to_owned();
        swapped.initrds.truncate(1);
        let sums = [format!("linux={}", "0".repeat(64)).parse().unwrap()];
        let found = boot(&swapped, |_| None, &sums, None, BootMethod::Kexec).problems;
        assert!(found.contains(&"no sum is given for evil".to_owned()), "{found:?}");
    }

    #[test]
    fn memory_that_is_held_is_not_needed_again() {
        assert_eq!(memory(100, 100, None).needed_bytes, 310);
        assert!(!memory(100, 0, Some(409)).is_enough);
        assert!(memory(100, 0, Some(410)).is_enough && memory(u64::MAX, 0, None).is_enough);
    }

    #[test]
    fn words_of_a_script_do_nothing_to_a_terminal() {
        let mut evil = plan();
        (evil.url, evil.command_line) = (format!("http://a/{EVIL}"), EVIL.to_owned());
        evil.initrds[0].name = EVIL.to_owned();
        let end = End::Boot(Box::new(boot(&evil, |_| None, &[], None, BootMethod::Kexec)));
        let report = Report {
            script: EVIL.to_owned(),
            said: vec![EVIL.to_owned()],
            end,
            kexec: KexecFacts::default().verdict(),
        };
        assert_harmless(&report.text());
        assert_harmless(&Shown::json(&report).unwrap());
        for end in [
            End::Exit(0),
            End::Exit(1),
            End::Shell,
            End::Reboot,
            End::PowerOff,
            End::LocalDisk,
        ] {
            assert!(Report { end, ..report.clone() }.text().contains("Nothing is started"));
        }
    }
}
