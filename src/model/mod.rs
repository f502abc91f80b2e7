//! Plain types shared by every layer: parse and format, no I/O, no async runtime.

/// Serde's way from and to the text of a word.
macro_rules! as_text {
    ($error:ty: $($name:ident),+) => {
        $(
            impl TryFrom<String> for $name {
                type Error = $error;

                fn try_from(text: String) -> Result<Self, $error> {
                    text.parse()
                }
            }

            impl From<$name> for String {
                fn from(word: $name) -> String {
                    word.to_string()
                }
            }
        )+
    };
}
pub(crate) use as_text;

pub mod api;
pub(crate) mod arch;
pub(crate) mod backoff;
pub(crate) mod cause;
pub(crate) mod clash;
pub(crate) mod console;
pub(crate) mod endpoint;
pub(crate) mod identity;
pub(crate) mod image;
pub mod inventory;
pub mod layout;
pub(crate) mod lease;
pub(crate) mod lifetime;
pub(crate) mod mac;
pub(crate) mod node;
pub(crate) mod own;
pub mod policy;
pub(crate) mod secrets;
pub mod shown;
pub mod slice;
pub mod start_report;
pub(crate) mod time;
pub mod ula;
pub(crate) mod words;

pub use arch::Arch;
pub use endpoint::Endpoint;
pub(crate) use endpoint::HTTP_PORT;
pub use image::{ImageName, ImageVersion, ImageWord, PinnedImage};
pub use lifetime::Lifetime;
pub use mac::MacAddr;
pub use node::{NodeId, Stage};
pub use own::{AuthorizedKey, HostName, OverlayName, Own};
pub use policy::{BondMode, BootMethod, NodePolicy, OnFailure, PostAction, PowerOff, RootForm};
pub use time::{RunTime, UnixTime};
