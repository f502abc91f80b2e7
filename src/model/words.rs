//! Enums whose values are words: in settings, on kernel lines, in the API, for people.

/// A word that is none of those that are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not {what}; known: {}", known.join(", "))]
pub struct UnknownWord {
    pub word: String,
    /// What it should have been, with its article.
    pub what: &'static str,
    pub known: &'static [&'static str],
}

/// For readers of settings, whose error is a sentence for the person who wrote them.
impl From<UnknownWord> for String {
    fn from(error: UnknownWord) -> Self {
        error.to_string()
    }
}

/// `words! { "a colour", pub enum Colour { Red = "red", } }`: each word stands once, to be written and to be read. An unknown one is an
/// error, never a default.
macro_rules! words {
    ($what:literal, $(#[$on:meta])* pub enum $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$on])*
        pub enum $name { $($(#[$doc])* $value,)+ }

        impl $name {
            const WORDS: &'static [&'static str] = &[$($word),+];
            pub const ALL: [Self; Self::WORDS.len()] = [$(Self::$value),+];

            pub const fn as_str(self) -> &'static str {
                Self::WORDS[self as usize]
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::model::words::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let known = Self::ALL.into_iter().find(|value| value.as_str() == text);
                known.ok_or_else(|| Self::Err { word: text.to_owned(), what: $what, known: Self::WORDS })
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::model::words::UnknownWord;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    };
}
pub(crate) use words;
