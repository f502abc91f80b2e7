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

/// The unit that runs a master is watched by systemd, which starts it again; a peer's is not, because nobody would feed it.
#[test]
fn who_looks_after_links_is_watched() {
    let unit = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("services").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let master = unit("recon.service");
    let of = |key: &str| master.lines().find_map(|line| line.strip_prefix(key));
    assert_eq!(of("Type="), Some("notify"));
    assert_eq!(of("Restart="), Some("on-failure"), "which a watchdog's end is");
    let seconds: u64 = of("WatchdogSec=").unwrap().parse().unwrap();
    assert!((120..=600).contains(&seconds), "slow is not dead, and dead is noticed");
    let peer = unit("recon-peer.service");
    assert!(peer.contains("recon run --initrd") && !peer.contains("WatchdogSec="));
}
