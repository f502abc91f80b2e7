//! What the person at the machine sees on its consoles: an event of the log with a target of its own, which `cli::log` hands to them.

/// Target of the events that stand on the consoles, beside the log.
pub(crate) const CONSOLE: &str = "recon::console";

/// `console!("{link}: serving")`: one whole line, whatever the words in it come from. Opens no terminal, and waits for nothing.
macro_rules! console {
    ($($words:tt)+) => { tracing::info!(target: $crate::model::console::CONSOLE, $($words)+) };
}
pub(crate) use console;
