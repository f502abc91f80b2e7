//! SMBIOS: what firmware says of the machine. The table (`table`), where it is read (`source`), and its types as facts of the
//! model: the machine as a whole and its processors (`types`), memory, and the platform around them.

pub mod memory;
pub(crate) mod names;
pub(crate) mod platform;
pub(crate) mod source;
pub(crate) mod table;
pub mod types;

pub use table::{SmbiosTable, Version, entry_point};

#[cfg(test)]
pub mod testing {
    //! Tables put together for tests.

    /// One structure from its type, handle, formatted area after the header, and strings.
    pub fn structure(kind: u8, handle: u16, body: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, 4 + body.len() as u8];
        bytes.extend(handle.to_le_bytes());
        bytes.extend(body);
        for text in strings {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        if strings.is_empty() {
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }
}
