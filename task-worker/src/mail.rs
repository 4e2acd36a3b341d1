//! Emails: made from templates, sent over SMTP, written to files, or thrown away.

mod args;
mod target;

mod message;
mod templates;

mod folder;
mod smtp;

use std::{fmt, time::Duration};

use domain::values::Email;
use serde_json::Value;
use service_kit::trace::{self, Span, SpanKind};

pub use args::MailArgs;

use folder::Folder;
use message::Letterhead;
use smtp::Smtp;
use target::Target;
use templates::Templates;

/// One email that is to be sent.
#[derive(Clone, Debug)]
pub struct Mail<'a> {
    /// Which templates it is made from.
    pub template: &'a str,
    pub to: &'a Email,
    /// What stands in it.
    pub values: &'a Value,
    /// The same whenever the same email is sent again: what comes before the `@` of its Message-ID. Letters, digits,
    /// `-`, `_` and single `.` between them.
    pub id: &'a str,
}

/// Why an email was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// This email will never be sent as it is: refused for good, or it cannot even be made.
    #[error("refused: {0}")]
    Refused(String),
    /// This email was not taken now.
    #[error("not now: {0}")]
    NotNow(String),
    /// No email is taken at the moment, whichever it is.
    #[error("the mail server is unavailable: {0}")]
    Unavailable(String),
}

impl MailError {
    /// One word for it.
    fn word(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::NotNow(_) => "not_now",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// Makes emails and sends them. It is shared by reference; dropping it closes its connections.
pub struct Mailer {
    letterhead: Letterhead,
    templates: Templates,
    way: Way,
}

/// How emails leave.
enum Way {
    Smtp(Smtp),
    Folder(Folder),
    /// They are made and thrown away, to measure everything but the sending.
    Null,
}

impl Way {
    fn name(&self) -> &'static str {
        match self {
            Self::Smtp(_) => "smtp",
            Self::Folder(_) => "folder",
            Self::Null => "null",
        }
    }
}

impl Mailer {
    /// Fails if the settings cannot work, and if one of the templates is missing or does not compile: at the start
    /// rather than at the first email. That the mail server is there is not asked.
    pub fn new<'a>(args: &MailArgs, templates: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let letterhead = Letterhead::new(args)?;
        let way = match Target::parse(&args.mail)? {
            Target::Smtp(server) => Way::Smtp(Smtp::new(args, server, letterhead.domain())?),
            Target::Folder(path) => Way::Folder(Folder::open(path)?),
            Target::Null => Way::Null,
        };
        Ok(Self { letterhead, templates: Templates::load(args.mail_templates.as_deref(), templates)?, way })
    }

    /// Sends one email. `Ok` means that it was taken: by the mail server, or by the disk. It may have been taken after
    /// an error too, if the answer was lost; then the repeat has the same Message-ID.
    ///
    /// May be dropped at any moment: a dialogue that it interrupts ends with its connection.
    pub async fn send(&self, mail: &Mail<'_>) -> Result<(), MailError> {
        let text = self.templates.render(mail.template, mail.values)?;
        let message = self.letterhead.compose(mail, text)?;
        let span = Span::within_current(SpanKind::Client, "send email");
        let sending = async {
            match &self.way {
                Way::Smtp(smtp) => smtp.send(message.envelope(), &message.formatted()).await,
                Way::Folder(folder) => folder.keep(mail.id, &message.formatted()).await,
                Way::Null => {
                    drop(message.formatted());
                    Ok(())
                }
            }
        };
        let sent = trace::within(span.as_ref(), sending).await;
        // To whom, and what the mail server says, which mostly repeats it, is nobody's business there.
        if let Some(span) = span {
            span.set("headwater.mail.template", mail.template.to_owned());
            span.set("headwater.mail.way", self.way.name());
            sent.as_ref().err().iter().for_each(|error| span.failed(error.word()));
        }
        sent
    }

    /// No sending over SMTP takes longer, whatever the server does, the wait for a free connection included. `None`:
    /// emails do not go over SMTP.
    pub fn longest(&self) -> Option<Duration> {
        match &self.way {
            Way::Smtp(smtp) => Some(smtp.longest()),
            Way::Folder(_) | Way::Null => None,
        }
    }
}

/// Where its emails go, without the password.
impl fmt::Display for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way {
            Way::Smtp(smtp) => write!(f, "{smtp}"),
            Way::Folder(folder) => write!(f, "{folder}"),
            Way::Null => f.write_str("nowhere: emails are made and thrown away"),
        }
    }
}
