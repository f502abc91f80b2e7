//! Lines for the person at the machine, on every console of the kernel: the screen and the serial port alike. They are handed to
//! a thread: a console may be slow (a serial port), or stopped (Ctrl-S), and whoever speaks must not wait for it.
//!
//! Nobody but the log calls this: what is to stand on the console is an event ([`console!`]).

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Duration;

use super::clock;
use crate::model::console::console;
use crate::model::shown;

/// Lines that wait for a console; at 115,200 bit/s it takes two seconds to write so many. Further ones are left out, and it is
/// said how many.
const MAX_WAITING: usize = 256;
/// Longest wait for the last lines at the program's end.
const LAST_LINES: Duration = Duration::from_secs(2);

static LINES: LazyLock<Lines> = LazyLock::new(|| {
    let consoles = consoles();
    // Consoles that cannot be written are passed over: words must never stop the work.
    Lines::start(move |line| {
        for console in &consoles {
            if let Ok(mut console) = OpenOptions::new().write(true).open(console) {
                console.write_all(line.as_bytes()).ok();
            }
        }
    })
});

/// Consoles by device node, as /sys/class/tty/console/active lists them.
fn consoles() -> Vec<PathBuf> {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    // tty0 is whichever virtual terminal is in front.
    let names = active.split_ascii_whitespace();
    names.map(|name| PathBuf::from("/dev").join(name)).collect()
}

/// Says one line, whatever the words in it come from: `console!` with a text that is there already.
pub(crate) fn say(text: &str) {
    console!("{text}");
}

/// Hands one line to the consoles. Never waits.
pub(crate) fn print(text: &str) {
    LINES.push(as_drawn(clock::run_seconds(), text));
}

/// Waits, for a while, until what was printed is written. For the program's end.
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

#[derive(Default)]
struct Waiting {
    lines: VecDeque<String>,
    left_out: u64,
    writing: bool,
}

/// Lines on their way to a thread that writes them.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Waiting>, Condvar)>);

impl Lines {
    /// Without a thread the lines are left out; they are in the log.
    fn start(write: impl Fn(&str) + Send + 'static) -> Self {
        let lines = Lines::default();
        let theirs = lines.clone();
        let run = move || {
            loop {
                write(&theirs.next());
            }
        };
        std::thread::Builder::new().name("console".to_owned()).spawn(run).ok();
        lines
    }

    fn push(&self, line: String) {
        let (waiting, changed) = &*self.0;
        let mut waiting = waiting.lock().expect("no holder panics");
        match waiting.lines.len() < MAX_WAITING {
            true => waiting.lines.push_back(line),
            false => waiting.left_out += 1,
        }
        changed.notify_all();
    }

    /// Waits for the next line; the one before it is written by now.
    fn next(&self) -> String {
        let (waiting, changed) = &*self.0;
        let mut waiting = waiting.lock().expect("no holder panics");
        waiting.writing = false;
        changed.notify_all();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.writing = true;
                return line;
            }
            // Comes after those that found room.
            match std::mem::take(&mut waiting.left_out) {
                0 => waiting = changed.wait(waiting).expect("no holder panics"),
                some => {
                    let text = format!("{some} lines are left out here; they are in the log");
                    waiting.lines.push_back(as_drawn(clock::run_seconds(), &text));
                }
            }
        }
    }

    fn drain(&self, limit: Duration) {
        let (waiting, changed) = &*self.0;
        let waiting = waiting.lock().expect("no holder panics");
        let busy = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty() || waiting.left_out > 0;
        drop(changed.wait_timeout_while(waiting, limit, busy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
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
        let lines = Lines::start(move |line| {
            written.send(line.to_owned()).ok();
            stopped.recv().ok();
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
        lines.drain(Duration::from_secs(60));
        let rest: Vec<String> = wrote.try_iter().collect();
        assert_eq!(rest.len(), MAX_WAITING + 1, "all that waited, in their order");
        assert!(
            rest.iter()
                .take(MAX_WAITING)
                .enumerate()
                .all(|(at, line)| *line == at.to_string())
        );
        assert!(rest[MAX_WAITING].contains("7 lines are left out"), "{rest:?}");
    }
}
