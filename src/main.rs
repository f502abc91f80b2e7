//! Arguments to exit code, and nothing else.

use std::process::ExitCode;

use clap::Parser;
use recon::cli;
use recon::model::shown::Shown;
use recon::role::init;
use recon::sys::terminal;

fn main() -> ExitCode {
    let program = std::env::args_os().next();
    if init::is_init(
        std::process::id(),
        program.as_deref().and_then(|program| program.to_str()),
    ) {
        cli::init();
    }
    let cli = cli::args::Cli::parse();
    cli::log::start(cli.verbose);
    match cli::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::stderr(&Shown::error(&format!("recon: {error:#}")));
            ExitCode::FAILURE
        }
    }
}
