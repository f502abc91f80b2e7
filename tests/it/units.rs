//! The units start subcommands that exist.

use std::path::PathBuf;

use clap::Parser;

#[test]
fn every_unit_starts_a_command_that_parses() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("services");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for line in text.lines().filter_map(|line| line.strip_prefix("ExecStart=")) {
            let Some(words) = line.strip_prefix("/usr/bin/recon") else {
                continue;
            };
            let argv = std::iter::once("recon").chain(words.split_whitespace());
            let parsed = recon::cli::args::Cli::try_parse_from(argv);
            assert!(parsed.is_ok(), "{}: {line}: {:?}", path.display(), parsed.err());
            seen += 1;
        }
    }
    assert!(seen >= 4, "the units that start recon were not found");
}
