//! Whatever comes off the wire, nothing here panics, hangs or answers nonsense: changed packets, round and round, for a bounded
//! time. `RECON_FUZZ_SECONDS=3600 cargo test --test fuzz dhcp4` goes on for an hour.
//!
//! Starts from `tests/fuzz/corpus/TARGET`. An input that makes a target behave in a way not seen before joins the pool, so that
//! changes build on each other; with `RECON_FUZZ_KEEP=1` it is written to the corpus. An input that fails is written there always, so
//! that it is tried first from then on.

// clippy.toml allows this in unit tests; it does not see that helpers here are test code too.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod change;
mod targets;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// Seconds for each target where nobody says otherwise: less than a minute for all.
const SECONDS: u64 = 6;
/// Inputs of a pool; later ones replace earlier ones by chance.
const MAX_POOL: usize = 4096;
/// Larger than any datagram or head that is read.
const MAX_INPUT: usize = 20_000;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target)
}

fn keep(target: &str, kind: &str, input: &[u8]) -> PathBuf {
    let name: String = Sha256::digest(input)
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let path = folder(target).join(format!("{kind}-{name}"));
    std::fs::write(&path, input).unwrap();
    path
}

/// `run` returns what kind of behaviour an input caused; it panics where something is wrong.
fn fuzz(target: &str, words: &[&[u8]], mut run: impl FnMut(&[u8]) -> u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("RECON_FUZZ_SEED").unwrap_or_else(rand::random);
    let keeps = std::env::var_os("RECON_FUZZ_KEEP").is_some();
    let mut dice = StdRng::seed_from_u64(seed);
    let mut files: Vec<_> = std::fs::read_dir(folder(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut pool: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!pool.is_empty(), "{target} has no corpus");
    let mut seen = HashSet::new();
    let mut tried = 0u64;
    let mut attempt = |input: &[u8]| {
        catch_unwind(AssertUnwindSafe(|| run(input))).unwrap_or_else(|_| {
            let path = keep(target, "failed", input);
            panic!("{target} fails (seed {seed}); the input is {}", path.display());
        })
    };
    for input in &pool {
        seen.insert(attempt(input));
    }
    let end = Instant::now() + Duration::from_secs(number("RECON_FUZZ_SECONDS").unwrap_or(SECONDS));
    while Instant::now() < end {
        let mut input = pool[dice.random_range(0..pool.len())].clone();
        let other = &pool[dice.random_range(0..pool.len())];
        change::change(&mut input, other, words, &mut dice);
        input.truncate(MAX_INPUT);
        tried += 1;
        if seen.insert(attempt(&input)) {
            if keeps {
                keep(target, "found", &input);
            }
            if pool.len() < MAX_POOL {
                pool.push(input);
            } else {
                let place = dice.random_range(0..pool.len());
                pool[place] = input;
            }
        }
    }
    println!(
        "{target}: {tried} inputs, {} kinds of behaviour, seed {seed}",
        seen.len()
    );
    assert!(tried > 100, "{target}: {tried} inputs only");
    assert!(
        seen.len() > 3,
        "{target} always behaves in the same way: it is not reached"
    );
}

/// A number for a kind of behaviour, from whatever tells kinds apart.
pub fn kind(what: impl std::hash::Hash) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
