//! Is a boot script complete? Pure.

/// What is wrong with a script.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("it is empty")]
    Empty,
    #[error("line {number}: {what}: {line}")]
    Line {
        number: usize,
        what: &'static str,
        line: String,
    },
}

/// Says what is wrong with a script that must not leave: a placeholder nobody filled in, a setting that iPXE does not know, a
/// character that is none.
pub(crate) fn complete(script: &str) -> Result<(), Flaw> {
    for (number, line) in script.lines().enumerate() {
        let flaw = |what| {
            let (number, line) = (number + 1, line.to_owned());
            Err(Flaw::Line { number, what, line })
        };
        if line.chars().any(|c| !(' '..='~').contains(&c)) {
            return flaw("a character that a console may not have");
        }
        if line.contains("{{") || line.contains("}}") || placeholder(line) {
            return flaw("a placeholder that nobody filled in");
        }
        if line.matches("${").count() > known_settings(line) {
            return flaw("a setting that iPXE does not have");
        }
    }
    match script.is_empty() {
        true => Err(Flaw::Empty),
        false => Ok(()),
    }
}

/// `@NAME@` and `<NAME>`, as templates write them.
fn placeholder(line: &str) -> bool {
    let named = |open: char, close: char| {
        line.match_indices(open).any(|(at, _)| {
            line[at + 1..].split_once(close).is_some_and(|(name, _)| {
                !name.is_empty()
                    && name
                        .chars()
                        .all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())
            })
        })
    };
    named('@', '@') || named('<', '>')
}

/// How many `${…}` of a line are settings that iPXE fills in by itself or that our scripts set.
fn known_settings(line: &str) -> usize {
    const OURS: [&str; 23] = [
        "${netX/mac:hexhyp}",
        "${netX/busid:hexhyp}",
        "${netX/ip}",
        "${netX/netmask}",
        "${netX/gateway}",
        "${uuid}",
        "${buildarch}",
        "${serial:uristring}",
        "${platform}",
        "${memsize}",
        "${smbios/19.4.8:hexhyp}",
        "${smbios/1.19.4.8:hexhyp}",
        "${smbios/2.19.4.8:hexhyp}",
        "${smbios/17.12.2:hexhyp}",
        "${smbios/1.17.12.2:hexhyp}",
        "${net0/mac}",
        "${net${port}/mac}",
        "${net${port}/ip}",
        "${port}",
        "${wait}",
        "${waits}",
        "${tries}",
        "${what}",
    ];
    // `${port}` stands inside others as well and is counted there, so each of those counts once more by itself.
    OURS.iter().map(|setting| line.matches(setting).count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flaw_is_named() {
        for (script, flaw) in [
            ("#!ipxe\nkernel http://{{ master }}/kernel\n", "placeholder"),
            ("#!ipxe\nkernel http://@MASTER@/kernel\n", "placeholder"),
            ("#!ipxe\nkernel http://<MASTER_IP>/kernel\n", "placeholder"),
            ("#!ipxe\nkernel http://${master}/kernel\n", "setting"),
            ("#!ipxe\nkernel http://${netX/ip}/${kernel\n", "setting"),
            ("#!ipxe\necho caf\u{e9}\n", "character"),
            ("#!ipxe\necho \u{1b}[2J\n", "character"),
            ("", "empty"),
        ] {
            let said = complete(script).expect_err(script).to_string();
            assert!(said.contains(flaw), "{said}");
        }
    }
}
