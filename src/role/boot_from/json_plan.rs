//! A plan in JSON, in the place of a boot script: `{"kernel": URL, "initrds": [URL], "cmdline": WORDS, "sha256": {NAME: HEX}}`. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::plan::{Sum, last_part};
use crate::service::boot_script::{Initrd, Plan};
use crate::service::fetch::url::Target;

/// Most initrds, as of a script.
const MAX_INITRDS: usize = 64;
/// Longest command line that is looked at; each kernel says what it takes.
const MAX_LINE_BYTES: usize = 64 << 10;

/// What is not known is not passed over: it may be what the writer relies on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kernel: String,
    #[serde(default)]
    initrds: Vec<String>,
    #[serde(default)]
    cmdline: String,
    #[serde(default)]
    sha256: BTreeMap<String, String>,
}

/// Whether a file that begins so is meant as one.
pub(super) fn is_one(head: &[u8]) -> bool {
    without_mark(head).trim_ascii_start().starts_with(b"{")
}

/// Editors of Windows begin with a mark of the byte order, which a reader may pass over (RFC 8259 §8.1).
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// What is to be started, with its images numbered from 0, and the sums that they have to have. Names are looked for beside `base`, where
/// the plan was found.
///
/// # Errors
/// It is no such plan, in words.
pub(super) fn read(bytes: &[u8], base: &Target) -> Result<(Plan, Vec<Sum>), String> {
    let written: Written =
        serde_json::from_slice(without_mark(bytes)).map_err(|error| format!("it is no plan in JSON: {error}"))?;
    if written.initrds.len() > MAX_INITRDS {
        return Err(format!("the plan has more than {MAX_INITRDS} initrds"));
    }
    if written.cmdline.len() > MAX_LINE_BYTES || written.cmdline.contains(char::is_control) {
        return Err("cmdline of the plan is no line of words".to_owned());
    }
    let url = |name: &String| base.redirect(name).map(|target| target.as_str().to_owned());
    let initrd = |(index, name): (usize, &String)| {
        let url = url(name)?;
        let name = last_part(&url).to_owned();
        let image = index + 1;
        Ok::<_, String>(Initrd {
            image,
            name,
            url,
            place: None,
        })
    };
    let plan = Plan {
        kernel: 0,
        url: url(&written.kernel)?,
        command_line: written.cmdline.clone(),
        initrds: written
            .initrds
            .iter()
            .enumerate()
            .map(initrd)
            .collect::<Result<_, _>>()?,
    };
    let sums = written.sha256.iter().map(|(name, hex)| format!("{name}={hex}").parse());
    Ok((plan, sums.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> Target {
        Target::read("https://a.example/d/plan.json?x=1").unwrap()
    }

    #[test]
    fn names_are_looked_for_beside_the_plan() {
        let hex = "0".repeat(64);
        let text = format!(
            r#" {{"kernel":"linux","initrds":["/i.img?a=1","https://b.example/j"],"cmdline":"a=\"b c\"","sha256":{{"linux":"{hex}"}}}}"#
        );
        assert!(is_one(text.as_bytes()) && !is_one(b"#!ipxe\n") && !is_one(b""));
        let (plan, sums) = read(text.as_bytes(), &base()).unwrap();
        assert_eq!((plan.kernel, plan.url.as_str()), (0, "https://a.example/d/linux"));
        assert_eq!(plan.command_line, "a=\"b c\"");
        let initrds: Vec<_> = plan
            .initrds
            .iter()
            .map(|one| (one.image, one.name.as_str(), one.url.as_str()))
            .collect();
        assert_eq!(
            initrds,
            [
                (1, "i.img", "https://a.example/i.img?a=1"),
                (2, "j", "https://b.example/j")
            ]
        );
        assert_eq!(sums, [format!("linux={hex}").parse().unwrap()]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let many = format!(r#"{{"kernel":"k","initrds":[{}"x"]}}"#, "\"x\",".repeat(MAX_INITRDS));
        for (text, why) in [
            ("{", "no plan in JSON"),
            ("{}", "kernel"),
            (r#"{"kernel":"k","initrd":"i"}"#, "initrd"),
            (r#"{"kernel":"http://a.example/k"}"#, "leads out of TLS"),
            (r#"{"kernel":"ftp://a.example/k"}"#, "only http and https"),
            (r#"{"kernel":"k","cmdline":"a\nb"}"#, "no line of words"),
            (r#"{"kernel":"k","sha256":{"k":"00"}}"#, "64 digits"),
            (&many, "more than 64 initrds"),
        ] {
            let error = read(text.as_bytes(), &base()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\{(\"(kernel|cmdline|initrds|sha256)\":[\\PC]{0,20},?){0,4}\\}") {
            let _ = read(text.as_bytes(), &base());
        }
    }
}
