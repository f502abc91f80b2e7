//! Lines for the person at the machine, on every console of the kernel: the screen and the serial port alike.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::clock;

/// Consoles by device node, as /sys/class/tty/console/active lists them.
static CONSOLES: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    // tty0 is whichever virtual terminal is in front.
    active.split_ascii_whitespace().map(|name| PathBuf::from("/dev").join(name)).collect()
});

/// Says one line. Consoles that cannot be written are passed over: words must never stop the work.
pub fn say(text: &str) {
    tracing::info!("{text}");
    let line = format!("\r[recon {:7.1}s] {text}\r\n", clock::run_seconds());
    for console in CONSOLES.iter() {
        if let Ok(mut console) = OpenOptions::new().write(true).open(console) {
            console.write_all(line.as_bytes()).ok();
        }
    }
}
