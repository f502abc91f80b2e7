//! The site's own workload: `post.tgz` of the stick, unpacked and run on the peer, its output kept. Whatever goes wrong
//! here is recorded and never stops the inventory.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::AsyncReadExt;

/// Bounds of the workload.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Unpacked size.
    pub unpacked_bytes: u64,
    pub entries: usize,
    pub run: Duration,
    /// Standard output and error that are kept, from the start.
    pub output_bytes: usize,
    /// All files of the result folder together.
    pub result_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            unpacked_bytes: 512 << 20,
            entries: 20_000,
            run: Duration::from_secs(600),
            output_bytes: 1 << 20,
            result_bytes: 16 << 20,
        }
    }
}

/// `post/status.json` of the upload.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The script ran to its end with exit code 0.
    pub succeeded: bool,
    pub exit_code: Option<i32>,
    /// What went wrong, and what was cut.
    pub problems: Vec<String>,
    pub duration_seconds: f64,
}

/// What goes into the upload under `post/`.
#[derive(Debug)]
pub struct Results {
    pub status: Status,
    pub output: Vec<u8>,
    /// Relative names with content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Unpacks `archive` into `folder`, which is made anew, and runs its `post.sh` there. The script finds its result folder in
/// `RECON_RESULT`, and `environment` beside it.
pub async fn run(archive: Vec<u8>, folder: &Path, environment: &[(&str, String)], bounds: Bounds) -> Results {
    let started = Instant::now();
    let mut problems = Vec::new();
    let mut output = Vec::new();
    let mut exit_code = None;
    let result = folder.join("result");
    let place = folder.to_owned();
    let prepared = tokio::task::spawn_blocking(move || unpack(&archive, &place, bounds)).await;
    match prepared.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Err(error) => problems.push(format!("unpacking post.tgz: {error}")),
        Ok(()) => match script(folder, &result, environment, bounds, &mut output).await {
            Ok(Some(code)) => exit_code = Some(code),
            Ok(None) => problems.push(format!("post.sh was ended after {} s or by a signal", bounds.run.as_secs())),
            Err(error) => problems.push(format!("running post.sh: {error}")),
        },
    }
    if output.len() >= bounds.output_bytes {
        problems.push(format!("output beyond {} bytes was left out", bounds.output_bytes));
    }
    let files = gather(&result, bounds.result_bytes, &mut problems);
    let duration_seconds = started.elapsed().as_secs_f64();
    let status = Status { succeeded: exit_code == Some(0), exit_code, problems, duration_seconds };
    Results { status, output, files }
}

fn unpack(archive: &[u8], folder: &Path, bounds: Bounds) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir_all(folder.join("result"))?,
    }
    // One byte more than allowed shows that there is more.
    let plain = flate2::read::MultiGzDecoder::new(archive).take(bounds.unpacked_bytes + 1);
    let mut tar = tar::Archive::new(plain);
    let mut total = 0u64;
    for (count, entry) in tar.entries()?.enumerate() {
        let mut entry = entry?;
        total = total.saturating_add(entry.size());
        if total > bounds.unpacked_bytes || count >= bounds.entries {
            return Err(io::Error::other(format!(
                "more than {} bytes or {} files",
                bounds.unpacked_bytes, bounds.entries
            )));
        }
        // unpack_in refuses paths that leave the folder.
        if !entry.unpack_in(folder)? {
            return Err(io::Error::other(format!("an unsafe path: {}", entry.path()?.display())));
        }
    }
    Ok(())
}

/// Runs the script; `None` if it was ended. Its whole process group is ended with it.
async fn script(
    folder: &Path,
    result: &Path,
    environment: &[(&str, String)],
    bounds: Bounds,
    output: &mut Vec<u8>,
) -> io::Result<Option<i32>> {
    if !folder.join("post.sh").is_file() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "post.tgz holds no post.sh at its top"));
    }
    let (reader, writer) = io::pipe()?;
    let mut child = tokio::process::Command::new("sh")
        .arg("./post.sh")
        .current_dir(folder)
        .env("RECON_RESULT", result)
        .envs(environment.iter().map(|(key, value)| (*key, value.as_str())))
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = child.id();
    let mut reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?;
    let limit = bounds.output_bytes;
    let work = async {
        let mut chunk = [0; 8192];
        let mut open = true;
        loop {
            tokio::select! {
                read = reader.read(&mut chunk), if open => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(count) => {
                        let room = limit.saturating_sub(output.len());
                        output.extend(&chunk[..count.min(room)]);
                    }
                },
                status = child.wait() => {
                    // What is left in the pipe; a background child that holds it open is not waited for.
                    while let Ok(count) = reader.try_read(&mut chunk) {
                        if count == 0 { break; }
                        let room = limit.saturating_sub(output.len());
                        output.extend(&chunk[..count.min(room)]);
                    }
                    return status;
                }
            }
        }
    };
    let ended = tokio::time::timeout(bounds.run, work).await;
    if let Some(group) = group.and_then(|id| i32::try_from(id).ok()) {
        crate::sys::process::end_group(group);
    }
    match ended {
        Ok(status) => Ok(status?.code()),
        Err(_) => Ok(None),
    }
}

/// Reads the result folder, plain files only, until the bound is reached.
fn gather(result: &Path, limit: u64, problems: &mut Vec<String>) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut left = limit;
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(result.join(&folder)) else { continue };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = folder.join(entry.file_name());
            let (Ok(kind), Some(text)) = (entry.file_type(), name.to_str()) else { continue };
            if kind.is_dir() {
                folders.push(name);
            } else if kind.is_file() {
                let mut bytes = Vec::new();
                let read = std::fs::File::open(entry.path()).and_then(|file| file.take(left + 1).read_to_end(&mut bytes));
                match read {
                    Ok(_) if bytes.len() as u64 > left => {
                        problems.push(format!("result/{text} and what follows was left out: over {limit} bytes"));
                        return files;
                    }
                    Ok(_) => {
                        left -= bytes.len() as u64;
                        files.push((text.to_owned(), bytes));
                    }
                    Err(error) => problems.push(format!("reading result/{text}: {error}")),
                }
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            // Set by hand: the library refuses to write the unsafe names that are tested here.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    async fn run_script(files: &[(&str, &str)], bounds: Bounds) -> Results {
        let dir = tempfile::tempdir().unwrap();
        run(archive(files), &dir.path().join("post"), &[("RECON_NODE", "mac-1".into())], bounds).await
    }

    #[tokio::test]
    async fn output_and_results_come_back() {
        let script = "echo hello $RECON_NODE; echo oops >&2; mkdir $RECON_RESULT/a; echo 1 > $RECON_RESULT/a/b; exit 0";
        let results = run_script(&[("post.sh", script)], Bounds::default()).await;
        assert!(results.status.succeeded, "{:?}", results.status);
        let output = String::from_utf8(results.output).unwrap();
        assert!(output.contains("hello mac-1") && output.contains("oops"));
        assert_eq!(results.files, [("a/b".to_owned(), b"1\n".to_vec())]);
    }

    #[tokio::test]
    async fn a_failing_script_is_recorded() {
        let results = run_script(&[("post.sh", "echo bad; exit 7")], Bounds::default()).await;
        assert_eq!((results.status.succeeded, results.status.exit_code), (false, Some(7)));
        assert_eq!(results.output, b"bad\n");
    }

    #[tokio::test]
    async fn a_script_that_hangs_is_ended_with_its_children() {
        let bounds = Bounds { run: Duration::from_millis(300), ..Bounds::default() };
        let results = run_script(&[("post.sh", "echo on; (sleep 60 &) ; sleep 60")], bounds).await;
        assert!(!results.status.succeeded);
        assert!(results.status.problems[0].contains("ended after"), "{:?}", results.status);
        assert!(results.status.duration_seconds < 20.0);
    }

    #[tokio::test]
    async fn a_background_child_is_not_waited_for() {
        let results = run_script(&[("post.sh", "sleep 60 & echo done")], Bounds::default()).await;
        assert!(results.status.succeeded && results.status.duration_seconds < 20.0);
    }

    #[tokio::test]
    async fn bad_archives_are_recorded() {
        for (files, word) in [
            (vec![("../evil", "x"), ("post.sh", "exit 0")], "unsafe path"),
            (vec![("readme", "x")], "no post.sh"),
        ] {
            let results = run_script(&files, Bounds::default()).await;
            assert!(results.status.problems.join(" ").contains(word), "{word}: {:?}", results.status);
        }
        let dir = tempfile::tempdir().unwrap();
        let results = run(b"not gzip".to_vec(), &dir.path().join("p"), &[], Bounds::default()).await;
        assert!(results.status.problems[0].contains("unpacking"));
    }

    #[tokio::test]
    async fn every_bound_holds() {
        let big = "x".repeat(5000);
        let small = Bounds { unpacked_bytes: 4000, ..Bounds::default() };
        let results = run_script(&[("post.sh", "exit 0"), ("big", &big)], small).await;
        assert!(results.status.problems[0].contains("4000 bytes"), "{:?}", results.status);
        let chatty = Bounds { output_bytes: 100, result_bytes: 10, ..Bounds::default() };
        let script = "yes | head -c 10000; yes | head -c 50 > $RECON_RESULT/z; echo 1 > $RECON_RESULT/a";
        let results = run_script(&[("post.sh", script)], chatty).await;
        assert_eq!(results.output.len(), 100);
        assert_eq!(results.files.len(), 1);
        assert_eq!(results.status.problems.len(), 2, "{:?}", results.status);
    }
}
