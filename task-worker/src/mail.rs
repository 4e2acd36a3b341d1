//! Emails: made from templates, sent over SMTP, written to files, or thrown away.

use domain::values::Email;
use serde_json::Value;

/// One email that is to be sent.
#[derive(Clone, Debug)]
pub struct Mail<'a> {
    /// Which templates it is made from.
    pub template: &'a str,
    pub to: &'a Email,
    /// What stands in it.
    pub values: &'a Value,
    /// The same whenever the same email is sent again: what comes before the `@` of its Message-ID.
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
