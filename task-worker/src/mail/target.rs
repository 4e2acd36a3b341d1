use std::{borrow::Cow, fmt, net::IpAddr, path::PathBuf};

use anyhow::{Context, bail, ensure};
use lettre::transport::smtp::authentication::Credentials;
use percent_encoding::percent_decode_str;
use url::Url;

/// Where emails go, as the URL of `--mail` says. No error repeats the URL: it may hold a password.
pub(super) enum Target {
    Smtp(Server),
    Folder(PathBuf),
    Null,
}

/// A mail server, and how it is talked to.
pub(super) struct Server {
    /// A name, or an IP address without brackets.
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub credentials: Option<Credentials>,
    /// Whether a password may be sent in the clear: the host is this machine, or the URL says so.
    pub clear_is_fine: bool,
    /// The name to greet it with, if not the sender's domain.
    pub greet_as: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    None,
    /// STARTTLS if the server offers it.
    Opportunistic,
    /// STARTTLS, or no email.
    Required,
    /// TLS from the start.
    Implicit,
}

impl Security {
    /// The ports of RFC 5321, RFC 6409 and RFC 8314.
    fn default_port(self) -> u16 {
        match self {
            Self::None => 25,
            Self::Opportunistic | Self::Required => 587,
            Self::Implicit => 465,
        }
    }
}

impl Target {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        match text.split_once(':') {
            Some(("null", "")) => Ok(Self::Null),
            Some(("file", path)) => {
                let host = path.starts_with("//") && !path.starts_with("///");
                ensure!(!path.is_empty() && !host, "--mail: expected file:folder or file:/absolute/folder");
                Ok(Self::Folder(path.into()))
            }
            Some(("smtp" | "smtps", _)) => Server::parse(text).map(Self::Smtp),
            _ => bail!("--mail: expected a URL that begins with smtp://, smtps://, file: or null:"),
        }
    }
}

impl Server {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let url = Url::parse(text)
            .context("--mail: not a URL (are `/`, `@`, `#` … in user and password written as %XX?)")?;
        let host = url.host_str().filter(|host| !host.is_empty()).context("--mail: the URL names no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let here = is_this_machine(&host);
        let (security, said_none) = security(&url, here)?;
        let path = url.path().trim_matches('/');
        ensure!(
            path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
            "--mail: the URL's path is the name to greet the server with, such as mail.example.org"
        );
        Ok(Self {
            port: url.port().unwrap_or(security.default_port()),
            security,
            credentials: credentials(&url)?,
            clear_is_fine: here || said_none,
            greet_as: (!path.is_empty()).then(|| path.to_owned()),
            host,
        })
    }
}

/// How secure the connection is to be, and whether the URL itself says that it need not be.
fn security(url: &Url, here: bool) -> anyhow::Result<(Security, bool)> {
    let mut tls = None;
    for (name, value) in url.query_pairs() {
        ensure!(name == "tls" && tls.is_none(), "--mail: the URL takes one parameter, `tls`");
        tls = Some(value);
    }
    Ok(match (url.scheme(), tls.as_deref()) {
        ("smtps", None) => (Security::Implicit, false),
        ("smtps", Some(_)) => bail!("--mail: smtps:// is TLS from the start; there is no `tls` to choose"),
        (_, Some("required")) => (Security::Required, false),
        (_, Some("opportunistic")) => (Security::Opportunistic, false),
        (_, Some("none")) => (Security::None, true),
        (_, Some(_)) => bail!("--mail: `tls` is one of required, opportunistic and none"),
        (_, None) if here => (Security::None, false),
        (_, None) => bail!(
            "--mail: smtp:// alone would send emails in the clear over the network; say ?tls=required (STARTTLS), \
             use smtps://, or say ?tls=none if it is meant"
        ),
    })
}

fn credentials(url: &Url) -> anyhow::Result<Option<Credentials>> {
    let decoded = |text| percent_decode_str(text).decode_utf8().map(Cow::into_owned);
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        ("", Some(_)) | (_, None | Some("")) => {
            bail!("--mail: user and password come together: user:password@host")
        }
        (user, Some(password)) => {
            let both = decoded(user).and_then(|user| Ok((user, decoded(password)?)));
            let (user, password) = both.context("--mail: user and password are to be UTF-8")?;
            Ok(Some(Credentials::new(user, password)))
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Without user and password.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, tls) = match self.security {
            Security::None => ("smtp", "?tls=none"),
            Security::Opportunistic => ("smtp", "?tls=opportunistic"),
            Security::Required => ("smtp", "?tls=required"),
            Security::Implicit => ("smtps", ""),
        };
        let Self { host, port, .. } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}{tls}")
        } else {
            write!(f, "{scheme}://{host}:{port}{tls}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        match Target::parse(url) {
            Ok(Target::Smtp(server)) => server,
            Ok(_) => panic!("{url} is no server"),
            Err(error) => panic!("{url}: {error:#}"),
        }
    }

    fn refusal(url: &str) -> String {
        format!("{:#}", Target::parse(url).err().expect(url))
    }

    #[test]
    fn a_url_says_how_secure_the_connection_is_and_so_which_port() {
        for (url, shown) in [
            ("smtps://example.org", "smtps://example.org:465"),
            ("smtp://example.org?tls=required", "smtp://example.org:587?tls=required"),
            ("smtp://example.org:2525?tls=opportunistic", "smtp://example.org:2525?tls=opportunistic"),
            ("smtp://example.org?tls=none", "smtp://example.org:25?tls=none"),
            ("smtp://[::1]:1025", "smtp://[::1]:1025?tls=none"),
        ] {
            assert_eq!(server(url).to_string(), shown);
        }
    }

    #[test]
    fn nothing_goes_over_the_network_in_the_clear_unless_the_url_says_so() {
        assert!(refusal("smtp://example.org").contains("?tls=required"));
        for here in ["smtp://localhost", "smtp://127.0.0.1:25", "smtp://[::1]"] {
            assert!(server(here).clear_is_fine, "{here}");
        }
        assert!(!server("smtp://a:b@example.org?tls=opportunistic").clear_is_fine);
        assert!(server("smtp://a:b@example.org?tls=none").clear_is_fine);
    }

    #[test]
    fn user_and_password_are_percent_decoded() {
        let expected = Credentials::new("me@example.org".into(), "p/ä#".into());
        assert!(server("smtps://me%40example.org:p%2F%C3%A4%23@example.org").credentials == Some(expected));
    }

    #[test]
    fn a_url_that_cannot_be_meant_is_refused_without_being_repeated() {
        for url in [
            "",
            "mail",
            "http://me:secret@example.org",
            "smtp:",
            "smtps://me:secret@",
            "smtps://me@example.org",
            "smtps://:secret@example.org",
            "smtps://me:secret@example.org?tls=none",
            "smtps://me:secret@host:99999",
            "smtp://me:secret@example.org?tsl=required",
            "smtp://me:secret@example.org?tls=maybe",
            "smtps://me:secret@example.org/a%20b",
            "smtps://me:%FFsecret@example.org",
            "file:",
            "file://mail",
            "null:x",
        ] {
            let error = refusal(url);
            assert!(error.starts_with("--mail: ") && !error.contains("secret"), "{url}: {error}");
        }
    }
}
