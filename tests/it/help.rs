//! Help texts are golden: a person reads them, so a change is to be seen in review.

use std::collections::BTreeSet;
use std::process::Command;

use clap::Parser;
use clap::error::ErrorKind;
use recon::cli::args::Cli;
use recon::service::http::route::{NoRoute, route};
use regex::Regex;

use crate::golden::golden;
use crate::layering::{programs, root};
use crate::pages;

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_recon"))
        .args(words)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_help_text_is_the_reviewed_one() {
    let subcommands = subcommands();
    for known in ["run", "collect"] {
        assert!(subcommands.iter().any(|name| name == known), "{subcommands:?}");
    }
    let mut texts = vec![("recon".to_owned(), help(&[]))];
    texts.extend(subcommands.into_iter().map(|name| (name.clone(), help(&[&name]))));
    for (name, text) in texts {
        golden(format!("tests/golden/help/{name}.txt"), &text);
    }
}

/// Subcommands as `recon --help` lists them.
fn subcommands() -> Vec<String> {
    help(&[])
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().map(str::to_owned))
        .filter(|name| !name.is_empty() && name != "help")
        .collect()
}

/// Every subcommand has a page with all its options, and every shell's completions know it.
#[test]
fn every_subcommand_has_a_manual_page_and_completions() {
    let folder = tempfile::tempdir().unwrap();
    pages::write(folder.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);
    let option = Regex::new(r"(?m)^ +(?:-[a-z], )?(--[a-z][a-z-]*)").unwrap();
    // roff writes a hyphen that is one as `\-`.
    let plain = |page: String| page.replace("\\-", "-");
    let top = plain(read("man/man1/recon.1"));
    let mut options = 0;
    let found = subcommands();
    for name in &found {
        assert!(
            top.contains(&format!("recon-{name}(1)")),
            "{name} is not in recon.1: {top}"
        );
        let page = plain(read(&format!("man/man1/recon-{name}.1")));
        for said in option.captures_iter(&help(&[name])) {
            assert!(
                page.contains(&said[1]),
                "{name}: {} is not in its page: {page}",
                &said[1]
            );
            options += 1;
        }
        for shell in ["recon.bash", "recon.elv", "recon.fish", "_recon", "_recon.ps1"] {
            assert!(read(&format!("completions/{shell}")).contains(name), "{shell}: {name}");
        }
    }
    assert!(found.len() >= 10 && options >= 20, "{found:?}, {options} options");
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
        "/why.ipxe",
        "/metrics",
        "/isos/",
    ] {
        assert!(seen.contains(known), "the addresses are not found any more: {seen:?}");
    }
}
