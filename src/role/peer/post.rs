//! The site's own workload: `post.tgz` of the stick, unpacked and run on the peer, its output kept. Whatever goes wrong
//! here is recorded and never stops the inventory.

mod results;
mod script;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::sys::{mount, sandbox};

pub use script::Bounds;

/// Where the workload is run.
#[derive(Debug, Clone)]
pub struct Place {
    /// Made anew, and gone afterwards.
    pub folder: PathBuf,
    /// Says which workload was begun, and outlives a peer that is ended before the results are uploaded.
    pub begun: PathBuf,
    /// Give the folder a file system of its own in memory, so that a workload that fills it leaves the system its own.
    pub own_memory: bool,
}

const BEGUN_BEFORE: &str =
    "post.sh was begun before, and the peer was ended before its results were uploaded: it is not run again";
/// Largest part of memory that the workload's folder takes (tmpfs(5)): further writes are refused to the workload.
const OWN_MEMORY: &str = "size=25%,nr_inodes=200k,mode=0700";

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
#[derive(Debug, Clone)]
pub struct Results {
    pub status: Status,
    pub output: Vec<u8>,
    /// Relative names with content.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Unpacks `archive` and runs its `post.sh` in `place`. The script finds its result folder in `RECON_RESULT`, and
/// `environment` beside it. `name` is the archive's own: one that was begun before in this boot is not run again, because
/// it is what ended the peer then; what it left is taken home.
pub async fn run(
    archive: Vec<u8>,
    name: &str,
    place: &Place,
    environment: &[(&str, String)],
    bounds: Bounds,
) -> Results {
    let started = Instant::now();
    let mut problems = Vec::new();
    let mut output = Vec::new();
    let result = place.folder.join("result");
    sandbox::end_left_behind();
    let begun = std::fs::read_to_string(&place.begun).is_ok_and(|begun| begun == name);
    let (to, named) = (place.clone(), name.to_owned());
    let unpack = move || match begun {
        true => Err(BEGUN_BEFORE.to_owned()),
        false => prepare(&archive, &named, &to, bounds).map_err(|error| format!("unpacking post.tgz: {error}")),
    };
    let prepared = tokio::task::spawn_blocking(unpack).await;
    let ended = match prepared.unwrap_or_else(|error| Err(format!("unpacking post.tgz: {error}"))) {
        Ok(()) => script::run(&place.folder, environment, bounds, &mut output, &mut problems)
            .await
            .map_err(|error| format!("running post.sh: {error}")),
        Err(problem) => Err(problem),
    };
    let exit_code = ended.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    if output.len() >= bounds.output_bytes {
        problems.push(format!("output beyond {} bytes was left out", bounds.output_bytes));
    }
    let (from, limits) = (result, bounds.results);
    let gathered = tokio::task::spawn_blocking(move || results::gather(&from, limits)).await;
    let (files, left_out) = gathered.unwrap_or_else(|error| (Vec::new(), vec![error.to_string()]));
    problems.extend(left_out);
    clear(place);
    let duration_seconds = started.elapsed().as_secs_f64();
    let status = Status {
        succeeded: exit_code == Some(0),
        exit_code,
        problems,
        duration_seconds,
    };
    Results { status, output, files }
}

/// To be called when the results are uploaded: the next peer on this machine runs the workload anew.
pub fn forget(place: &Place) {
    std::fs::remove_file(&place.begun).ok();
}

/// Takes away what an earlier run left. What stays costs memory only.
fn clear(place: &Place) {
    if place.own_memory {
        // Of one run at most; a refusal means that it is none.
        mount::unmount(&place.folder).ok();
    }
    if let Err(error) = std::fs::remove_dir_all(&place.folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %place.folder.display(), %error, "removing what post.tgz left");
    }
}

fn prepare(archive: &[u8], name: &str, place: &Place, bounds: Bounds) -> io::Result<()> {
    clear(place);
    std::fs::create_dir_all(&place.folder)?;
    if place.own_memory
        && let Err(error) = mount::memory(&place.folder, OWN_MEMORY)
    {
        tracing::warn!(%error, "the workload shares the memory of /run");
    }
    std::fs::create_dir_all(place.folder.join("result"))?;
    unpack(archive, &place.folder, bounds)?;
    std::fs::write(&place.begun, name)
}

fn unpack(archive: &[u8], folder: &Path, bounds: Bounds) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::results::Limits;
    use super::*;
    use std::time::Duration;

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
        let environment = [("RECON_NODE", "mac-1".into())];
        run(archive(files), "one", &place(dir.path()), &environment, bounds).await
    }

    fn place(dir: &Path) -> Place {
        Place {
            folder: dir.join("post"),
            begun: dir.join("begun"),
            own_memory: false,
        }
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
        let bounds = Bounds {
            run: Duration::from_millis(300),
            ..Bounds::default()
        };
        let results = run_script(&[("post.sh", "echo on; (sleep 60 &) ; sleep 60")], bounds).await;
        assert!(!results.status.succeeded);
        assert!(
            results.status.problems[0].contains("ended after"),
            "{:?}",
            results.status
        );
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
            assert!(
                results.status.problems.join(" ").contains(word),
                "{word}: {:?}",
                results.status
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let results = run(b"not gzip".to_vec(), "one", &place(dir.path()), &[], Bounds::default()).await;
        assert!(results.status.problems[0].contains("unpacking"));
    }

    #[tokio::test]
    async fn every_bound_holds() {
        let big = "x".repeat(5000);
        let small = Bounds {
            unpacked_bytes: 4000,
            ..Bounds::default()
        };
        let results = run_script(&[("post.sh", "exit 0"), ("big", &big)], small).await;
        assert!(
            results.status.problems[0].contains("4000 bytes"),
            "{:?}",
            results.status
        );
        let chatty = Bounds {
            output_bytes: 100,
            results: Limits {
                bytes: 10,
                ..Limits::default()
            },
            ..Bounds::default()
        };
        let script = "yes | head -c 10000; yes | head -c 50 > $RECON_RESULT/z; echo 1 > $RECON_RESULT/a";
        let results = run_script(&[("post.sh", script)], chatty).await;
        assert_eq!(results.output.len(), 100);
        assert_eq!(results.files.len(), 1);
        assert_eq!(results.status.problems.len(), 2, "{:?}", results.status);
    }

    /// Each of them tries in its way to outlive the script, to hold its output open, or to end whoever started it.
    #[tokio::test]
    async fn nothing_that_the_script_starts_outlives_it_or_ends_us() {
        for (name, script) in [
            (
                "a daemon that writes",
                "setsid sh -c 'trap \"\" TERM HUP; exec yes' & echo done",
            ),
            (
                "two forks",
                "(setsid sleep 4321 &) & (setsid sleep 4321 > /dev/null 2>&1 < /dev/null &) & echo done",
            ),
            (
                "signals to its parent, beside words that never end",
                "(setsid sh -c 'while :; do echo noise; sleep 0.1; done' &)
                 kill $PPID; kill -HUP $PPID; kill -INT $PPID; kill -STOP $PPID; echo done",
            ),
            ("and to its group", "trap '' TERM; kill 0; echo done"),
        ] {
            let token = format!("{:x}", rand::random::<u64>());
            let script = format!("export TOKEN={token}\n{script}\nexit 0");
            let bounds = Bounds {
                run: Duration::from_secs(20),
                ..Bounds::default()
            };
            let results = run_script(&[("post.sh", &script)], bounds).await;
            let output = String::from_utf8_lossy(&results.output).into_owned();
            assert!(results.status.succeeded, "{name}: {:?} {output}", results.status);
            assert!(output.contains("done"), "{name}: {output}");
            assert!(results.status.duration_seconds < 15.0, "{name}");
            assert_eq!(alive(&token), [] as [String; 0], "{name}");
        }
    }

    /// Processes with this in their environment.
    fn alive(token: &str) -> Vec<String> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let has = |path: &PathBuf| {
            let environ = std::fs::read(path.join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environ).contains(token)
        };
        let found = entries.map(|entry| entry.path()).filter(has);
        found
            .map(|path| std::fs::read_to_string(path.join("comm")).unwrap_or_default())
            .collect()
    }

    #[tokio::test]
    async fn a_script_that_is_gone_without_a_word_is_recorded() {
        let results = run_script(&[("post.sh", "kill -9 $$")], Bounds::default()).await;
        assert_eq!(results.status.problems, ["post.sh was ended by signal 9"]);
        let bounds = Bounds {
            run: Duration::from_secs(20),
            ..Bounds::default()
        };
        // Where it has no namespace of its own it meets the keeper.
        let results = run_script(&[("post.sh", "kill -9 $PPID; sleep 1; exit 3")], bounds).await;
        assert!(
            !results.status.succeeded && results.status.duration_seconds < 15.0,
            "{:?}",
            results.status
        );
    }

    #[tokio::test]
    async fn one_that_ended_the_peer_is_not_run_again() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let script = [("post.sh", "echo 1 > $RECON_RESULT/a; touch ../ran; exit 0")];
        // As an earlier peer left it.
        std::fs::create_dir_all(place.folder.join("result")).unwrap();
        std::fs::write(place.folder.join("result/before"), "x").unwrap();
        std::fs::write(&place.begun, "one").unwrap();
        let results = run(archive(&script), "one", &place, &[], Bounds::default()).await;
        assert!(
            results.status.problems[0].contains("not run again"),
            "{:?}",
            results.status
        );
        assert_eq!(results.files, [("before".to_owned(), b"x".to_vec())]);
        assert!(!dir.path().join("ran").exists() && !place.folder.exists());
        // Once the results are at the master, a next peer runs it as if it were new.
        forget(&place);
        let results = run(archive(&script), "one", &place, &[], Bounds::default()).await;
        assert!(results.status.succeeded && dir.path().join("ran").exists());
        assert_eq!(results.files.len(), 1);
    }

    #[tokio::test]
    async fn a_result_folder_that_became_a_link_is_not_followed() {
        let script = "rmdir $RECON_RESULT; ln -s /proc $RECON_RESULT; exit 0";
        let results = run_script(&[("post.sh", script)], Bounds::default()).await;
        assert_eq!(results.files, []);
        assert!(
            results.status.problems[0].contains("result folder"),
            "{:?}",
            results.status
        );
    }
}
