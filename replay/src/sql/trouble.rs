//! What the engine says, in the words of this program.

use anyhow::anyhow;
use datafusion::{
    common::SchemaError,
    error::DataFusionError::{
        self, Collection, Context, Diagnostic, External, NotImplemented, Plan, ResourcesExhausted, SQL,
    },
};

use crate::usage::usage;

/// A [`crate::usage::Usage`] where the query is to be mended.
pub fn trouble(error: DataFusionError, memory_mb: u64) -> anyhow::Error {
    match error {
        Context(_, error) | Diagnostic(_, error) => trouble(*error, memory_mb),
        Collection(mut errors) if !errors.is_empty() => trouble(errors.swap_remove(0), memory_mb),
        External(error) => anyhow::Error::from_boxed(error),
        ResourcesExhausted(text) => anyhow!(
            "the query needs more than {memory_mb} MB of memory (--memory-mb allows more; so does asking for less, with \
             fewer columns, a limit or a condition): {text}"
        ),
        DataFusionError::SchemaError(error, _) => match *error {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let known: Vec<&str> = valid_fields.iter().map(|column| column.name()).collect();
                usage(format!("there is no column `{}`; there are {}", field.name(), known.join(", ")))
            }
            error => usage(error.to_string()),
        },
        error @ (SQL(..) | Plan(_) | NotImplemented(_)) => {
            usage(format!("the query cannot be carried out: {}", error.message()))
        }
        error => anyhow!("the query has failed: {}", error.strip_backtrace()),
    }
}
