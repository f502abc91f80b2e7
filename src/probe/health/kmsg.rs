//! The kernel's log: records of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg). Pure.

use crate::formats::text::clean;
use crate::model::inventory::{KernelLog, KernelLogLine};

/// Error, and with it what is worse.
pub(crate) const WORST: u8 = 3;
/// How many lines are kept.
const MAX_LINES: usize = 200;

/// Reads `# <read> <wanted>` and then the records of level error and above, as `sys::kmsg` hands them over.
pub(crate) fn parse(text: &str) -> KernelLog {
    let mut log = KernelLog::default();
    for line in text.lines() {
        if let Some(counts) = line.strip_prefix("# ") {
            let mut counts = counts.split(' ').map(|count| count.parse().unwrap_or(0));
            log.lines_read = counts.next().unwrap_or(0);
            log.error_lines = counts.next().unwrap_or(0);
        } else if let Some(line) = record(line) {
            log.errors.push(line);
        }
    }
    let excess = log.errors.len().saturating_sub(MAX_LINES);
    log.errors.drain(..excess);
    log
}

/// `6,339,5140900,-;text`. Lines that begin with a space tell more of the record before them.
fn record(line: &str) -> Option<KernelLogLine> {
    let (head, text) = line.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let micros: u64 = fields.nth(1)?.parse().ok()?;
    let level = match priority & 7 {
        0 => "emergency",
        1 => "alert",
        2 => "critical",
        3 => "error",
        _ => return None,
    };
    Some(KernelLogLine {
        level: level.to_owned(),
        uptime_ms: micros / 1000,
        text: clean(&unescaped(text))?,
    })
}

/// What is not printable stands as `\x1b`.
fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        plain.push_str(before);
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                plain.push_str("\\x");
                rest = after;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_are_read_with_level_and_time() {
        let log = parse(
            "# 900 3\n3,339,5140900,-;ata1.00: failed command: READ DMA\n SUBSYSTEM=scsi\n\
             2,340,6000000,c;mce: CPU0: temperature\\x09above threshold\n30,341,7000000,-;info\nrubbish\n",
        );
        assert_eq!((log.lines_read, log.error_lines), (900, 3));
        let told: Vec<_> = log.errors.iter().map(|l| (&*l.level, l.uptime_ms, &*l.text)).collect();
        assert_eq!(
            told,
            [
                ("error", 5140, "ata1.00: failed command: READ DMA"),
                ("critical", 6000, "mce: CPU0: temperature above threshold")
            ]
        );
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let text: String = (0..500).map(|n| format!("3,{n},{n}000,-;line {n}\n")).collect();
        let log = parse(&text);
        assert_eq!(log.errors.len(), MAX_LINES);
        assert_eq!(log.errors[0].text, "line 300");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([0-9]{0,4},[0-9]{0,4},[0-9]{0,25},.;(\\\\x[0-9a-f]{0,2}|\\PC){0,20}\n){0,20}") {
            let log = parse(&text);
            prop_assert!(log.errors.len() <= MAX_LINES);
            prop_assert!(log.errors.iter().all(|line| !line.text.chars().any(char::is_control)));
        }
    }
}
