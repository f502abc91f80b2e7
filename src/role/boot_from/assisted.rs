//! The boot script that assisted-service (OpenShift's assisted installer) has for the machines of an infra-env. Pure.

use std::path::PathBuf;

use crate::service::fetch::url::{Scheme, Target};

/// Where it is asked, and where its users' tokens are had, unless somebody names others.
pub(crate) const API: &str = "https://api.openshift.com/api";
pub(crate) const TOKEN_URL: &str = "https://sso.redhat.com/auth/realms/redhat-external/protocol/openid-connect/token";
/// As whom a token is asked for.
pub(super) const CLIENT_ID: &str = "cloud-services";

/// An infra-env, and who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Assisted {
    /// Its UUID.
    pub(crate) infra_env: String,
    /// [`API`] where none is named.
    pub(crate) api: Option<String>,
    pub(crate) token: Token,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Token {
    /// A service of one's own may ask for none.
    #[default]
    None,
    /// Of a file with an access token, good for minutes.
    File(PathBuf),
    /// Of a file with a refresh token, for which `url` ([`TOKEN_URL`] where none is named) gives access tokens.
    Refresh { file: PathBuf, url: Option<String> },
}

/// A URL that is asked with a token, or for one.
fn guarded(text: &str, what: &str) -> Result<Target, String> {
    let target = Target::read(text)?;
    match (target.scheme, &target.authorization) {
        (Scheme::Http, _) => Err(format!("{target}: {what} goes over https alone")),
        (_, Some(_)) => Err(format!("{target}: {what} goes there, and no user with it")),
        _ => Ok(target),
    }
}

impl Assisted {
    /// Its boot script.
    ///
    /// # Errors
    /// The infra-env is no UUID, or the API's URL none that may be asked.
    pub(super) fn script(&self) -> Result<Target, String> {
        let id = &self.infra_env;
        // Of the forms that are read, the one that the service writes.
        let id = id.parse::<uuid::Uuid>().ok().filter(|_| id.len() == 36);
        let id = id.ok_or("an infra-env is named by its UUID, such as 01234567-89ab-cdef-0123-456789abcdef")?;
        let api = self.api.as_deref().unwrap_or(API).trim_end_matches('/');
        if api.contains(['?', '#']) {
            return Err("the URL of an API ends with its path, such as /api".to_owned());
        }
        let url = format!("{api}/assisted-install/v2/infra-envs/{id}/downloads/files?file_name=ipxe-script");
        match self.token {
            Token::None => Target::read(&url),
            _ => guarded(&url, "a token"),
        }
    }

    /// Where access tokens are had.
    ///
    /// # Errors
    /// It is no URL, or a token would be read by others on its way.
    pub(super) fn token_url(url: Option<&str>) -> Result<Target, String> {
        guarded(url.unwrap_or(TOKEN_URL), "a refresh token")
    }
}

/// Whether this is where assisted-service writes a script for one machine. For one that is installed, or about to be, it has none
/// there: its disk is to have its turn.
pub(super) fn is_of_one_machine(url: &str) -> bool {
    let Some((path, query)) = url.split_once('?') else {
        return false;
    };
    let pairs = || query.split('&').filter_map(|pair| pair.split_once('='));
    path.ends_with("/downloads/files")
        && path.contains("/infra-envs/")
        && pairs().any(|pair| pair == ("file_name", "ipxe-script"))
        && pairs().any(|(name, value)| name == "mac" && !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01234567-89AB-cdef-0123-456789abcdef";

    fn script(infra_env: &str, api: Option<&str>, token: Token) -> Result<String, String> {
        let assisted = Assisted {
            infra_env: infra_env.to_owned(),
            api: api.map(str::to_owned),
            token,
        };
        assisted.script().map(|target| target.as_str().to_owned())
    }

    #[test]
    fn the_script_is_where_the_service_has_it() {
        let path =
            "assisted-install/v2/infra-envs/01234567-89ab-cdef-0123-456789abcdef/downloads/files?file_name=ipxe-script";
        for (api, base) in [
            (None, API),
            (Some("https://a.example/api/"), "https://a.example/api"),
            (Some("http://192.0.2.1:8090/api"), "http://192.0.2.1:8090/api"),
        ] {
            assert_eq!(script(ID, api, Token::None), Ok(format!("{base}/{path}")));
        }
    }

    #[test]
    fn what_is_no_infra_env_or_would_show_a_token_is_refused() {
        for id in [
            "",
            "x",
            "../../../etc",
            "0123456789abcdef0123456789abcdef",
            "{01234567-89ab-cdef-0123-456789abcdef}",
            "1/2",
        ] {
            assert!(script(id, None, Token::None).unwrap_err().contains("UUID"), "{id}");
        }
        let token = || Token::File("t".into());
        assert!(
            script(ID, Some("http://a/api"), token())
                .unwrap_err()
                .contains("https alone")
        );
        assert!(
            script(ID, Some("https://u:pw@a/api"), token())
                .unwrap_err()
                .contains("no user")
        );
        assert!(
            !script(ID, Some("https://u:pw@a/api"), token())
                .unwrap_err()
                .contains("pw")
        );
        assert!(
            script(ID, Some("https://a/api?x"), token())
                .unwrap_err()
                .contains("its path")
        );
        assert!(
            Assisted::token_url(Some("http://a/t"))
                .unwrap_err()
                .contains("https alone")
        );
        assert_eq!(Assisted::token_url(None).unwrap().as_str(), TOKEN_URL);
    }

    #[test]
    fn a_script_of_one_machine_is_told_from_others() {
        let base = format!("https://a/api/assisted-install/v2/infra-envs/{ID}/downloads/files");
        for (url, is) in [
            (
                format!("{base}?api_key=k&file_name=ipxe-script&mac=52:54:00:12:34:56"),
                true,
            ),
            (format!("{base}?file_name=ipxe-script"), false),
            (format!("{base}?file_name=ipxe-script&mac="), false),
            (format!("{base}?file_name=discovery.ign&mac=1"), false),
            (base, false),
            ("http://a/boot.ipxe?file_name=ipxe-script&mac=1".to_owned(), false),
        ] {
            assert_eq!(is_of_one_machine(&url), is, "{url}");
        }
    }
}
