//! Help texts are golden: a person reads them, so a change is to be seen in review.

use std::collections::BTreeSet;
use std::process::Command;

use clap::Parser;
use clap::error::ErrorKind;
use recon::cli::args::Cli;
use recon::service::http::route::{NoRoute, route};
use regex::Regex;

use crate::layering::{programs, root};

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_recon"))
        .args(words)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// `UPDATE_GOLDEN=1 cargo test` writes the files anew; read the diff before committing it.
#[test]
fn every_help_text_is_the_reviewed_one() {
    let top = help(&[]);
    let subcommands: Vec<&str> = top
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.strip_prefix("  ")?
                .split(' ')
                .next()
                .filter(|name| !name.is_empty())
        })
        .filter(|name| *name != "help")
        .collect();
    assert!(
        subcommands.contains(&"run") && subcommands.contains(&"collect"),
        "{top}"
    );
    let mut texts = vec![("recon".to_owned(), top.clone())];
    texts.extend(subcommands.iter().map(|name| ((*name).to_owned(), help(&[name]))));
    for (name, text) in texts {
        let path = format!("{}/tests/golden/help/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).expect(&path), text, "{path}");
    }
}

#[test]
fn wrong_words_fail_and_say_why() {
    for (words, why) in [
        (&["master"][..], "--link"),
        (&["master", "--link", "eth0=1.2.3.4"][..], "address/prefix"),
        (&["peer", "--master", "bang"][..], "is not an IP address"),
        (&["dance"][..], "dance"),
        (
            &["collect", "/nonexistent", "-o", "/nonexistent/x.tar.gz"][..],
            "/nonexistent",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_recon")).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{words:?}");
        assert!(text.contains(why), "{words:?}: {text}");
    }
}

/// What people read: where it is from, and whether it is said by the program itself.
fn read_by_people() -> Vec<(String, String)> {
    let mut texts: Vec<(String, String)> = programs()
        .into_iter()
        // A sentence goes on where a line of the source ends.
        .map(|(name, text)| (name, text.replace("\\\n", "")))
        .collect();
    for entry in std::fs::read_dir(root().join("tests/golden/help")).unwrap() {
        let path = entry.unwrap().path();
        texts.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
    }
    for name in [
        "README.md",
        "src/config/recon.toml",
        "services/recon.service",
        "services/recon-peer.service",
        "services/recon-console@.service",
        "services/recon-write-disk@.service",
        "overlay/usr/lib/udev/rules.d/01-recon-guard.rules",
    ] {
        texts.push((name.to_owned(), std::fs::read_to_string(root().join(name)).unwrap()));
    }
    texts
}

/// A command that a sentence tells a person to type, or that a unit starts, is one that the program takes.
#[test]
fn every_command_that_is_named_is_one() {
    // In backquotes, in a block of commands, or where a unit or rule starts it.
    let quoted =
        Regex::new(r#"`recon ([a-z][^`\n]*)`|(?m)^recon ([a-z-]+ [-/][^#\n]*)|/usr/bin/recon ([a-z][^"\n]*)"#).unwrap();
    let spaces = Regex::new(r" +").unwrap();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for (place, text) in read_by_people() {
        for found in quoted.captures_iter(&text) {
            let words = found.iter().skip(1).flatten().next().unwrap().as_str();
            // What is piped on is another program's; formats and devices stand for something.
            let words = words
                .split(" | ")
                .next()
                .unwrap_or_default()
                .replace("{}", "x")
                .replace('$', "");
            let words: Vec<&str> = spaces.split(words.trim()).collect();
            match Cli::try_parse_from(std::iter::once("recon").chain(words.iter().copied())) {
                Ok(_) => {}
                // The documentation may name a program without all its words; what the program itself says must be whole.
                Err(error) if error.kind() == ErrorKind::MissingRequiredArgument && !place.ends_with(".rs") => {}
                Err(error) => wrong.push(format!("{place}: recon {}: {error}", words.join(" "))),
            }
            seen.insert(words[0].to_owned());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for known in ["status", "collect", "settings", "run", "console", "guard"] {
        assert!(seen.contains(known), "the sentences are not found any more: {seen:?}");
    }
}

/// An address that a sentence or a script names is one that the master answers.
#[test]
fn every_address_that_is_named_is_served() {
    // `http://HOST/PATH` of a sentence, `{base}/PATH` of a script, `(http,HOST)/PATH` of GRUB, links of a page.
    let named =
        Regex::new(r#"(?:http://[A-Za-z0-9.\[\]{}<>:]+|\{base\}|\(http,\{server\}\)|href=\\")(/[A-Za-z0-9_./{}-]*)"#)
            .unwrap();
    let mut seen = BTreeSet::new();
    for (place, text) in read_by_people() {
        let sites = ["http://mirror", "https://"];
        for found in named.captures_iter(&text) {
            let path = found[1].replace("{TARBALL}", recon::model::layout::TARBALL);
            if path.contains('{') || sites.iter().any(|site| found[0].starts_with(site)) {
                continue;
            }
            let answer = route("GET", path.trim_end_matches('.'));
            assert!(!matches!(answer, Err(NoRoute::NotFound)), "{place}: {}", &found[0]);
            seen.insert(path);
        }
    }
    for known in [
        "/export/recon-inventory.tar.gz",
        "/menu.ipxe",
        "/boot/x86_64/kernel",
        "/metrics",
        "/isos/",
    ] {
        assert!(seen.contains(known), "the addresses are not found any more: {seen:?}");
    }
}
