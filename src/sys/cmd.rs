//! Runs other programs to their end: status checked, output bounded, time limited. What runs beside us is started by its own caller:
//! a person's shell (cli/console), the site's `post.sh` (role/peer/post, behind the fence of [`super::sandbox`]), power off
//! ([`super::power`]).

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::process::end_group;
use super::program::Program;

/// How much of each output stream is kept: its end, where programs say what went wrong.
const TAIL_BYTES: usize = 8 * 1024;

/// Where programs are looked for. Fixed, because a unit's PATH may lack the sbin folders.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What a program said. Each stream holds at most the last 8 KiB, or what the caller wanted kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// Exit code; a program ended by a signal is an error instead.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CmdError {
    #[error("{program} is not installed (looked in {})", FOLDERS.join(", "))]
    Missing { program: Program },
    #[error("starting {program}")]
    Start {
        program: Program,
        #[source]
        source: io::Error,
    },
    #[error("{line}: ended with {status}{}", said(tail))]
    Failed { line: String, status: String, tail: String },
    #[error("{line}: not done after {} s, ended it{}", limit.as_secs(), said(tail))]
    TimedOut {
        line: String,
        limit: Duration,
        tail: String,
    },
}

fn said(tail: &str) -> String {
    let last: Vec<&str> = tail
        .lines()
        .rev()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .take(4)
        .collect();
    if last.is_empty() {
        return String::new();
    }
    format!(": {}", last.into_iter().rev().collect::<Vec<_>>().join("; "))
}

/// Runs `program` and takes exit status 0 for success, as `run_codes` does with other sets.
pub(crate) fn run<S: AsRef<OsStr>>(program: Program, args: &[S], limit: Duration) -> Result<Output, CmdError> {
    run_codes(program, args, limit, &[0])
}

/// Runs `program` with no input and the C locale, and waits for it at most `limit`.
///
/// Any exit code outside `accepted` is an error, with the last lines the program wrote. Past the limit the program and
/// its children are killed. Blocks; call it outside the async runtime.
pub(crate) fn run_codes<S: AsRef<OsStr>>(
    program: Program,
    args: &[S],
    limit: Duration,
    accepted: &[i32],
) -> Result<Output, CmdError> {
    run_keeping(program, args, limit, accepted, TAIL_BYTES)
}

/// As [`run_codes`], keeping the last `keep` bytes of each stream: for programs whose output is the answer.
pub(crate) fn run_keeping<S: AsRef<OsStr>>(
    program: Program,
    args: &[S],
    limit: Duration,
    accepted: &[i32],
    keep: usize,
) -> Result<Output, CmdError> {
    let path = find(program).ok_or(CmdError::Missing { program })?;
    let line = command_line(program, args);
    tracing::debug!(command = %line, "running");
    let start = |source| CmdError::Start { program, source };
    let mut child = spawn(&path, args).map_err(start)?;
    let stdout = tail_of(child.stdout.take(), keep);
    let stderr = tail_of(child.stderr.take(), keep);

    let status = ended_within(&mut child, limit).map_err(start)?;
    if status.is_none() {
        kill(&mut child);
    }
    let stdout = take_tail(&stdout, keep);
    let stderr = take_tail(&stderr, keep);
    let status = match status {
        Some(status) => match status.code() {
            Some(code) if accepted.contains(&code) => return Ok(Output { code, stdout, stderr }),
            Some(code) => Some(format!("exit status {code}")),
            None => Some(format!("signal {}", status.signal().unwrap_or(0))),
        },
        None => None,
    };
    let tail = if stderr.trim().is_empty() { stdout } else { stderr };
    Err(match status {
        Some(status) => CmdError::Failed { line, status, tail },
        None => CmdError::TimedOut { line, limit, tail },
    })
}

/// Starts a program as the leader of its own process group.
fn spawn<S: AsRef<OsStr>>(path: &Path, args: &[S]) -> io::Result<Child> {
    Command::new(path)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// Waits for the program; `None` where it still runs at the limit.
fn ended_within(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Ends a program and what it started.
fn kill(child: &mut Child) {
    // The program leads its own process group, so that what it started ends with it.
    if let Ok(group) = i32::try_from(child.id()) {
        // The group is ours as long as the child is not reaped, which is below.
        end_group(group);
    }
    // A program stuck in the kernel on a dead medium does not die; it is left behind rather than waited for.
    for _ in 0..50 {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// True where the program is there to be run.
pub(crate) fn exists(program: Program) -> bool {
    find(program).is_some()
}

fn find(program: Program) -> Option<PathBuf> {
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(program.name()))
        .find(|path| path.is_file())
}

fn command_line<S: AsRef<OsStr>>(program: Program, args: &[S]) -> String {
    let mut line = OsString::from(program.name());
    for arg in args {
        line.push(" ");
        line.push(arg);
    }
    line.to_string_lossy().into_owned()
}

/// Reads a stream to its end on a thread of its own, so that a talkative program never blocks on a full pipe.
fn tail_of(stream: Option<impl Read + Send + 'static>, keep: usize) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    if let Some(mut stream) = stream {
        std::thread::spawn(move || {
            let mut tail = Vec::new();
            let mut buffer = [0u8; 4096];
            while let Ok(count) = stream.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                tail.extend_from_slice(&buffer[..count]);
                if tail.len() > 2 * keep {
                    tail.drain(..tail.len() - keep);
                }
            }
            // The receiver may have given up on us; then nobody wants the text.
            let _ = sender.send(tail);
        });
    }
    receiver
}

fn take_tail(receiver: &mpsc::Receiver<Vec<u8>>, keep: usize) -> String {
    // A stream stays open when something outlives the program; its text is then not worth more waiting.
    let bytes = receiver.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    let start = bytes.len().saturating_sub(keep);
    String::from_utf8_lossy(&bytes[start..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_last_words() {
        let error = run(
            Program::Sh,
            &["-c", "echo working; echo 'no such medium' >&2; exit 3"],
            Duration::from_secs(5),
        );
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("exit status 3") && text.contains("no such medium"),
            "{text}"
        );
    }

    #[test]
    fn other_codes_can_be_accepted() {
        let output = run_codes(
            Program::Sh,
            &["-c", "echo repaired; exit 1"],
            Duration::from_secs(5),
            &[0, 1],
        )
        .unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (1, "repaired\n"));
    }

    #[test]
    fn a_program_over_its_time_is_ended_with_its_children() {
        let begin = Instant::now();
        let error = run(
            Program::Sh,
            &["-c", "echo begun; sleep 600 & sleep 600"],
            Duration::from_millis(200),
        );
        assert!(matches!(error, Err(CmdError::TimedOut { .. })), "{error:?}");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_talkative_program_is_cut_to_its_end() {
        let output = run(Program::Sh, &["-c", "seq 1 200000"], Duration::from_secs(20)).unwrap();
        assert!(output.stdout.len() <= TAIL_BYTES && output.stdout.ends_with("200000\n"));
    }

    #[test]
    fn a_missing_program_is_named() {
        let text = run(Program::OfTests("mkfs.nothing"), &["x"], Duration::from_secs(1))
            .unwrap_err()
            .to_string();
        assert!(text.starts_with("mkfs.nothing is not installed"), "{text}");
    }
}
