//! An error with what caused it, for a line on a screen.

use std::error::Error;

/// The error and its causes, the outermost first: `reading the partition table: Input/output error (os error 5)`. A cause that
/// its error names already is not said twice.
pub(crate) fn told(error: &(dyn Error + 'static)) -> String {
    /// Deeper chains are not built; a circle would have no end.
    const MAX_CAUSES: usize = 16;
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..MAX_CAUSES {
        let Some(inner) = cause else { break };
        let said = inner.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Outer {
        text: &'static str,
        source: io::Error,
    }

    #[test]
    fn the_number_of_an_error_is_never_lost() {
        let outer = |text| Outer {
            text,
            source: io::Error::from_raw_os_error(libc::EIO),
        };
        assert_eq!(
            told(&outer("reading it")),
            "reading it: Input/output error (os error 5)"
        );
        let said = "reading it: Input/output error (os error 5)";
        assert_eq!(told(&outer(said)), said);
        assert_eq!(
            told(&io::Error::other(outer("in a box"))),
            "in a box: Input/output error (os error 5)"
        );
    }
}
