//! A mistake in `recon.toml`, and how many of them are shown.

/// Faults that are named; the rest is counted.
pub(super) const MAX_FAULTS: usize = 20;

/// A mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, counted from 1; `None` where the whole file is meant.
    pub line: Option<usize>,
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Every mistake of a file, none of which was passed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", shown(.0).join("; "))]
pub struct Faults(pub Vec<Fault>);

/// The faults as they are shown, with a count in place of those that nobody reads to the end of.
pub(crate) fn shown(faults: &[Fault]) -> Vec<String> {
    let mut lines: Vec<String> = faults.iter().take(MAX_FAULTS).map(Fault::to_string).collect();
    if let Some(more) = faults.len().checked_sub(MAX_FAULTS).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    lines
}
