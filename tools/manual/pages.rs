//! What is made of the arguments; tests/it/help.rs holds that nothing is missing.

use std::io;
use std::path::Path;

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;
use recon::cli::args::Cli;

/// One page for `recon` and one for each subcommand (`man/man1/recon-collect.1`, where `man -M` looks), and a file for each shell under
/// `completions/`.
pub(crate) fn write(folder: &Path) -> io::Result<()> {
    let man = folder.join("man/man1");
    std::fs::create_dir_all(&man)?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &man)?;
    let completions = folder.join("completions");
    std::fs::create_dir_all(&completions)?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut Cli::command(), "recon", &completions)?;
    }
    Ok(())
}
