//! What a URL of NATS says. The client takes no user from it, so we do; it also keeps the password out of what the
//! client logs.

use percent_encoding::percent_decode_str;

/// Servers without users, and the one user for all of them: a server that another one tells of has no URL of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    pub servers: Vec<String>,
    pub user: Option<String>,
    pub password: Option<String>,
}

/// What is wrong with a URL; it says nothing of the URL itself, which may hold a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("no server is named; expected like nats://host:4222")]
    Empty,
    #[error("the servers are asked by different users; name one user, and the same everywhere")]
    SeveralUsers,
    #[error("the user or the password has a % that is no character (%25 is one)")]
    Encoding,
}

impl Address {
    pub fn parse(urls: &str) -> Result<Self, Unreadable> {
        let mut address = Self { servers: Vec::new(), user: None, password: None };
        for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
            let (credentials, host) = match rest.rsplit_once('@') {
                Some((credentials, host)) => (Some(credentials), host),
                None => (None, rest),
            };
            address.servers.push(format!("{scheme}://{host}"));
            if let Some(credentials) = credentials {
                address.learn(credentials)?;
            }
        }
        if address.servers.is_empty() { Err(Unreadable::Empty) } else { Ok(address) }
    }

    fn learn(&mut self, credentials: &str) -> Result<(), Unreadable> {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password)?)),
            None => (credentials, None),
        };
        let user = Some(decoded(user)?);
        if self.user.is_some() && (&self.user, &self.password) != (&user, &password) {
            return Err(Unreadable::SeveralUsers);
        }
        (self.user, self.password) = (user, password);
        Ok(())
    }
}

fn decoded(text: &str) -> Result<String, Unreadable> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| Unreadable::Encoding)?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(urls: &str) -> (Vec<String>, Option<String>, Option<String>) {
        let Address { servers, user, password } = Address::parse(urls).unwrap();
        (servers, user, password)
    }

    #[test]
    fn a_url_may_have_no_user() {
        assert_eq!(parsed("nats://host:4222"), (vec!["nats://host:4222".into()], None, None));
        assert_eq!(parsed("host").0, ["nats://host"]);
    }

    #[test]
    fn the_user_is_taken_from_any_of_several_servers_and_left_out_of_their_urls() {
        let (servers, user, password) = parsed("tls://projector:p%40ss@one, tls://two:4223");
        assert_eq!(servers, ["tls://one", "tls://two:4223"]);
        assert_eq!((user.as_deref(), password.as_deref()), (Some("projector"), Some("p@ss")));
    }

    #[test]
    fn a_user_may_have_its_password_elsewhere() {
        let (_, user, password) = parsed("nats://projector@host");
        assert_eq!((user.as_deref(), password), (Some("projector"), None));
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_password() {
        for (urls, expected) in [
            (" , ", Unreadable::Empty),
            ("nats://a:secret@one,nats://b:secret@two", Unreadable::SeveralUsers),
            ("nats://a:secret%ff@one", Unreadable::Encoding),
        ] {
            let error = Address::parse(urls).unwrap_err();
            assert!(!error.to_string().contains("secret"));
            assert_eq!(error, expected);
        }
    }
}
