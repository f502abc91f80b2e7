//! Lines for the person at the machine, on every console of the kernel: the screen and the serial port alike. They are handed to
//! a thread: a console may be slow (a serial port), or stopped (Ctrl-S), and whoever speaks must not wait for it.
//!
//! Nobody but the log calls this: what is to stand on the console is an event (`console!`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::{checked, clock};
use crate::model::shown;

/// Lines that wait for a console; at 115,200 bit/s it takes two seconds to write so many. Further ones are left out, and it is
/// said how many.
const MAX_WAITING: usize = 256;
/// Longest wait for the last lines at the program's end.
const LAST_LINES: Duration = Duration::from_secs(2);

static LINES: LazyLock<Lines> = LazyLock::new(|| {
    let consoles = consoles();
    // Consoles that cannot be written are passed over: words must never stop the work.
    let each = move |work: &dyn Fn(&mut File)| {
        for console in &consoles {
            open(console).as_mut().map(work).ok();
        }
    };
    Lines::start(move |said| match said {
        Said::Line(line) => each(&|console| drop(console.write_all(line.as_bytes()))),
        Said::All => each(&|console| drop(sent(console))),
    })
});

/// Waits until a console has sent what was written to it: the kernel holds up to a page of it back for a serial port (tcdrain(3)).
fn sent(console: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open, and no pointer is handed over.
    checked(unsafe { libc::tcdrain(console.as_raw_fd()) }).map(drop)
}

/// Not as the controlling terminal: a program that leads its session would get one, and its signals.
fn open(console: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(console)
}

/// Consoles by device node, as /sys/class/tty/console/active lists them.
fn consoles() -> Vec<PathBuf> {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    // tty0 is whichever virtual terminal is in front.
    let names = active.split_ascii_whitespace();
    names.map(|name| PathBuf::from("/dev").join(name)).collect()
}

/// Terminals for a person at the machine, one for each console.
pub(crate) fn terminals() -> Vec<PathBuf> {
    // The one that is in front is no terminal of its own.
    let own = |console: PathBuf| match console == Path::new("/dev/tty0") {
        true => PathBuf::from("/dev/tty1"),
        false => console,
    };
    consoles().into_iter().map(own).collect()
}

/// Hands one line to the consoles. Never waits.
pub(crate) fn print(text: &str) {
    LINES.push(as_drawn(clock::run_time().seconds(), text));
}

/// Waits, for a while, until what was printed is on the consoles. For the program's end, and the machine's.
pub(crate) fn drain() {
    // A program that printed nothing starts no thread for it.
    if let Some(lines) = LazyLock::get(&LINES) {
        lines.drain(LAST_LINES);
    }
}

/// What is sent to a console: one row, in which only the ends are ours to move the cursor.
fn as_drawn(seconds: f64, text: &str) -> String {
    format!("\r[recon {seconds:7.1}s] {}\r\n", shown::line(text))
}

/// Lines on their way to a thread that writes them, and how many found no room.
struct Lines {
    sender: SyncSender<Message>,
    left_out: Arc<AtomicU64>,
}

enum Message {
    Line(String),
    /// Answered once everything before it is written.
    Drain(SyncSender<()>),
}

/// What the writer of the consoles is to do.
enum Said<'a> {
    Line(&'a str),
    /// That was all for now: nobody may hold anything back.
    All,
}

impl Lines {
    /// Without a thread the lines are left out; they are in the log.
    fn start(write: impl Fn(Said<'_>) + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::sync_channel(MAX_WAITING);
        let left_out = Arc::new(AtomicU64::new(0));
        let missing = Arc::clone(&left_out);
        let run = move || {
            for message in receiver {
                match message {
                    Message::Line(line) => write(Said::Line(&line)),
                    Message::Drain(done) => {
                        write(Said::All);
                        done.try_send(()).ok();
                    }
                }
                let some = missing.swap(0, Ordering::Relaxed);
                if some > 0 {
                    let text = format!("{some} lines are left out; they are in the log");
                    write(Said::Line(&as_drawn(clock::run_time().seconds(), &text)));
                }
            }
        };
        std::thread::Builder::new().name("console".to_owned()).spawn(run).ok();
        Lines { sender, left_out }
    }

    fn push(&self, line: String) {
        if self.sender.try_send(Message::Line(line)).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn drain(&self, limit: Duration) {
        let (done, drained) = mpsc::sync_channel(1);
        // A console that is so far behind is not waited for.
        if self.sender.try_send(Message::Drain(done)).is_ok() {
            drained.recv_timeout(limit).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_strangers_words_stay_in_their_row() {
        let row = as_drawn(3.25, &format!("node x: {}", shown::EVIL));
        let words = row
            .strip_prefix("\r[recon     3.2s] ")
            .unwrap()
            .strip_suffix("\r\n")
            .unwrap();
        shown::assert_harmless(words);
        assert!(!words.contains('\n'), "{words:?}");
    }

    #[test]
    fn a_stopped_console_stops_nobody_and_says_what_it_missed() {
        let (go_on, stopped) = mpsc::channel::<()>();
        let (written, wrote) = mpsc::channel();
        let lines = Lines::start(move |said| {
            if let Said::Line(line) = said {
                written.send(line.to_owned()).ok();
                stopped.recv().ok();
            }
        });
        lines.push("first".to_owned());
        assert_eq!(wrote.recv().unwrap(), "first");
        // Its writer hangs from here on.
        let started = Instant::now();
        for number in 0..MAX_WAITING + 7 {
            lines.push(number.to_string());
        }
        lines.drain(Duration::from_millis(20));
        assert!(started.elapsed() < Duration::from_secs(10));
        drop(go_on);
        // And the note among them.
        let rest: Vec<String> = (0..=MAX_WAITING).map(|_| wrote.recv().unwrap()).collect();
        lines.drain(Duration::from_secs(60));
        let (note, rest): (Vec<String>, Vec<String>) = rest.into_iter().partition(|line| line.contains("left out"));
        let waited: Vec<String> = (0..MAX_WAITING).map(|number| number.to_string()).collect();
        assert_eq!(rest, waited, "all that waited, in their order");
        assert!(note[0].contains("7 lines are left out"), "{note:?}");
    }

    #[test]
    fn what_was_said_is_sent_before_the_end() {
        let (written, wrote) = mpsc::channel();
        let lines = Lines::start(move |said| {
            written
                .send(match said {
                    Said::Line(line) => line.to_owned(),
                    Said::All => "sent".to_owned(),
                })
                .ok();
        });
        lines.push("starting it".to_owned());
        lines.drain(Duration::from_secs(60));
        assert_eq!(wrote.try_iter().collect::<Vec<_>>(), ["starting it", "sent"]);
    }
}
