//! Whose certificates are believed, and what is said where one is not. Pure. Every server is verified; there is no way to leave that out.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};

/// Mozilla's roots, those of the machine's own bundle as far as they can be read, and each of the files that a person gave, named. Without a
/// `bundle` the files alone.
///
/// # Errors
/// A given file holds no certificate, in words.
pub(crate) fn config(bundle: Option<&[u8]>, given: &[(String, Vec<u8>)]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    if let Some(bundle) = bundle {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok));
    }
    for (name, pem) in given {
        let wrong = |why: String| format!("{name} has no certificates in PEM: {why}");
        // Editors of Windows begin with a mark of the byte order.
        let pem = pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(pem);
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let read = read.map_err(|error| match error {
            PemError::MissingSectionEnd { .. } => wrong("its end is missing (END CERTIFICATE)".to_owned()),
            other => wrong(other.to_string()),
        })?;
        if read.is_empty() {
            return Err(wrong("no line says BEGIN CERTIFICATE".to_owned()));
        }
        for (at, certificate) in read.into_iter().enumerate() {
            roots.add(certificate).map_err(|error| {
                let why = match error {
                    // Its own words are of a server's.
                    Error::InvalidCertificate(CertificateError::BadEncoding) => "is damaged".to_owned(),
                    other => format!("is not taken: {other}"),
                };
                format!("{name}: certificate number {} in it {why}", at + 1)
            })?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Why a server is not spoken to, and what helps. `None` for what is no matter of TLS.
pub(super) fn told(error: &std::io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let date = |time: rustls::pki_types::UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_second(seconds).map_or_else(|_| "another time".to_owned(), |time| time.to_string())
    };
    Some(match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is signed by nobody who is known here; --ca FILE names the site's own authority (ca.pem on a boot image)"
                .to_owned()
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
            // In the library's own form: DnsName("a.example").
            let names = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name));
            format!("its certificate is for other names: {}", names.collect::<Vec<_>>().join(", "))
        }
        Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            let (end, now) = (date(*not_after), date(*time));
            format!("its certificate was good until {end}, and the clock of this machine says {now}")
        }
        Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            let (start, now) = (date(*not_before), date(*time));
            format!("its certificate is good from {start}, and the clock of this machine says {now}: set the clock")
        }
        Error::InvalidCertificate(CertificateError::Other(other)) => not_believed(&other.to_string()),
        Error::InvalidCertificate(other) => format!("its certificate is not believed: {other}"),
        Error::InvalidMessage(_) => "it does not speak TLS at this port: is it http:// there, or another port?".to_owned(),
        other => format!("TLS: {other}"),
    })
}

/// What helps where it is the certificate itself that is not as it should be; `why` in the words of the library.
fn not_believed(why: &str) -> String {
    let help = if why.contains("CaUsedAsEndEntity") {
        "it is that of an authority, as `openssl req -x509` makes it, and no server's: add -addext basicConstraints=critical,CA:FALSE"
    } else if why.contains("UnsupportedCertVersion") {
        "it is of version 1 of X.509, which names no server: make it with the extension subjectAltName"
    } else {
        why
    };
    format!("its certificate is not believed: {help}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_file_without_certificates_is_named() {
        assert!(config(Some(b"nothing"), &[]).is_ok());
        for (text, words) in [
            ("", "ca.pem has no certificates"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n",
                "ca.pem has no certificates in PEM: its end is missing",
            ),
            (
                "\u{feff}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "ca.pem: certificate number 1 in it is damaged",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "ca.pem: certificate number 1 in it is damaged",
            ),
        ] {
            let error = config(Some(b""), &[("ca.pem".to_owned(), text.into())]).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn errors_say_what_helps() {
        let told = |error| told(&std::io::Error::other(error)).unwrap();
        assert!(told(Error::InvalidCertificate(CertificateError::UnknownIssuer)).contains("--ca FILE"));
        let time = |seconds| rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let expired = CertificateError::ExpiredContext {
            time: time(86400),
            not_after: time(0),
        };
        let said = told(Error::InvalidCertificate(expired));
        assert!(
            said.contains("until 1970-01-01T00:00:00Z") && said.contains("says 1970-01-02T"),
            "{said}"
        );
        assert_eq!(super::told(&std::io::Error::other("x")), None);
    }
}
