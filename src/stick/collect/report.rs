//! What was found and taken, as a person reads it.

use std::fmt;
use std::path::PathBuf;

use crate::model::NodeId;
use crate::model::clash::Clash;

/// How a node came home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its newest upload is whole.
    Whole,
    /// Its newest upload is torn, an older one is whole and was taken.
    Older,
    /// None of its uploads is whole.
    Torn,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Whole => "whole",
            State::Older => "older one taken",
            State::Torn => "torn, left out",
        })
    }
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: NodeId,
    /// Vendor, product, serial.
    pub machine: Option<String>,
    /// Seconds since 1970, by the clock of the master.
    pub stored_unix: Option<i64>,
    /// Of the upload that was taken.
    pub size_bytes: u64,
    /// Uploads of the machine on the sources, torn ones included.
    pub uploads: usize,
    pub state: State,
}

/// What was found and taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub rows: Vec<Row>,
    /// Machines that call themselves the same.
    pub clashes: Vec<Clash>,
    /// What a person should know, a sentence each: torn uploads by name, a volume that was not unmounted.
    pub warnings: Vec<String>,
    /// What was not read, a sentence each, so that nobody knows what is in it: folders and entries that do not read, bounds that
    /// were met.
    pub unread: Vec<String>,
    pub out: PathBuf,
    pub out_bytes: u64,
    pub out_sha256: String,
    /// Files in the tarball whose sum was checked when it was read back.
    pub files: usize,
}

impl Report {
    /// Nodes in the tarball.
    pub fn taken(&self) -> usize {
        self.rows.iter().filter(|row| row.state != State::Torn).count()
    }

    /// Everything was read, and every node came home with its newest upload. Decides the exit status.
    pub fn is_complete(&self) -> bool {
        self.unread.is_empty() && self.rows.iter().all(|row| row.state == State::Whole)
    }

    /// A line for each node.
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = |row: &Row| crate::model::shown::line(row.machine.as_deref().unwrap_or("-")).into_owned();
        let machines = self.rows.iter().map(|row| machine(row).chars().count());
        let widest = machines.max().unwrap_or(0).clamp(7, 48);
        // A name that several have is longer.
        let names = self.rows.iter().map(|row| row.id.as_str().len());
        let name = names.max().unwrap_or(0).max(36);
        writeln!(
            f,
            "{:<name$}  {:<widest$}  {:<17}  {:>10}  {:>7}  STATE",
            "NODE", "MACHINE", "STORED", "SIZE", "UPLOADS"
        )?;
        for row in &self.rows {
            let machine: String = machine(row).chars().take(widest).collect();
            let stored = row
                .stored_unix
                .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
                .map_or_else(|| "-".into(), |time| time.strftime("%Y-%m-%d %H:%MZ").to_string());
            let clash = self.clashes.iter().find(|clash| clash.name == row.id.base());
            let clash = clash.map_or(String::new(), |clash| {
                format!(", ONE OF {} MACHINES OF THIS NAME", clash.count)
            });
            writeln!(
                f,
                "{:<name$}  {machine:<widest$}  {stored:<17}  {:>10}  {:>7}  {}{clash}",
                row.id.as_str(),
                row.size_bytes,
                row.uploads,
                row.state
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table(f)?;
        for warning in &self.warnings {
            writeln!(f, "warning: {}", crate::model::shown::line(warning))?;
        }
        for unread in &self.unread {
            writeln!(f, "not read: {unread}")?;
        }
        for clash in &self.clashes {
            writeln!(f, "CLASH: {clash}")?;
        }
        let total = self.rows.len();
        let taken = self.taken();
        let nodes = match (total, self.unread.is_empty()) {
            (1, true) => "node",
            (_, true) => "nodes",
            (_, false) => "nodes that were found",
        };
        if taken > 0 {
            write!(
                f,
                "{taken} of {total} {nodes} whole, {} files checked, {} bytes in {}\nsha256 {}",
                self.files,
                self.out_bytes,
                crate::model::shown::line(&self.out.to_string_lossy()),
                self.out_sha256
            )
        } else {
            write!(f, "0 of {total} {nodes} whole")
        }
    }
}
