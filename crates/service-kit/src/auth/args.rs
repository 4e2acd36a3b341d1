use std::{net::SocketAddr, time::Duration};

use anyhow::{bail, ensure};
use clap::Args;

use super::source::Source;

/// Whose tokens are taken. Without --auth-jwks none is asked for.
#[derive(Args, Clone, Debug)]
pub struct AuthArgs {
    /// Where the keys are that tokens are signed with (a JWK set): a file, an https:// URL, or an http:// URL of this
    /// machine. With it, every request needs a token.
    #[arg(long, env = "HEADWATER_AUTH_JWKS", value_name = "FILE OR URL")]
    pub auth_jwks: Option<String>,

    /// Who issues the tokens: their `iss`.
    #[arg(long, env = "HEADWATER_AUTH_ISSUER", value_name = "ISSUER")]
    pub auth_issuer: Option<String>,

    /// For whom the tokens are issued: one of their `aud`.
    #[arg(long, env = "HEADWATER_AUTH_AUDIENCE", value_name = "AUDIENCE")]
    pub auth_audience: Option<String>,

    /// Seconds between two looks at the keys; a key that was taken out works so long at the most.
    #[arg(long, env = "HEADWATER_AUTH_JWKS_REFRESH_SECONDS", default_value = "300", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub auth_jwks_refresh_seconds: u64,

    /// Seconds by which the issuer's clock and ours may differ.
    #[arg(long, env = "HEADWATER_AUTH_LEEWAY_SECONDS", default_value = "30", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(0..=300))]
    pub auth_leeway_seconds: u64,
}

/// What a token has to be like.
pub struct Rules {
    pub source: Source,
    pub issuer: String,
    pub audience: String,
    pub refresh_every: Duration,
    pub leeway: Duration,
}

impl AuthArgs {
    /// None, if tokens are not asked for.
    pub(super) fn rules(&self) -> anyhow::Result<Option<Rules>> {
        let Some(jwks) = given(&self.auth_jwks) else {
            ensure!(
                given(&self.auth_issuer).is_none() && given(&self.auth_audience).is_none(),
                "--auth-issuer and --auth-audience need --auth-jwks: without keys no token is asked for"
            );
            return Ok(None);
        };
        let (Some(issuer), Some(audience)) = (given(&self.auth_issuer), given(&self.auth_audience)) else {
            bail!("--auth-jwks needs --auth-issuer and --auth-audience: keys sign tokens for others, too");
        };
        Ok(Some(Rules {
            source: Source::parse(&jwks)?,
            issuer,
            audience,
            refresh_every: Duration::from_secs(self.auth_jwks_refresh_seconds),
            leeway: Duration::from_secs(self.auth_leeway_seconds),
        }))
    }
}

/// Without tokens only this machine may ask.
pub(super) fn check_open(address: SocketAddr) -> anyhow::Result<()> {
    ensure!(
        address.ip().is_loopback(),
        "{address} can be reached from other machines, and no token would be asked for: give --auth-jwks with \
         --auth-issuer and --auth-audience, or listen on 127.0.0.1"
    );
    Ok(())
}

/// An empty variable of the environment is none.
fn given(value: &Option<String>) -> Option<String> {
    value.clone().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Service {
        #[command(flatten)]
        auth: AuthArgs,
    }

    fn parse(flags: &[&str]) -> Result<AuthArgs, clap::Error> {
        Service::try_parse_from(["service"].iter().chain(flags)).map(|service| service.auth)
    }

    fn rules(flags: &[&str]) -> Result<bool, String> {
        parse(flags).unwrap().rules().map(|rules| rules.is_some()).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_an_issuer_and_an_audience_are_given_together_or_not_at_all() {
        assert_eq!(rules(&[]), Ok(false));
        assert_eq!(rules(&["--auth-jwks", "", "--auth-issuer", "", "--auth-audience", ""]), Ok(false));
        assert_eq!(
            rules(&["--auth-jwks", "keys.json", "--auth-issuer", "me", "--auth-audience", "it"]),
            Ok(true)
        );
        for incomplete in [
            &["--auth-jwks", "keys.json"][..],
            &["--auth-issuer", "me", "--auth-audience", "it"],
            &["--auth-jwks", "keys.json", "--auth-issuer", "me"],
            &["--auth-jwks", "keys.json", "--auth-issuer", "me", "--auth-audience", ""],
            &["--auth-jwks", "", "--auth-issuer", "me", "--auth-audience", "it"],
        ] {
            assert!(rules(incomplete).is_err(), "{incomplete:?}");
        }
    }

    #[test]
    fn without_tokens_only_loopback_is_listened_at() {
        for (address, is_safe) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.168.1.1:1", false),
            ("[::ffff:127.0.0.1]:1", false),
        ] {
            assert_eq!(check_open(address.parse().unwrap()).is_ok(), is_safe, "{address}");
        }
    }
}
