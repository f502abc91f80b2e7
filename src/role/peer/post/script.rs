//! Runs the workload's `post.sh` behind its keeper, and keeps what it says.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::results::Limits;
use crate::sys::program::Program;
use crate::sys::sandbox::{self, Fence, Fenced};

/// How often the keeper is told to go on.
const WAKING: Duration = Duration::from_secs(1);

/// Bounds of the workload.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Unpacked size.
    pub unpacked_bytes: u64,
    pub entries: usize,
    pub run: Duration,
    /// Standard output and error that are kept, from the start.
    pub output_bytes: usize,
    /// What comes home of the result folder.
    pub results: Limits,
    pub fence: Fence,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            unpacked_bytes: 512 << 20,
            entries: 20_000,
            run: Duration::from_secs(600),
            output_bytes: 1 << 20,
            results: Limits::default(),
            fence: Fence {
                processes: 8192,
                spare_bytes: 256 << 20,
            },
        }
    }
}

/// Runs the script; `None` if it has no exit code. Whatever it started ends with it.
pub(super) async fn run(
    folder: &Path,
    environment: &[(&str, String)],
    bounds: Bounds,
    output: &mut Vec<u8>,
    problems: &mut Vec<String>,
) -> io::Result<Option<i32>> {
    if !folder.join("post.sh").is_file() {
        let why = "post.tgz holds no post.sh at its top";
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    let mut command = Program::Sh.command();
    command
        .arg("./post.sh")
        .current_dir(folder)
        .env("RECON_RESULT", folder.join("result"))
        .envs(environment.iter().map(|(key, value)| (*key, value.as_str())));
    let mut fenced = sandbox::start(command, bounds.fence)?;
    let ended = tokio::time::timeout(bounds.run, listen(&mut fenced, bounds.output_bytes, output)).await;
    // What it wrote last is in the pipe, and stays readable; who else holds the other end is not waited for.
    drain(&fenced, bounds.output_bytes, output);
    let left = fenced.end().await;
    if left > 0 {
        problems.push(format!("{left} processes of post.sh could not be ended"));
    }
    use std::os::unix::process::ExitStatusExt;
    let problem = match ended {
        Err(_) => format!("post.sh was ended after {} s", bounds.run.as_secs()),
        Ok(None) => "post.sh was ended with everything it had started".to_owned(),
        Ok(Some(status)) => {
            let signal = status.signal();
            problems.extend(signal.map(|signal| format!("post.sh was ended by signal {signal}")));
            return Ok(status.code());
        }
    };
    problems.push(problem);
    Ok(None)
}

/// Keeps what the script says until it ends, and gives how it did.
async fn listen(fenced: &mut Fenced, limit: usize, output: &mut Vec<u8>) -> Option<std::process::ExitStatus> {
    let mut chunk = [0; 8192];
    let mut open = true;
    let mut waking = tokio::time::interval(WAKING);
    loop {
        // Its end is told by another pipe than its words.
        let (said, ended) = fenced.parts();
        tokio::select! {
            read = said.read(&mut chunk), if open => match read {
                Ok(0) | Err(_) => open = false,
                Ok(count) => keep(output, &chunk[..count], limit),
            },
            status = ended => return status,
            _ = waking.tick() => fenced.go_on(),
        }
    }
}

fn keep(output: &mut Vec<u8>, said: &[u8], limit: usize) {
    let room = limit.saturating_sub(output.len());
    output.extend(&said[..said.len().min(room)]);
}

fn drain(fenced: &Fenced, limit: usize, output: &mut Vec<u8>) {
    /// What a pipe holds (pipe(7)); a program that goes on writing is not listened to for longer.
    const PIPE_BYTES: usize = 1 << 16;
    let mut chunk = [0; 8192];
    let mut read = 0;
    while read < PIPE_BYTES
        && let Ok(count @ 1..) = fenced.output().try_read(&mut chunk)
    {
        keep(output, &chunk[..count], limit);
        read += count;
    }
}
