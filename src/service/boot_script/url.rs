//! URLs that a script names, beside where it came from. Pure.

use fluent_uri::{Uri, UriRef};

/// The URL as a script may hand it on.
pub(super) fn without_user(url: &Uri<String>) -> String {
    match url.authority().and_then(|authority| authority.userinfo()) {
        Some(user) => url.as_str().replacen(&format!("://{}@", user.as_str()), "://", 1),
        None => url.as_str().to_owned(),
    }
}

/// The URL with the user of where the script came from, if it is at the same place and has none of its own.
fn with_user_of(base: Option<&Uri<String>>, url: String) -> String {
    let place = |uri: &Uri<String>| {
        let authority = uri.authority()?;
        let port = authority.port().map(|port| port.as_str().to_owned());
        Some((
            uri.scheme().as_str().to_ascii_lowercase(),
            authority.host().to_ascii_lowercase(),
            port,
        ))
    };
    let user = base.and_then(|base| base.authority()?.userinfo());
    let (Some(base), Some(user), Ok(uri)) = (base, user, Uri::parse(url.clone())) else {
        return url;
    };
    let has_own = uri.authority().is_some_and(|authority| authority.has_userinfo());
    match !has_own && place(base) == place(&uri) {
        true => url.replacen("://", &format!("://{}@", user.as_str()), 1),
        false => url,
    }
}

/// The URL that a script means. Letters that no URL may have are escaped, as iPXE lets them stand.
pub(super) fn resolved(base: Option<&Uri<String>>, reference: &str) -> Option<String> {
    let escaped: String = reference
        .chars()
        .map(|c| match c {
            ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' => format!("%{:02X}", u32::from(c)),
            c if !c.is_ascii() => {
                percent_encoding::utf8_percent_encode(&c.to_string(), percent_encoding::NON_ALPHANUMERIC).to_string()
            }
            c => c.to_string(),
        })
        .collect();
    let reference = UriRef::parse(escaped.as_str()).ok()?;
    let resolved = match base {
        Some(base) => reference.resolve_against(base).ok()?,
        None => Uri::parse(escaped.clone()).ok()?,
    };
    let plain = resolved.as_str().split('#').next()?;
    Some(with_user_of(base, plain.to_owned()))
}
