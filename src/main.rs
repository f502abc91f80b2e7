//! Arguments to exit code, and nothing else.

use std::process::ExitCode;

use clap::Parser;
use recon::cli;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = cli::args::Cli::parse();
    let level = match cli.verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    // RECON_LOG wins over -v. Libraries speak only when something is wrong.
    let filter = EnvFilter::try_from_env("RECON_LOG").unwrap_or_else(|_| EnvFilter::new(format!("warn,recon={level}")));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    match cli::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recon: {error:#}");
            ExitCode::FAILURE
        }
    }
}
