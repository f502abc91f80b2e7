//! What the first stage of a peer is made with, beside the tools that others use for the same: kmod, fnmatch(3), GNU cpio.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use recon::formats::cpio::Archive;
use recon::formats::modules::{Manifest, Module, Parts, alias_matches, depmod};

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/modules")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The manifest of the modules of some tables.
fn manifest([dependencies, aliases, soft]: [&str; 3]) -> Manifest {
    let name = |path: &&str| depmod::module_name(path).unwrap();
    let mut modules = BTreeMap::new();
    for row in depmod::dependencies(dependencies) {
        let module = Module {
            name: name(&row.path),
            path: format!("/{}", row.path),
            deps: row.needs.iter().map(name).collect(),
            ..Module::default()
        };
        modules.insert(module.name.clone(), module);
    }
    let names: BTreeSet<String> = modules.keys().cloned().collect();
    for (name, before) in depmod::soft_dependencies(soft) {
        let before = before.into_iter().filter(|one| names.contains(*one)).map(str::to_owned);
        if let Some(module) = modules.get_mut(name) {
            module.soft.extend(before);
        }
    }
    let aliases = depmod::aliases(aliases).filter(|(_, name)| names.contains(*name));
    let parts = Parts {
        kernel: "6.12.118+deb13-amd64".to_owned(),
        aliases: aliases
            .map(|(pattern, name)| (pattern.to_owned(), name.to_owned()))
            .collect(),
        modules: modules.into_values().collect(),
        ..Parts::default()
    };
    Manifest::read(&parts.to_string()).unwrap()
}

fn fixed() -> Manifest {
    let texts = ["modules.dep", "modules.alias", "modules.softdep"].map(fixture);
    manifest(texts.each_ref().map(String::as_str))
}

fn names(modules: &[&Module]) -> BTreeSet<String> {
    modules.iter().map(|module| module.name.clone()).collect()
}

fn listed(list: &str) -> Vec<String> {
    list.split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn devices_have_the_modules_that_kmod_names() {
    let manifest = fixed();
    let mut found = 0;
    for line in fixture("resolved.tsv").lines() {
        let (modalias, expected) = line.split_once('\t').unwrap();
        let expected = BTreeSet::from_iter(listed(expected));
        found += expected.len();
        assert_eq!(names(&manifest.modules_for(modalias)), expected, "{modalias}");
    }
    assert!(found > 150, "{found}");
}

#[test]
fn modules_are_loaded_with_what_kmod_loads_before_them() {
    let manifest = fixed();
    for line in fixture("orders.tsv").lines() {
        let (name, expected) = line.split_once('\t').unwrap();
        let order = manifest.load_order(name);
        // kmod asks twice for some where there are soft dependencies, and takes those behind the dependencies.
        let expected = listed(expected);
        assert_eq!(names(&order), BTreeSet::from_iter(expected.clone()), "{name}");
        if order.iter().all(|module| module.soft.is_empty()) {
            let order: Vec<_> = order.iter().map(|module| module.name.clone()).collect();
            assert_eq!(order, expected, "{name}");
        }
    }
}

/// On standard error, past the test's own output, which nobody sees when it passes.
#[allow(clippy::disallowed_methods, clippy::explicit_write)]
fn say(words: &str) {
    writeln!(std::io::stderr(), "{words}").unwrap();
}

/// The machine's own modules, as kmod has them. Nothing to compare with is said, and is no failure.
#[test]
fn devices_have_the_modules_that_kmod_names_on_this_machine() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let folder = PathBuf::from("/lib/modules").join(release.trim());
    let tables =
        ["modules.dep", "modules.alias", "modules.softdep"].map(|name| std::fs::read_to_string(folder.join(name)));
    let [Ok(dependencies), Ok(aliases), Ok(soft)] = tables else {
        say(&format!(
            "left out: {} has no tables of depmod to compare with",
            folder.display()
        ));
        return;
    };
    let manifest = manifest([&dependencies, &aliases, &soft]);
    let filled =
        depmod::aliases(&aliases).filter(|(pattern, _)| pattern.contains(':') && !pattern.contains(['[', '?']));
    for (pattern, _) in filled.step_by(50) {
        let modalias = pattern.replace('*', "0");
        let asked = Command::new("modprobe")
            .args(["--config=/dev/null", "--resolve-alias", &modalias])
            .output();
        let answer = asked.expect("modprobe is missing (package kmod)").stdout;
        let expected = String::from_utf8(answer).unwrap();
        let expected: BTreeSet<String> = expected.lines().map(|name| name.replace('-', "_")).collect();
        assert_eq!(names(&manifest.modules_for(&modalias)), expected, "{modalias}");
    }
}

/// fnmatch(3) of the C library, in its own locale.
#[allow(unsafe_code)]
fn fnmatch(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (CString::new(pattern).unwrap(), CString::new(text).unwrap());
    // SAFETY: both end with a NUL and live until the call is over.
    unsafe { libc::fnmatch(pattern.as_ptr(), text.as_ptr(), 0) == 0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]
    #[test]
    fn patterns_fit_as_in_the_c_library(
        // A range behind a `]` that is a member is none to libkmod.
        pattern in r"([abc*?:]|\[[!^]?([abc](a-c|b-b|[abc]){0,2}|\][abc]{0,2})\]|\\[a*?\[]){0,7}",
        text in r"[abc:\[\]*?]{0,7}",
    ) {
        prop_assert_eq!(alias_matches(&pattern, &text), fnmatch(&pattern, &text));
    }
}

#[test]
fn gnu_cpio_unpacks_what_we_write() {
    let mut archive = Archive::default();
    archive.folder("tmp", 0o1777).unwrap();
    archive.file("/usr/bin/recon", 0o755, b"12345").unwrap();
    archive.file("usr/lib/empty", 0o600, b"").unwrap();
    archive.link("init", "usr/bin/recon").unwrap();
    archive.character_device("dev/console", 0o600, 5, 1).unwrap();
    let bytes = archive.finish().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let cpio = |words: &[&str]| {
        let mut command = Command::new("cpio");
        command
            .args(words)
            .current_dir(&folder)
            .env("TZ", "UTC")
            .env("LC_ALL", "C");
        let started = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = started.expect("cpio is missing (package cpio)");
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let list = cpio(&["--list", "--verbose", "--numeric-uid-gid", "--quiet"]);
    let list: Vec<String> = list
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        list,
        [
            "drwxrwxrwt 2 0 0 0 Jan 1 1970 tmp",
            "drwxr-xr-x 2 0 0 0 Jan 1 1970 usr",
            "drwxr-xr-x 2 0 0 0 Jan 1 1970 usr/bin",
            "-rwxr-xr-x 1 0 0 5 Jan 1 1970 usr/bin/recon",
            "drwxr-xr-x 2 0 0 0 Jan 1 1970 usr/lib",
            "-rw------- 1 0 0 0 Jan 1 1970 usr/lib/empty",
            "lrwxrwxrwx 1 0 0 13 Jan 1 1970 init -> usr/bin/recon",
            "drwxr-xr-x 2 0 0 0 Jan 1 1970 dev",
            "crw------- 1 0 0 5, 1 Jan 1 1970 dev/console",
        ]
    );
    cpio(&[
        "--extract",
        "--make-directories",
        "--no-preserve-owner",
        "--quiet",
        "usr/*",
        "init",
    ]);
    assert_eq!(std::fs::read(folder.path().join("init")).unwrap(), b"12345");
}
