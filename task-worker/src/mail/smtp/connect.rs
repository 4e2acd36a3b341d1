use std::{fmt, fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use lettre::transport::smtp::{
    authentication::DEFAULT_MECHANISMS,
    client::{AsyncSmtpConnection, Certificate, TlsParameters},
    extension::ClientId,
};

use crate::mail::{
    MailArgs, MailError,
    smtp::refusal::{of_server, unavailable},
    target::{Security, Server},
};

/// A name may have several addresses, some of which never answer: each may take this part of the time.
const SHARE_OF_ADDRESS: u32 = 4;

/// Connects to the mail server: greets it, secures the connection, logs in. Whatever goes wrong meanwhile would go
/// wrong for any email.
pub(super) struct Connector {
    server: Server,
    tls: TlsParameters,
    greet_as: ClientId,
}

impl Connector {
    pub fn new(args: &MailArgs, server: Server, domain: &str) -> anyhow::Result<Self> {
        let mut tls = TlsParameters::builder(server.host.clone());
        if let Some(path) = &args.smtp_ca {
            tls = tls.add_root_certificate(certificates(path)?);
        }
        let tls = tls.build_rustls().context("--smtp-ca: a certificate cannot be used")?;
        let greet_as = ClientId::Domain(server.greet_as.clone().unwrap_or_else(|| domain.to_owned()));
        Ok(Self { server, tls, greet_as })
    }

    pub async fn connect(&self, time: Duration) -> Result<AsyncSmtpConnection, MailError> {
        let Server { host, port, security, .. } = &self.server;
        let implicit = (*security == Security::Implicit).then(|| self.tls.clone());
        let time = Some(time / SHARE_OF_ADDRESS);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1((host.as_str(), *port), time, &self.greet_as, implicit, None)
                .await
                .map_err(|error| of_server(&error))?;
        let upgrade = match security {
            Security::None | Security::Implicit => false,
            Security::Opportunistic => connection.can_starttls(),
            Security::Required => true,
        };
        if upgrade {
            let secured = connection.starttls(self.tls.clone(), &self.greet_as).await;
            secured.map_err(|error| of_server(&error))?;
        }
        self.log_in(&mut connection).await?;
        Ok(connection)
    }

    async fn log_in(&self, connection: &mut AsyncSmtpConnection) -> Result<(), MailError> {
        let Some(credentials) = &self.server.credentials else { return Ok(()) };
        // Who wants to listen has only to hide that the server offers TLS.
        if !connection.is_encrypted() && !self.server.clear_is_fine {
            return Err(unavailable("it offers no TLS, and the password is not sent in the clear"));
        }
        connection.auth(DEFAULT_MECHANISMS, credentials).await.map_err(|error| of_server(&error))?;
        Ok(())
    }
}

fn certificates(path: &Path) -> anyhow::Result<Certificate> {
    let pem = fs::read(path).with_context(|| format!("--smtp-ca {}", path.display()))?;
    // A file without any is read as an empty list.
    let begins = b"-----BEGIN CERTIFICATE-----";
    let is_pem = pem.windows(begins.len()).any(|part| part == begins);
    ensure!(is_pem, "--smtp-ca {}: there is no certificate in it (PEM is expected)", path.display());
    Certificate::from_pem(&pem).with_context(|| format!("--smtp-ca {}", path.display()))
}

impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.server)
    }
}
