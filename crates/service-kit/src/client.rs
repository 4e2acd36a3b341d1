//! Asking others over HTTP, encrypted or not.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, Response},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::timeout;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// Keeps connections for the next request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(legacy::Client<HttpsConnector<HttpConnector>, Body>);

impl Client {
    /// For URLs of one scheme: `http`, or `https`, which needs certificates of authorities on this machine.
    pub fn for_scheme(scheme: &str) -> anyhow::Result<Self> {
        let authorities = match scheme {
            "http" => RootCertStore::empty(),
            "https" => authorities()?,
            _ => bail!("expected a URL of http:// or https://, not {scheme}://"),
        };
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authorities)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        Ok(Self(legacy::Client::builder(TokioExecutor::new()).build(connector.build())))
    }

    /// The whole answer. Redirects are not followed.
    pub async fn ask(
        &self,
        request: Request<Body>,
        time_max: Duration,
        bytes_max: usize,
    ) -> anyhow::Result<Response<Bytes>> {
        let asking = async {
            let (head, body) = self.0.request(request).await?.into_parts();
            let body = to_bytes(Body::new(body), bytes_max).await;
            let body =
                body.with_context(|| format!("the answer was cut off, or has more than {bytes_max} bytes"))?;
            Ok(Response::from_parts(head, body))
        };
        timeout(time_max, asking).await.unwrap_or_else(|_| bail!("no answer within {time_max:?}"))
    }
}

/// Those that this machine trusts; `SSL_CERT_FILE` names others.
fn authorities() -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ensure!(
        !roots.is_empty(),
        "this machine has no certificates of authorities; SSL_CERT_FILE names a file of them"
    );
    Ok(roots)
}
