//! SMTP, with connections that are kept for the next email.
//!
//! The dialogue is led here, command by command, and not by lettre's transport: which command was answered with an
//! error decides what the error means ([`refusal`]), a server that stops answering in the middle must be noticed, and
//! a connection whose dialogue was cut short must never serve another email.

mod connect;
mod pool;
mod refusal;

use std::{fmt, sync::Arc, time::Duration};

use lettre::{
    Address,
    address::Envelope,
    transport::smtp::{
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Rcpt, Rset},
        extension::{Extension, MailBodyParameter, MailParameter},
        response::Response,
    },
};
use tokio::{sync::Semaphore, time::timeout};

use super::{MailArgs, MailError, target::Server};

use connect::Connector;
use pool::Pool;
use refusal::{of_email, of_server, unavailable};

/// An email as a whole may take so many times as long as one command.
const COMMANDS_WORTH_MAX: u32 = 3;

/// The answer to `DATA` that asks for the email.
const GO_AHEAD: u16 = 354;

pub(super) struct Smtp {
    connector: Connector,
    pool: Arc<Pool>,
    /// As many permits as there may be connections.
    turns: Semaphore,
    command_max: Duration,
}

impl Smtp {
    pub fn new(args: &MailArgs, server: Server, domain: &str) -> anyhow::Result<Self> {
        Ok(Self {
            connector: Connector::new(args, server, domain)?,
            pool: Arc::default(),
            turns: Semaphore::new(args.smtp_connections.into()),
            command_max: args.smtp_timeout(),
        })
    }

    /// The wait for a connection, and then the dialogue.
    pub fn longest(&self) -> Duration {
        self.email_max() * 2
    }

    fn email_max(&self) -> Duration {
        self.command_max * COMMANDS_WORTH_MAX
    }

    pub async fn send(&self, envelope: &Envelope, message: &[u8]) -> Result<(), MailError> {
        // That all connections are in use says nothing about the server.
        let Ok(turn) = timeout(self.email_max(), self.turns.acquire()).await else {
            return Err(MailError::NotNow("all connections to the mail server are in use".to_owned()));
        };
        let sent = timeout(self.email_max(), self.deliver(envelope, message)).await;
        drop(turn);
        sent.unwrap_or_else(|_| {
            Err(unavailable(format!("the email took longer than {:?}", self.email_max())))
        })
    }

    async fn deliver(&self, envelope: &Envelope, message: &[u8]) -> Result<(), MailError> {
        let mut connection = self.begin(envelope).await?;
        let delivered = self.hand_over(&mut connection, envelope, message).await;
        let is_usable = match &delivered {
            Ok(()) => true,
            Err(MailError::Unavailable(_)) => false,
            // The server has answered as it should; the connection is as good as before, once it forgets this email.
            Err(MailError::Refused(_) | MailError::NotNow(_)) => {
                self.in_time(connection.command(Rset)).await.is_ok()
            }
        };
        if is_usable {
            self.pool.keep(connection);
        }
        delivered
    }

    /// A connection whose server has accepted the sender.
    async fn begin(&self, envelope: &Envelope) -> Result<AsyncSmtpConnection, MailError> {
        if let Some(mut kept) = self.pool.take() {
            if !can_carry(&kept, envelope) {
                return Err(self.cannot_carry(kept));
            }
            // Servers close connections that were idle, or have carried enough: that is no failure, and since nothing
            // was sent yet, a new connection can take its place. Those that are kept longer are likely to be as stale.
            if self.announce(&mut kept, envelope).await.is_ok() {
                return Ok(kept);
            }
            self.pool.clear();
        }
        let connecting = timeout(self.command_max, self.connector.connect(self.command_max)).await;
        let mut fresh =
            connecting.unwrap_or_else(|_| Err(unavailable("it did not let us connect in time")))?;
        if !can_carry(&fresh, envelope) {
            return Err(self.cannot_carry(fresh));
        }
        self.announce(&mut fresh, envelope).await?;
        Ok(fresh)
    }

    fn cannot_carry(&self, connection: AsyncSmtpConnection) -> MailError {
        self.pool.keep(connection);
        let why = "the recipient's address is not ASCII, and the mail server does not offer SMTPUTF8";
        MailError::Refused(why.to_owned())
    }

    async fn announce(&self, connection: &mut AsyncSmtpConnection, of: &Envelope) -> Result<(), MailError> {
        let parameters = match needs_utf8(of) {
            true => vec![MailParameter::SmtpUtfEight, MailParameter::Body(MailBodyParameter::EightBitMime)],
            false => Vec::new(),
        };
        let is_like_all = parameters.is_empty();
        let answer = self.in_time(connection.command(Mail::new(of.from().cloned(), parameters))).await;
        match answer {
            Ok(_) => Ok(()),
            // The sender is the same in every email, so whatever the server has against it, it has against all.
            Err(Failure::Smtp(error)) if is_like_all => Err(of_server(&error)),
            Err(failure) => Err(failure.of_email()),
        }
    }

    async fn hand_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        envelope: &Envelope,
        message: &[u8],
    ) -> Result<(), MailError> {
        for recipient in envelope.to() {
            let answer = self.in_time(connection.command(Rcpt::new(recipient.clone(), Vec::new()))).await;
            answer.map_err(Failure::of_email)?;
        }
        let answer = self.in_time(connection.command(Data)).await.map_err(Failure::of_email)?;
        if u16::from(answer.code()) != GO_AHEAD {
            return Err(unavailable(format!("it answered DATA with {}", answer.code())));
        }
        // RFC 5321 (4.5.3.2.6) asks for patience here: who gives up may send twice what was taken already. So only
        // the bound of the whole applies.
        connection.message(message).await.map_err(|error| of_email(&error))?;
        Ok(())
    }

    async fn in_time(
        &self,
        command: impl Future<Output = Result<Response, lettre::transport::smtp::Error>>,
    ) -> Result<Response, Failure> {
        match timeout(self.command_max, command).await {
            Ok(answer) => answer.map_err(Failure::Smtp),
            Err(_) => Err(Failure::Silence(self.command_max)),
        }
    }
}

/// How a command failed.
enum Failure {
    Smtp(lettre::transport::smtp::Error),
    Silence(Duration),
}

impl Failure {
    fn of_email(self) -> MailError {
        match self {
            Self::Smtp(error) => of_email(&error),
            Self::Silence(time) => unavailable(format!("no answer within {time:?}")),
        }
    }
}

fn needs_utf8(envelope: &Envelope) -> bool {
    envelope.to().iter().chain(envelope.from()).any(|address| !is_ascii(address))
}

fn is_ascii(address: &Address) -> bool {
    let address: &str = address.as_ref();
    address.is_ascii()
}

fn can_carry(connection: &AsyncSmtpConnection, envelope: &Envelope) -> bool {
    !needs_utf8(envelope) || connection.server_info().supports_feature(Extension::SmtpUtfEight)
}

impl fmt::Display for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.connector)
    }
}
