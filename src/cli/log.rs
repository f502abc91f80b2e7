//! Log lines on standard error: one event is one line that only shows itself, whoever's words are in it.

use std::fmt;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, Format, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry};

use crate::model::console::CONSOLE;
use crate::model::shown::{self, Shown};
use crate::sys::{console, terminal};

/// Starts the log, once, at the start. RECON_LOG wins over `verbose`, the count of `-v`. Libraries speak only when something is
/// wrong.
#[expect(clippy::disallowed_methods, reason = "each line passes through `Lines`")]
pub fn start(verbose: u8) {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("RECON_LOG").unwrap_or_else(|_| EnvFilter::new(format!("warn,recon={level}")));
    let word = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let colour = coloured(
        std::io::stderr().is_terminal(),
        word("NO_COLOR").as_deref(),
        word("TERM").as_deref(),
    );
    let log = subscriber(filter, colour, std::io::stderr, console::print);
    tracing::subscriber::set_global_default(log).ok();
    std::panic::set_hook(Box::new(|panic| terminal::stderr(&last_words(panic))));
}

/// Colours are for people at a terminal that has them (no-color.org, terminfo's `dumb`); a journal or a file gets none.
fn coloured(terminal: bool, no_color: Option<&str>, term: Option<&str>) -> bool {
    terminal && no_color.is_none_or(str::is_empty) && term != Some("dumb")
}

/// The log to `writer`, and what is for the consoles to `print` as well, whatever the log leaves out.
fn subscriber<W>(filter: EnvFilter, colour: bool, writer: W, print: fn(&str)) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(Lines {
            format: format::format().with_target(false).with_ansi(false),
            colour,
        })
        .with_writer(writer);
    let for_consoles = Targets::new().with_target(CONSOLE, Level::INFO);
    Registry::default()
        .with(log.with_filter(filter))
        .with(Consoles(print).with_filter(for_consoles))
}

/// Hands the text of an event on.
struct Consoles(fn(&str));

impl<S: Subscriber> Layer<S> for Consoles {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Text(self.0));
    }
}

struct Text(fn(&str));

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0(&format!("{value:?}"));
        }
    }
}

/// Writes an event as tracing does, and then takes out of it what a terminal would obey, so that nothing that is logged, here or
/// in a library, has to be thought of. Colour comes last, because it is what a terminal should obey.
struct Lines {
    format: Format,
    colour: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        self.format.format_event(context, Writer::new(&mut text), event)?;
        let line = shown::line(text.trim_end_matches('\n'));
        let colour = match *event.metadata().level() {
            Level::ERROR => Some("31"),
            Level::WARN => Some("33"),
            _ => None,
        };
        // ECMA-48 SGR.
        match colour.filter(|_| self.colour) {
            Some(colour) => writeln!(writer, "\x1b[{colour}m{line}\x1b[0m"),
            None => writeln!(writer, "{line}"),
        }
    }
}

/// What a thread that panicked says: its message may quote anything.
fn last_words(panic: &PanicHookInfo<'_>) -> Shown {
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = std::backtrace::Backtrace::capture();
    let trace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    Shown::error(&format!(
        "recon: thread {} panicked at {place}: {}{trace}",
        thread.name().unwrap_or("without a name"),
        panic.payload_as_str().unwrap_or("no message")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::console::console;
    use crate::model::shown::{EVIL, acts, assert_harmless};
    use crate::service::http::nodes::upload_span;
    use crate::service::http::server::connection_span;
    use crate::service::tftp::{packet, transfer_span};
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(colour: bool, speak: impl FnOnce()) -> String {
        let kept = Kept::default();
        let copy = kept.clone();
        let subscriber = subscriber(EnvFilter::new("trace"), colour, move || copy.clone(), |_| {});
        tracing::subscriber::with_default(subscriber, speak);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn whatever_is_logged_is_one_harmless_line() {
        let cause = anyhow::anyhow!("{EVIL}").context("reading");
        let text = logged(false, || {
            let span = tracing::info_span!("of", peer = EVIL);
            let _in = span.enter();
            tracing::info!("said {EVIL}");
            tracing::warn!(name = EVIL, path = %std::path::Path::new(EVIL).display(), error = %format!("{cause:#}"), "a field");
            tracing::error!(debug = ?EVIL, "quoted");
        });
        assert_harmless(&text);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("[2JC D E") && text.contains("reading: A"), "{text}");
    }

    #[test]
    fn a_line_says_whose_it_is_by_its_span_and_a_stranger_s_words_there_are_harmless() {
        let peer = "[fe80::7%3]:4711".parse().unwrap();
        let read =
            packet::request(&[b"\0\x01", EVIL.replace(acts, "\u{202e}").as_bytes(), b"\0octet\0"].concat()).unwrap();
        let node = "mac-525400123456".parse().unwrap();
        let text = logged(true, || {
            transfer_span(peer, &read).in_scope(|| tracing::info!("sent"));
            connection_span(peer).in_scope(|| tracing::info!("asks"));
            upload_span(&node, "192.0.2.7".parse().unwrap()).in_scope(|| tracing::info!("stored"));
        });
        let lines: Vec<&str> = text.lines().collect();
        let asked = r#"tftp{client=[fe80::7%3]:4711 asked="A\\xe2\\x80\\xae]0;owned"#;
        assert!(lines[0].contains(asked) && lines[0].ends_with("}: sent"), "{text}");
        assert!(lines[1].ends_with("http{peer=[fe80::7%3]:4711}: asks"), "{text}");
        assert!(
            lines[2].ends_with("upload{node=mac-525400123456 client=192.0.2.7}: stored"),
            "{text}"
        );
        assert_harmless(&text);
    }

    #[test]
    fn colour_is_for_terminals_that_have_it() {
        assert!(coloured(true, None, Some("linux")) && coloured(true, Some(""), None));
        assert!(!coloured(false, None, Some("xterm-256color")));
        assert!(!coloured(true, Some("1"), Some("linux")) && !coloured(true, None, Some("dumb")));
        let text = logged(true, || {
            tracing::warn!("{EVIL}");
            tracing::info!("plain");
        });
        let (first, second) = text.split_once('\n').unwrap();
        assert_harmless(first.strip_prefix("\x1b[33m").unwrap().strip_suffix("\x1b[0m").unwrap());
        assert_harmless(second);
    }

    #[test]
    fn the_console_has_its_own_lines_whatever_the_log_shows() {
        static PRINTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let print = |text: &str| PRINTED.lock().unwrap().push(text.to_owned());
        let kept = Kept::default();
        let copy = kept.clone();
        let subscriber = subscriber(EnvFilter::new("warn"), false, move || copy.clone(), print);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: CONSOLE, "eno1: serving {}/{}", "192.168.219.1", 24);
            tracing::info!("not for the console");
            tracing::warn!("nor this");
            console!("in\ntwo rows");
            tracing::debug!(target: CONSOLE, "nor what is for developers");
        });
        let printed = PRINTED.lock().unwrap().clone();
        assert_eq!(printed, ["eno1: serving 192.168.219.1/24", "in\ntwo rows"]);
        let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(
            logged(false, || console!("eno1: is down")).ends_with(" INFO eno1: is down\n"),
            "the log has it as before"
        );
    }

    #[test]
    fn a_panic_cannot_speak_for_others() {
        let heard = Arc::new(Mutex::new(String::new()));
        let copy = Arc::clone(&heard);
        let before = std::panic::take_hook();
        let ours = std::thread::current().id();
        std::panic::set_hook(Box::new(move |panic| match std::thread::current().id() == ours {
            true => *copy.lock().unwrap() = last_words(panic).into_string(),
            false => before(panic),
        }));
        std::panic::catch_unwind(|| panic!("bad name {EVIL}")).unwrap_err();
        let text = heard.lock().unwrap().clone();
        assert_harmless(&text);
        assert!(
            text.starts_with("recon: thread ") && text.contains("bad name A"),
            "{text}"
        );
        assert!(text.contains("log.rs:"), "the place is named: {text}");
    }
}
