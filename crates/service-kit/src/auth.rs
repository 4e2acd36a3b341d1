//! Who asks, and what they may do: bearer tokens (RFC 6750) that are JSON Web Tokens (RFC 7519), signed with a key
//! of a set (RFC 7517) that somebody else publishes. Services issue none.
//!
//! The frame asks [`Auth`] once a request; what the routes then see is the [`Caller`], and how far it
//! [reaches](Caller::reach). Without keys anyone may do anything, which is why a service then listens on loopback
//! alone.

mod args;
mod caller;

mod bearer;
mod keyring;
mod keys;
mod ring_provider;
mod scope;
mod source;
mod token;

use std::{net::SocketAddr, sync::Arc};

use axum::http::request::Parts;

pub use args::AuthArgs;
pub use caller::{Caller, Reach};

use crate::{
    Problem, Shutdown,
    http::{METRICS, is_for_everybody},
};
use keyring::Keyring;
use token::Tokens;

/// Tells callers by their tokens. Cheap to clone.
#[derive(Clone)]
pub struct Auth(Option<Arc<Checks>>);

struct Checks {
    tokens: Arc<Tokens>,
    /// Whoever is on this machine may look at the measurements.
    metrics_are_open: bool,
}

impl Auth {
    /// No one is asked for a token.
    pub fn off() -> Self {
        Self(None)
    }

    /// Fetches the keys, and keeps them current until `shutdown`. An error if they cannot be had, or if `address` is
    /// beyond loopback and nobody is asked for a token.
    pub async fn start(args: &AuthArgs, address: SocketAddr, shutdown: Shutdown) -> anyhow::Result<Self> {
        let Some(rules) = args.rules()? else {
            args::check_open(address)?;
            return Ok(Self::off());
        };
        ring_provider::install();
        let keys = Keyring::fetch(rules.source.clone()).await?;
        tokio::spawn(keys.clone().refresh_every(rules.refresh_every, shutdown));
        let metrics_are_open = address.ip().is_loopback();
        tracing::info!(issuer = rules.issuer, audience = rules.audience, keys = %rules.source, "asking for tokens");
        Ok(Self(Some(Arc::new(Checks { tokens: Arc::new(Tokens::new(rules, keys)), metrics_are_open }))))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The same at another address of the service. An error if it is beyond loopback and nobody is asked for a token.
    pub(crate) fn at(&self, address: SocketAddr) -> anyhow::Result<Self> {
        let is_here = address.ip().is_loopback();
        match &self.0 {
            None => args::check_open(address).map(|()| Self::off()),
            Some(checks) => {
                let tokens = checks.tokens.clone();
                Ok(Self(Some(Arc::new(Checks { tokens, metrics_are_open: is_here }))))
            }
        }
    }

    /// Who sends this request.
    pub async fn caller(&self, head: &Parts) -> Result<Caller, Problem> {
        let Some(checks) = &self.0 else { return Ok(Caller::anyone()) };
        let path = head.uri.path();
        if is_for_everybody(path) || (path == METRICS && checks.metrics_are_open) {
            return Ok(Caller::nobody());
        }
        let caller = checks.tokens.caller(bearer::token(&head.headers)?).await?;
        if path == METRICS {
            caller.demand("metrics", "read")?;
        }
        Ok(caller)
    }
}
