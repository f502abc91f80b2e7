//! What a peer starts from and what it fetches later, made from the root tree of an image (`recon::image::stage` says what that is), with
//! a table of sizes:
//!
//! ```text
//! first-stage --root TREE --recon BINARY --patterns kiwi/common/first-stage.tsv --out DIR
//! ```

// Its answer is standard output, and nobody else writes words into it.
#![allow(clippy::print_stdout)]

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use recon::image::stage::Stage;
use recon::image::stage::table::Table;
use recon::image::stage::tree::Tree;

#[derive(Parser)]
struct Arguments {
    /// Root tree of the image
    #[arg(long)]
    root: PathBuf,
    /// The static binary
    #[arg(long)]
    recon: PathBuf,
    /// What goes where
    #[arg(long)]
    patterns: PathBuf,
    /// Folder to write into; what is in it goes
    #[arg(long)]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let reading = || arguments.patterns.display().to_string();
    let table = Table::read(&fs::read_to_string(&arguments.patterns).with_context(reading)?).with_context(reading)?;
    let recon = fs::read(&arguments.recon).with_context(|| arguments.recon.display().to_string())?;
    let stage = Stage::make(&Tree::new(&arguments.root), None, &recon, &table, None)?;
    stage
        .write(&arguments.out)
        .with_context(|| arguments.out.display().to_string())?;
    print!("{}", stage.report(&recon)?);
    Ok(())
}
