//! Golden files: one way to compare with them and one switch to write them anew, for unit tests and integration tests alike.

use std::path::Path;

/// The file `name`, below the top of the tree, holds exactly `now`. `RECON_BLESS=1 make it` writes it anew; the difference
/// is read in `git diff` before it is committed.
#[track_caller]
pub(crate) fn golden(name: impl AsRef<Path>, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("RECON_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, now).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(kept == now, "{} differs; this is now:\n{now}", path.display());
}
