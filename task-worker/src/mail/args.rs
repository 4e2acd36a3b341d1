use std::{fmt, path::PathBuf, time::Duration};

use clap::{Args, value_parser};
use lettre::message::Mailbox;

/// Where emails go, and whom they come from.
#[derive(Args, Clone)]
pub struct MailArgs {
    /// Where emails go: `smtps://user:password@host` (TLS from the start, port 465),
    /// `smtp://user:password@host?tls=required` (STARTTLS, port 587), `?tls=opportunistic` (STARTTLS if the server
    /// offers it), `?tls=none` (in the clear; needs no saying where the host is this machine); `file:folder` (each
    /// email becomes a file); `null:` (each email is made and thrown away). Characters of user and password that mean
    /// something in a URL are written as %XX.
    #[arg(
        long,
        env = "HEADWATER_MAIL",
        default_value = "file:.headwater/mail",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub mail: String,

    /// Sender of the emails. The domain is that of the Message-ID too, and the name that the mail server is greeted
    /// with, unless its URL has a path (`smtp://host/name`).
    #[arg(long, env = "HEADWATER_MAIL_FROM", default_value = "Headwater <noreply@localhost.localdomain>",
          value_parser = mailbox)]
    pub mail_from: Mailbox,

    /// Where answers go, if not to the sender.
    #[arg(long, env = "HEADWATER_MAIL_REPLY_TO", value_parser = mailbox)]
    pub mail_reply_to: Option<Mailbox>,

    /// PEM file with certificates of authorities to trust beside those of the system, for a mail server with a private
    /// one.
    #[arg(long, env = "HEADWATER_SMTP_CA", value_name = "FILE")]
    pub smtp_ca: Option<PathBuf>,

    /// Connections to the mail server at once; an email more waits for its turn.
    #[arg(long, env = "HEADWATER_SMTP_CONNECTIONS", default_value_t = 16,
          value_parser = value_parser!(u16).range(1..=1_000))]
    pub smtp_connections: u16,

    /// Seconds that the mail server may take to connect, and to answer a command. Three times as much is the most for
    /// an email as a whole.
    #[arg(long, env = "HEADWATER_SMTP_TIMEOUT_SECONDS", default_value_t = 20,
          value_parser = value_parser!(u64).range(1..=600))]
    pub smtp_timeout_seconds: u64,

    /// Folder of templates that are used instead of the built-in ones: `<policy>/subject.txt`, `body.txt` and
    /// `body.html` for each policy.
    #[arg(long, env = "HEADWATER_MAIL_TEMPLATES", value_name = "FOLDER")]
    pub mail_templates: Option<PathBuf>,
}

impl MailArgs {
    pub(super) fn smtp_timeout(&self) -> Duration {
        Duration::from_secs(self.smtp_timeout_seconds)
    }
}

/// The URL holds the password, so it is never shown.
impl fmt::Debug for MailArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailArgs")
            .field("mail", &"<hidden>")
            .field("mail_from", &self.mail_from)
            .field("mail_reply_to", &self.mail_reply_to)
            .field("smtp_ca", &self.smtp_ca)
            .field("smtp_connections", &self.smtp_connections)
            .field("smtp_timeout_seconds", &self.smtp_timeout_seconds)
            .field("mail_templates", &self.mail_templates)
            .finish()
    }
}

/// An address outside of ASCII would need every mail server on the way to know SMTPUTF8, so the sender's is plain.
fn mailbox(text: &str) -> Result<Mailbox, String> {
    let expected = "expected like `Headwater <noreply@example.org>` or `noreply@example.org`";
    let mailbox: Mailbox = text.parse().map_err(|error| format!("{error}; {expected}"))?;
    let address: &str = mailbox.email.as_ref();
    let plain = |c: char| c.is_ascii_graphic();
    if !address.chars().all(plain) || mailbox.name.iter().any(|name| name.chars().any(char::is_control)) {
        return Err(format!(
            "only ASCII may stand in the address (xn--… for other domains), and no control characters in the name; \
             {expected}"
        ));
    }
    Ok(mailbox)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Config {
        #[command(flatten)]
        mail: MailArgs,
    }

    #[test]
    fn a_sender_that_is_no_address_is_refused_at_the_start() {
        for text in ["", "Headwater", "a@", "Headwater <>", "a@b.org\r\nBcc: x@y.org", "ä@example.org"] {
            let error = Config::try_parse_from(["worker", "--mail-from", text]).unwrap_err().to_string();
            assert!(error.contains("expected like `Headwater <noreply@example.org>`"), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let config = Config::try_parse_from(["worker", "--mail", "smtps://me:secret@example.org"]).unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }
}
