//! Help texts are golden: a person reads them, so a change is to be seen in review.

use std::process::Command;

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
