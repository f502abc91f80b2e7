//! Options of a command, as iPXE's getopt takes them: before all other words, long or short, up to `--`. Pure.

/// `--long`, `-s`, and whether a value follows.
pub(super) type Known = (&'static str, char, bool);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed<'a> {
    given: Vec<(&'static str, &'a str)>,
    pub(super) rest: &'a [String],
}

impl Parsed<'_> {
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.given
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| *value)
    }
}

/// # Errors
/// An option that the command has not, or one without its value, in words.
pub(super) fn parse<'a>(words: &'a [String], known: &[Known]) -> Result<Parsed<'a>, String> {
    let mut given = Vec::new();
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        if word == "--" {
            rest = after;
            break;
        }
        let (spelled, joined) = match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(long), _) => {
                let (name, joined) = long
                    .split_once('=')
                    .map_or((long, None), |(name, value)| (name, Some(value)));
                (known.iter().find(|(long, ..)| *long == name), joined)
            }
            (None, Some(short)) if !short.is_empty() => {
                let mut chars = short.chars();
                let letter = chars.next();
                (
                    known.iter().find(|(_, short, _)| Some(*short) == letter),
                    Some(chars.as_str()).filter(|value| !value.is_empty()),
                )
            }
            _ => break,
        };
        let (name, _, takes_value) = spelled.ok_or_else(|| format!("it has no option {word}"))?;
        rest = after;
        let value = match (takes_value, joined) {
            (false, _) => "",
            (true, Some(value)) => value,
            (true, None) => {
                let (value, after) = rest.split_first().ok_or_else(|| format!("{word} wants a value"))?;
                rest = after;
                value
            }
        };
        given.push((*name, value));
    }
    Ok(Parsed { given, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Known] = &[("name", 'n', true), ("replace", 'r', false)];

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn options_come_first_and_in_both_spellings() {
        for (line, name, replace, rest) in [
            ("--name a --replace u x", Some("a"), true, 2),
            ("--name=a u", Some("a"), false, 1),
            ("-r -n a u", Some("a"), true, 1),
            ("-na u", Some("a"), false, 1),
            ("u --replace", None, false, 2),
            ("-- --replace", None, false, 1),
            ("- u", None, false, 2),
        ] {
            let words = words(line);
            let parsed = parse(&words, KNOWN).unwrap();
            assert_eq!(
                (parsed.value("name"), parsed.has("replace"), parsed.rest.len()),
                (name, replace, rest),
                "{line}"
            );
        }
    }

    #[test]
    fn a_wrong_option_is_named() {
        assert!(parse(&words("--other u"), KNOWN).unwrap_err().contains("--other"));
        assert!(parse(&words("--name"), KNOWN).unwrap_err().contains("wants a value"));
    }
}
