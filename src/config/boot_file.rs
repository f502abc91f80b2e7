//! Settings of the boot image: a text file that any computer can edit (`boot.toml` here is what the image is made with), handed to the
//! first stage by its boot loader. No I/O.

use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;

/// What the boot image is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BootFile {
    pub boot: Boot,
    pub network: Network,
}

/// What is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Boot {
    /// The boot script, or a kernel.
    pub url: Option<String>,
    pub proxy: Option<String>,
    /// Words behind the kernel's command line.
    pub append: Option<String>,
}

/// How the URL is reached. Without an address every wired port asks for one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Network {
    address: Option<String>,
    pub gateway: Option<Ipv4Addr>,
    pub dns: Vec<IpAddr>,
}

/// More name servers than are asked.
const MAX_NAME_SERVERS: usize = 8;

impl BootFile {
    /// Reads the file. A setting that is not understood is an error: a proxy or an address that is passed over would lead elsewhere.
    ///
    /// # Errors
    /// What is wrong and in which line, for the person who wrote it.
    pub(crate) fn read(bytes: &[u8]) -> Result<BootFile, String> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| "it is not plain text in UTF-8: save it as that".to_owned())?;
        // Editors of Windows begin with a mark of the byte order.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let file: BootFile = toml::from_str(text).map_err(|error| error.to_string())?;
        file.network.address()?;
        if file.network.dns.len() > MAX_NAME_SERVERS {
            return Err(format!("[network] dns: more than {MAX_NAME_SERVERS} name servers"));
        }
        if file.network.address.is_none() && file.network.gateway.is_some() {
            return Err("[network] gateway: it goes with an address".to_owned());
        }
        Ok(file)
    }
}

impl Network {
    /// The address and the length of its prefix.
    pub(crate) fn address(&self) -> Result<Option<(IpAddr, u8)>, String> {
        let Some(text) = &self.address else { return Ok(None) };
        super::cmdline::parse_address(text)
            .map(Some)
            .map_err(|why| format!("[network] address: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_of_the_image_is_read_as_it_is_and_with_each_line_switched_on() {
        let text = include_str!("boot.toml");
        assert_eq!(BootFile::read(text.as_bytes()).unwrap(), BootFile::default());
        let on: String = text
            .lines()
            .map(|line| {
                format!(
                    "{}\r\n",
                    line.strip_prefix('#')
                        .filter(|rest| rest.contains(" = "))
                        .unwrap_or(line)
                )
            })
            .collect();
        let file = BootFile::read(format!("\u{feff}{on}").as_bytes()).unwrap();
        assert_eq!(file.boot.url.as_deref(), Some("http://boot.example/boot.ipxe"));
        assert_eq!(file.boot.proxy.as_deref(), Some("http://10.0.0.8:3128"));
        assert_eq!(
            file.network.address().unwrap(),
            Some((IpAddr::from([192, 0, 2, 5]), 24))
        );
        assert_eq!(file.network.gateway, Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(file.network.dns, [IpAddr::from([192, 0, 2, 53])]);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, words) in [
            ("[boot]\nurl = http://x", "line 2"),
            ("[boot]\nurl = \"http://x\"\nprxy = \"y\"", "prxy"),
            ("[network]\naddress = \"192.0.2.5\"", "192.0.2.5/24"),
            ("[network]\ngateway = \"192.0.2.1\"", "goes with an address"),
            ("[network]\ndns = \"192.0.2.1\"", "dns"),
        ] {
            let why = BootFile::read(text.as_bytes()).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
        assert!(BootFile::read(b"\xff\xfe[\0b\0").unwrap_err().contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn any_file_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = BootFile::read(&bytes);
        }
    }
}
