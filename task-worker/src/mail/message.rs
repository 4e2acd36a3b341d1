use anyhow::Context;
use domain::values::Email;
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue},
    },
};
use url::Host;

use super::{Mail, MailArgs, MailError, templates::Text};

const ID_CHARS_MAX: usize = 128;

/// What all emails have in common.
pub(super) struct Letterhead {
    from: Mailbox,
    reply_to: Option<Mailbox>,
}

impl Letterhead {
    pub fn new(args: &MailArgs) -> anyhow::Result<Self> {
        // Made once here, so that no email can fail for its sender.
        lettre::address::Envelope::new(
            Some(args.mail_from.email.clone()),
            vec![args.mail_from.email.clone()],
        )
        .context("--mail-from")?;
        Ok(Self { from: args.mail_from.clone(), reply_to: args.mail_reply_to.clone() })
    }

    /// The sender's domain.
    pub fn domain(&self) -> &str {
        self.from.email.domain()
    }

    /// The text first and then the HTML, as RFC 2046 wants the better alternative to be the last.
    pub fn compose(&self, mail: &Mail<'_>, text: Text) -> Result<Message, MailError> {
        check_id(mail.id)?;
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, address(mail.to)?))
            .subject(text.subject)
            .date_now()
            .message_id(Some(format!("<{}@{}>", mail.id, self.domain())))
            .header(AutoSubmitted);
        if let Some(reply_to) = &self.reply_to {
            message = message.reply_to(reply_to.clone());
        }
        let body = MultiPart::alternative()
            .singlepart(part(ContentType::TEXT_PLAIN, text.plain))
            .singlepart(part(ContentType::TEXT_HTML, text.html));
        message
            .multipart(body)
            .map_err(|error| MailError::Refused(format!("no email can be made of it: {error}")))
    }
}

/// Always quoted-printable, which keeps lines short and ASCII whatever the text, and can still be read.
fn part(kind: ContentType, text: String) -> SinglePart {
    SinglePart::builder().header(kind).header(ContentTransferEncoding::QuotedPrintable).body(text)
}

/// The id becomes part of a header and the name of a file, so it holds what neither minds.
fn check_id(id: &str) -> Result<(), MailError> {
    let plain = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    if id.len() > ID_CHARS_MAX || !id.split('.').all(plain) {
        return Err(MailError::Refused(format!(
            "{id:?} cannot be the id of an email; expected 1 to {ID_CHARS_MAX} letters, digits, `-`, `_` and `.`"
        )));
    }
    Ok(())
}

/// A domain outside of ASCII is written as DNS knows it, which every mail server understands.
fn address(email: &Email) -> Result<Address, MailError> {
    let cannot = || MailError::Refused("the recipient's address cannot be used".to_owned());
    let (local, domain) = email.as_str().rsplit_once('@').ok_or_else(cannot)?;
    let domain = match domain.is_ascii() {
        true => domain.to_owned(),
        false => Host::parse(domain).map_err(|_| cannot())?.to_string(),
    };
    Address::new(local, domain).map_err(|_| cannot())
}

/// Made by a program: nobody's holiday notice should answer it (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_can_be_neither_a_path_nor_the_end_of_a_header() {
        assert!(check_id("welcome-email.0198c7a2-1b2c.7").is_ok());
        for id in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.",
            "a/b",
            "a@b",
            "a>b",
            "a b",
            "a\r\nBcc: x",
            "ä",
            &"a".repeat(129),
        ] {
            assert!(matches!(check_id(id), Err(MailError::Refused(_))), "{id:?}");
        }
    }

    #[test]
    fn a_domain_is_written_as_dns_knows_it() {
        let email = Email::parse("ada@bücher.example").unwrap();
        assert_eq!(address(&email).unwrap().to_string(), "ada@xn--bcher-kva.example");
    }
}
