//! What is wrong with what was asked for, and not with the log, the database or the disk.

/// An error that whoever typed the command mends. Exits with 2, as what cannot even be parsed does.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The same as an error of everything else.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}
