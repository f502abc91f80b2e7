//! Whatever comes off the wire, nothing here panics, hangs or answers nonsense.
//!
//! `cargo test` tries the corpus, `tests/fuzz/corpus/TARGET`, and what grows out of it with one seed: the same inputs at every run.
//! `RECON_FUZZ_SECONDS=3600 cargo test --test fuzz dhcp4 -- --nocapture` looks for new ones for an hour, with a seed that it prints
//! (`RECON_FUZZ_SEED` sets it).
//!
//! An input that makes a target behave in a way not seen before joins the pool, so that changes build on each other; with
//! `RECON_FUZZ_KEEP=1` it is written to the corpus. An input that fails is written there always, so that it is tried first from then on.

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

/// Inputs that a run tries beside the corpus where nobody names a time, with [`SEED`].
const INPUTS: u64 = 60_000;
/// The same of a target that takes a connection for each.
const SLOW_INPUTS: u64 = 4_000;
/// The same of a target that reads whole tables, at milliseconds each.
const TABLES: u64 = 12_000;
/// Of the runs that try the same inputs every time. Any number would do.
const SEED: u64 = 1;
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

/// How long a target is tried.
enum Until {
    /// That many inputs.
    Inputs(u64),
    Time(Instant),
}

impl Until {
    fn is_over(&self, tried: u64) -> bool {
        match self {
            Until::Inputs(most) => tried >= *most,
            Until::Time(end) => Instant::now() >= *end,
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no whole number")),
    )
}

/// `run` returns what kind of behaviour an input caused; it panics where something is wrong.
fn fuzz(target: &str, words: &[&[u8]], run: impl FnMut(&[u8]) -> u64) {
    fuzz_for(INPUTS, target, words, run);
}

fn fuzz_for(inputs: u64, target: &str, words: &[&[u8]], mut run: impl FnMut(&[u8]) -> u64) {
    let seconds = number("RECON_FUZZ_SECONDS");
    let seed = number("RECON_FUZZ_SEED").unwrap_or_else(|| seconds.map_or(SEED, |_| rand::random()));
    println!("{target}: seed {seed}");
    let until = seconds.map_or(Until::Inputs(inputs), |seconds| {
        Until::Time(Instant::now() + Duration::from_secs(seconds))
    });
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
    while !until.is_over(tried) {
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
    println!("{target}: {tried} inputs, {} kinds of behaviour", seen.len());
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
