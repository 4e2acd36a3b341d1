//! What the answers of a mail server mean for an email, and for all others.

use lettre::transport::smtp::Error;

use crate::mail::MailError;

/// The server goes (421), or wants a login that it did not get (530, 534, 535, 538; RFC 4954): whichever the email.
const OF_SERVER: [u16; 5] = [421, 530, 534, 535, 538];

const REASON_CHARS_MAX: usize = 500;

/// Means an error that the server answered to one email, after it had accepted the sender.
pub(super) fn of_email(error: &Error) -> MailError {
    match error.status().map(u16::from) {
        Some(code) if OF_SERVER.contains(&code) => of_server(error),
        Some(400..=499) => MailError::NotNow(reason(error)),
        Some(500..=599) => MailError::Refused(reason(error)),
        // The connection broke, or what came was no answer at all.
        Some(_) | None => of_server(error),
    }
}

/// Means an error that would have met any email.
pub(super) fn of_server(error: &Error) -> MailError {
    MailError::Unavailable(reason(error))
}

pub(super) fn unavailable(reason: impl Into<String>) -> MailError {
    MailError::Unavailable(reason.into())
}

/// What the server said, fit for logs and lists.
fn reason(error: &Error) -> String {
    let said = error.to_string();
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX).collect()
}
