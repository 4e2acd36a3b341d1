//! Personal values leave the log only as masks, or not at all, where that is asked for.

use std::{fmt, fs, path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, builder::StringBuilder, cast::AsArray};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{columns::PERSONAL_KEY, usage::usage};

/// Stands for all columns that are declared to be personal.
const PERSONAL: &str = "personal";
/// A shorter key could be guessed, and with it the values.
const KEY_BYTES_MIN: usize = 16;
/// Of the hash: no two values will ever have the same.
const MASK_BYTES: usize = 16;

/// With one key, one value has one mask, in every column of every export: so masked columns can be joined.
#[derive(Clone)]
pub struct MaskKey(Hmac<Sha256>);

impl MaskKey {
    pub fn new(key: &[u8]) -> Result<Self> {
        if key.len() < KEY_BYTES_MIN {
            return Err(usage(format!(
                "the key for masks has {} bytes; it needs {KEY_BYTES_MIN} or more, such as of `openssl rand -hex 32`",
                key.len()
            )));
        }
        Ok(Self(Hmac::new_from_slice(key)?))
    }

    /// The file's content but for white space at its ends.
    pub fn from_file(path: &Path) -> Result<Self> {
        let key = fs::read(path)
            .with_context(|| format!("cannot read the key for masks from {}", path.display()))?;
        Self::new(key.trim_ascii()).with_context(|| format!("{} is no key", path.display()))
    }

    pub fn mask(&self, value: &str) -> String {
        let mut hash = self.0.clone();
        hash.update(value.as_bytes());
        let hash = hash.finalize().into_bytes();
        hash[..MASK_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Tells one key from another without telling the key.
    pub fn name(&self) -> String {
        self.mask("the name of this key")[..8].to_owned()
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MaskKey({})", self.name())
    }
}

/// What is to be done about which columns: their names, or `personal`.
#[derive(Clone, Debug, Default)]
pub struct Privacy {
    pub mask: Vec<String>,
    pub drop: Vec<String>,
    pub key: Option<MaskKey>,
}

impl Privacy {
    /// Refuses what could not be done, so that no value goes out unmasked because of a slip.
    pub fn check<'a>(&self, schemas: impl Iterator<Item = &'a Schema> + Clone) -> Result<()> {
        if !self.mask.is_empty() && self.key.is_none() {
            return Err(usage("masks need a key: --mask-key-file FILE, or the variable HEADWATER_MASK_KEY"));
        }
        for name in self.mask.iter().chain(&self.drop).filter(|name| *name != PERSONAL) {
            let columns = schemas.clone().filter_map(|schema| schema.field_with_name(name).ok());
            let Some(column) = columns.last() else {
                let mut known: Vec<&str> = schemas
                    .flat_map(|schema| schema.fields().iter().map(|field| field.name().as_str()))
                    .collect();
                known.sort_unstable();
                known.dedup();
                return Err(usage(format!(
                    "there is no column `{name}`; there are {}, and `{PERSONAL}` for all personal ones",
                    known.join(", ")
                )));
            };
            if self.mask.contains(name) && column.data_type() != &DataType::Utf8 {
                return Err(usage(format!(
                    "the column `{name}` holds no text and cannot be masked; --drop {name} leaves it out"
                )));
            }
        }
        Ok(())
    }

    /// What is left of a table.
    pub fn plan(&self, schema: &Schema) -> Plan {
        let is_meant = |names: &[String], field: &Field| {
            names.iter().any(|name| {
                name == field.name() || (name == PERSONAL && field.metadata().contains_key(PERSONAL_KEY))
            })
        };
        let fate = |field: &FieldRef| match () {
            () if is_meant(&self.drop, field) => Fate::Drop,
            // What is personal and no text cannot be masked.
            () if is_meant(&self.mask, field) && field.data_type() != &DataType::Utf8 => Fate::Drop,
            () if is_meant(&self.mask, field) => Fate::Mask,
            () => Fate::Keep,
        };
        let fates: Vec<Fate> = schema.fields().iter().map(fate).collect();
        let kept = schema.fields().iter().zip(&fates).filter(|(_, fate)| **fate != Fate::Drop);
        let schema = Arc::new(Schema::new(kept.map(|(field, _)| field.clone()).collect::<Vec<_>>()));
        Plan { fates, schema, key: self.key.clone() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Mask,
    Drop,
}

/// What is to be done to the batches of one table.
pub struct Plan {
    fates: Vec<Fate>,
    pub schema: SchemaRef,
    key: Option<MaskKey>,
}

impl Plan {
    /// The numbers of the columns that are left.
    pub fn kept(&self) -> Vec<usize> {
        (0..self.fates.len()).filter(|column| self.fates[*column] != Fate::Drop).collect()
    }

    pub fn apply(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.fates.iter().all(|fate| *fate == Fate::Keep) {
            return Ok(batch);
        }
        let mut columns = Vec::new();
        for (column, fate) in batch.columns().iter().zip(&self.fates) {
            match (fate, &self.key) {
                (Fate::Keep, _) => columns.push(column.clone()),
                (Fate::Mask, Some(key)) => columns.push(masked(column.as_string(), key)),
                // Without a key nothing goes out; `check` has said so.
                (Fate::Mask, None) => bail!("masks need a key"),
                (Fate::Drop, _) => {}
            }
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

fn masked(values: &StringArray, key: &MaskKey) -> ArrayRef {
    let mut masks = StringBuilder::with_capacity(values.len(), values.len() * MASK_BYTES * 2);
    values.iter().for_each(|value| masks.append_option(value.map(|value| key.mask(value))));
    Arc::new(masks.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> MaskKey {
        MaskKey::new(text.as_bytes()).unwrap()
    }

    fn schema() -> Schema {
        let personal = [(PERSONAL_KEY.to_owned(), "true".to_owned())];
        Schema::new(vec![
            Field::new("email", DataType::Utf8, true).with_metadata(personal.into()),
            Field::new("cents", DataType::Int64, false),
        ])
    }

    fn privacy(mask: &[&str], drop: &[&str]) -> Privacy {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Privacy { mask: owned(mask), drop: owned(drop), key: Some(key("0123456789abcdef")) }
    }

    /// `printf ada@example.org | openssl dgst -sha256 -hmac 0123456789abcdef`
    #[test]
    fn a_mask_is_the_beginning_of_an_hmac() {
        assert_eq!(key("0123456789abcdef").mask("ada@example.org"), "48eef52843ab78cd641876afd0f93ce3");
        assert_ne!(
            key("0123456789abcdeX").mask("ada@example.org"),
            key("0123456789abcdef").mask("ada@example.org")
        );
    }

    #[test]
    fn a_short_key_and_a_missing_one_are_refused() {
        assert!(MaskKey::new(b"short").is_err());
        let without = Privacy { key: None, ..privacy(&["email"], &[]) };
        assert!(without.check([&schema()].into_iter()).unwrap_err().to_string().contains("--mask-key-file"));
    }

    #[test]
    fn a_column_that_is_not_there_or_no_text_is_refused() {
        let refused = |mask| privacy(&[mask], &[]).check([&schema()].into_iter()).unwrap_err().to_string();
        assert!(refused("e-mail").contains("there are cents, email"), "{}", refused("e-mail"));
        assert!(refused("cents").contains("--drop cents"), "{}", refused("cents"));
    }

    #[test]
    fn personal_columns_are_masked_together_and_what_is_missing_stays_missing() {
        let emails: ArrayRef = Arc::new(StringArray::from(vec![Some("a@b.org"), None, Some("a@b.org")]));
        let cents: ArrayRef = Arc::new(arrow_array::Int64Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_new(Arc::new(schema()), vec![emails, cents]).unwrap();
        let masked = privacy(&["personal"], &[]).plan(&schema()).apply(batch.clone()).unwrap();
        let masks = masked.column(0).as_string::<i32>();
        assert_eq!((masks.value(0), masks.is_null(1)), (masks.value(2), true));
        assert!(!masks.value(0).contains("a@b.org") && masks.value(0).len() == 32);
        let dropped = privacy(&[], &["personal"]).plan(&schema()).apply(batch).unwrap();
        assert_eq!(dropped.schema().fields().len(), 1);
    }

    #[test]
    fn a_key_does_not_show() {
        assert!(!format!("{:?}", key("0123456789abcdef")).contains("0123456789abcdef"));
    }
}
