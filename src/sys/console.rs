//! Lines for the person at the machine, on every console of the kernel: the screen and the serial port alike.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::clock;
use crate::model::shown;

/// Consoles by device node, as /sys/class/tty/console/active lists them.
static CONSOLES: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    // tty0 is whichever virtual terminal is in front.
    active
        .split_ascii_whitespace()
        .map(|name| PathBuf::from("/dev").join(name))
        .collect()
});

/// Says one line, whatever the words in it come from. Consoles that cannot be written are passed over: words must never stop
/// the work.
pub(crate) fn say(text: &str) {
    tracing::info!("{text}");
    let line = as_drawn(clock::run_seconds(), text);
    for console in CONSOLES.iter() {
        if let Ok(mut console) = OpenOptions::new().write(true).open(console) {
            console.write_all(line.as_bytes()).ok();
        }
    }
}

/// What is sent to a console: one row, in which only the ends are ours to move the cursor.
fn as_drawn(seconds: f64, text: &str) -> String {
    format!("\r[recon {seconds:7.1}s] {}\r\n", shown::line(text))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
