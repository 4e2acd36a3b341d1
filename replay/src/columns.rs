//! Typed columns for data that a JSON schema describes: whatever the domain declares, no column is named here.

use anyhow::{Context, Result, bail};
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray, make_array};
use arrow_buffer::NullBuffer;
use arrow_json::{ReaderBuilder, reader::Decoder};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use domain::values::PERSONAL;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc};

/// In a field's metadata: the value says who a person is.
pub const PERSONAL_KEY: &str = "personal";
/// In a field's metadata: what the domain says about the value.
const DESCRIPTION_KEY: &str = "description";

/// For schemas that stand for themselves: no part of them is kept elsewhere.
pub fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator()
}

/// Arrow's crates know time zones by name only with a table of all of them.
pub const UTC: &str = "+00:00";

/// A moment in UTC in microseconds, as the domain keeps it.
pub fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// Makes columns of JSON objects. Fields within fields become columns of their own, `purchase_quantity`.
pub struct Columns {
    decoder: Decoder,
    pub fields: Vec<FieldRef>,
}

impl Columns {
    /// For objects of this schema; at most `rows` of them at once.
    pub fn of(schema: &Value, rows: usize) -> Result<Self> {
        Self::some_of(schema, rows, |_| true)
    }

    /// The same, but only the columns whose number is wanted are made.
    pub fn some_of(schema: &Value, rows: usize, is_wanted: impl Fn(usize) -> bool) -> Result<Self> {
        let nested = wanted_fields(&fields(schema)?, &mut (0..).map(is_wanted));
        let mut flat = Vec::new();
        flatten_fields("", &nested, false, &mut flat);
        let decoder =
            ReaderBuilder::new(Arc::new(Schema::new(nested))).with_batch_size(rows).build_decoder()?;
        Ok(Self { decoder, fields: flat })
    }

    /// Takes one object.
    pub fn push(&mut self, object: &str) -> Result<()> {
        if self.fields.is_empty() {
            return Ok(());
        }
        let read = self.decoder.decode(object.as_bytes())?;
        if read < object.len() {
            bail!("more rows than there is room for");
        }
        Ok(())
    }

    /// The columns of what was taken since the last time: as many as there are fields.
    pub fn take(&mut self) -> Result<Vec<ArrayRef>> {
        let Some(batch) = self.decoder.flush()? else {
            return Ok(self
                .fields
                .iter()
                .map(|field| arrow_array::new_empty_array(field.data_type()))
                .collect());
        };
        let mut flat = Vec::new();
        flatten(&StructArray::from(batch), None, &mut flat)?;
        Ok(flat)
    }
}

/// Rows that are all there, as batches.
pub fn batches(
    columns: &mut Columns,
    rows: impl Iterator<Item = Value>,
    rows_max: usize,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let schema: SchemaRef = Arc::new(Schema::new(columns.fields.clone()));
    let mut batches = Vec::new();
    let mut waiting = 0;
    for row in rows {
        columns.push(&row.to_string())?;
        waiting += 1;
        if waiting == rows_max {
            batches.push(RecordBatch::try_new(schema.clone(), columns.take()?)?);
            waiting = 0;
        }
    }
    if waiting > 0 {
        batches.push(RecordBatch::try_new(schema.clone(), columns.take()?)?);
    }
    Ok((schema, batches))
}

/// The fields of an object. Of an enum, those of all its variants, each of which may be missing.
fn fields(schema: &Value) -> Result<Fields> {
    if let Some(alternatives) = alternatives(schema) {
        let mut union: Vec<FieldRef> = Vec::new();
        for field in alternatives.iter().map(fields).collect::<Result<Vec<_>>>()?.iter().flatten() {
            match union.iter().find(|other| other.name() == field.name()) {
                None => union.push(Arc::new(field.as_ref().clone().with_nullable(true))),
                Some(other) if other.data_type() == field.data_type() => {}
                Some(_) => bail!("`{}` has another type in each variant", field.name()),
            }
        }
        return Ok(union.into());
    }
    let Some(properties) = schema["properties"].as_object() else {
        // An event without data.
        return Ok(Fields::empty());
    };
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let field = |(name, schema): (&String, &Value)| {
        let data_type = data_type(schema).with_context(|| format!("the field `{name}`"))?;
        let is_required = required.iter().any(|required| required == name) && !may_be_null(schema);
        Ok(Arc::new(Field::new(name, data_type, !is_required).with_metadata(metadata(schema))))
    };
    properties.iter().map(field).collect()
}

fn alternatives(schema: &Value) -> Option<Vec<Value>> {
    let alternatives = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    Some(alternatives.iter().filter(|alternative| alternative["type"] != "null").cloned().collect())
}

fn data_type(schema: &Value) -> Result<DataType> {
    if let Some(alternatives) = alternatives(schema) {
        let texts = alternatives.iter().all(|alternative| type_of(alternative) == Some("string"));
        return match &alternatives[..] {
            [only] => data_type(only),
            _ if texts => Ok(DataType::Utf8),
            _ => Ok(DataType::Struct(fields(schema)?)),
        };
    }
    Ok(match (type_of(schema), schema["format"].as_str()) {
        (Some("string"), Some("date-time")) => moment(),
        (Some("string"), Some("date")) => DataType::Date32,
        (Some("string"), _) => DataType::Utf8,
        // Positions and amounts fit, and every program has this type.
        (Some("integer"), _) => DataType::Int64,
        (Some("number"), _) => DataType::Float64,
        (Some("boolean"), _) => DataType::Boolean,
        (Some("array"), _) => {
            let items = &schema["items"];
            DataType::List(Arc::new(Field::new("item", data_type(items)?, may_be_null(items))))
        }
        (Some("object"), _) if schema["additionalProperties"].is_object() => {
            let values = &schema["additionalProperties"];
            let key = Field::new("keys", DataType::Utf8, false);
            let value = Field::new("values", data_type(values)?, may_be_null(values));
            let entries = DataType::Struct(vec![key, value].into());
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
        }
        (Some("object"), _) => DataType::Struct(fields(schema)?),
        _ => bail!("there is no column for values of this schema: {schema}"),
    })
}

fn type_of(schema: &Value) -> Option<&str> {
    match &schema["type"] {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ if schema["const"].is_string() => Some("string"),
        _ => None,
    }
}

fn may_be_null(schema: &Value) -> bool {
    let is_null = |schema: &Value| schema["type"] == "null";
    schema["type"].as_array().is_some_and(|names| names.iter().any(|name| name == "null"))
        || ["anyOf", "oneOf"]
            .iter()
            .any(|any| schema[any].as_array().is_some_and(|any| any.iter().any(is_null)))
}

fn metadata(schema: &Value) -> HashMap<String, String> {
    let mut metadata = HashMap::new();
    if schema[PERSONAL] == true {
        metadata.insert(PERSONAL_KEY.to_owned(), "true".to_owned());
    }
    if let Some(description) = schema["description"].as_str() {
        metadata.insert(DESCRIPTION_KEY.to_owned(), description.replace('\n', " "));
    }
    metadata
}

/// What is left of the fields if each that becomes a column takes the next answer.
fn wanted_fields(fields: &Fields, wanted: &mut impl Iterator<Item = bool>) -> Fields {
    let mut left = Vec::new();
    for field in fields {
        match field.data_type() {
            DataType::Struct(inner) => {
                let inner = wanted_fields(inner, wanted);
                if !inner.is_empty() {
                    left.push(Arc::new(field.as_ref().clone().with_data_type(DataType::Struct(inner))));
                }
            }
            _ if wanted.next() == Some(true) => left.push(field.clone()),
            _ => {}
        }
    }
    left.into()
}

fn flatten_fields(prefix: &str, fields: &Fields, may_be_missing: bool, flat: &mut Vec<FieldRef>) {
    for field in fields {
        let name = format!("{prefix}{}", field.name());
        let may_be_missing = may_be_missing || field.is_nullable();
        match field.data_type() {
            DataType::Struct(inner) => flatten_fields(&format!("{name}_"), inner, may_be_missing, flat),
            _ => flat.push(Arc::new(field.as_ref().clone().with_name(name).with_nullable(may_be_missing))),
        }
    }
}

/// The columns of an array of objects. Where an object is missing, so are its fields.
fn flatten(objects: &StructArray, missing: Option<&NullBuffer>, flat: &mut Vec<ArrayRef>) -> Result<()> {
    let missing = NullBuffer::union(missing, objects.nulls());
    for column in objects.columns() {
        match column.as_any().downcast_ref::<StructArray>() {
            Some(inner) => flatten(inner, missing.as_ref(), flat)?,
            None if missing.is_none() => flat.push(column.clone()),
            None => {
                let nulls = NullBuffer::union(missing.as_ref(), column.nulls());
                flat.push(make_array(column.to_data().into_builder().nulls(nulls).build()?));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use serde_json::json;

    use super::*;

    fn columns(schema: Value, rows: &[Value]) -> (Vec<FieldRef>, Vec<ArrayRef>) {
        let mut columns = Columns::of(&schema, 100).unwrap();
        rows.iter().for_each(|row| columns.push(&row.to_string()).unwrap());
        let arrays = columns.take().unwrap();
        (columns.fields, arrays)
    }

    #[test]
    fn fields_within_fields_are_columns_and_missing_where_their_object_is() {
        let inner = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let schema = json!({"properties": {"a": {"anyOf": [inner, {"type": "null"}]}}, "required": ["a"]});
        let (fields, arrays) = columns(schema, &[json!({"a": {"n": 7}}), json!({"a": null})]);
        assert_eq!((fields[0].name().as_str(), fields[0].is_nullable()), ("a_n", true));
        let numbers = arrays[0].as_primitive::<arrow_array::types::Int64Type>();
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [Some(7), None]);
    }

    #[test]
    fn an_enum_has_the_fields_of_all_its_variants() {
        let of = |field: &str, kind: &str| {
            let inner = json!({"type": "object", "properties": {"v": {"type": kind}}, "required": ["v"]});
            json!({"type": "object", "properties": {field: inner}, "required": [field]})
        };
        let schema =
            json!({"properties": {"paid": {"oneOf": [of("card", "string"), of("cash", "integer")]}}});
        let rows = [json!({"paid": {"card": {"v": "x"}}}), json!({"paid": {"cash": {"v": 5}}}), json!({})];
        let (fields, arrays) = columns(schema, &rows);
        let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["paid_card_v", "paid_cash_v"]);
        let nulls = |array: &ArrayRef| (0..3).map(|row| array.is_null(row)).collect::<Vec<_>>();
        assert_eq!(
            (nulls(&arrays[0]), nulls(&arrays[1])),
            (vec![false, true, true], vec![true, false, true])
        );
    }

    #[test]
    fn only_the_columns_that_are_wanted_are_made_and_they_are_the_same() {
        let inner =
            json!({"type": "object", "properties": {"m": {"type": "integer"}, "n": {"type": "integer"}}});
        let schema = json!({"properties": {"a": {"anyOf": [inner, {"type": "null"}]}, "b": {"type": "string"},
            "c": {"type": "integer"}}});
        let rows = [json!({"a": {"m": 1, "n": 2}, "b": "x", "c": 3}), json!({"b": "y"})];
        let (all_fields, all) = columns(schema.clone(), &rows);
        for wanted in 0..1 << all.len() {
            let is_wanted = |column: usize| wanted & (1 << column) != 0;
            let mut some = Columns::some_of(&schema, 100, is_wanted).unwrap();
            rows.iter().for_each(|row| some.push(&row.to_string()).unwrap());
            let expected: Vec<usize> = (0..all.len()).filter(|column| is_wanted(*column)).collect();
            assert!(some.fields.iter().eq(expected.iter().map(|column| &all_fields[*column])), "{wanted:b}");
            assert!(
                some.take().unwrap().iter().eq(expected.iter().map(|column| &all[*column])),
                "{wanted:b}"
            );
        }
    }

    #[test]
    fn lists_and_maps_stay_what_they_are() {
        let schema = json!({"properties": {"tags": {"type": "array", "items": {"type": "string"}},
            "by": {"type": "object", "additionalProperties": {"type": "integer"}}}, "required": ["tags", "by"]});
        let (fields, arrays) = columns(schema, &[json!({"tags": ["a", "b"], "by": {"x": 1}})]);
        assert!(matches!(fields[0].data_type(), DataType::Map(..)), "{fields:?}");
        assert_eq!(arrays[1].as_list::<i32>().value(0).as_string::<i32>().value(1), "b");
    }

    #[test]
    fn what_has_no_column_is_named() {
        let error = Columns::of(&json!({"properties": {"odd": {"type": "null"}}}), 1).err().unwrap();
        assert!(format!("{error:#}").contains("`odd`"), "{error:#}");
    }

    /// So that whoever changes the domain learns it here, and not from an analyst.
    #[test]
    fn every_event_and_every_view_of_the_application_has_columns() {
        let mut generator = generator();
        for kind in domain::Kind::ALL {
            for event in kind.events(&mut generator) {
                let columns = Columns::of(&event.content, 1);
                assert!(columns.is_ok(), "{}.{}: {:#}", kind.name(), event.name, columns.err().unwrap());
            }
        }
        for view in domain::views::ALL {
            let columns = Columns::of((view.row)(&mut generator).as_value(), 1);
            let fields = columns.unwrap_or_else(|error| panic!("{}: {error:#}", view.name)).fields;
            assert!(fields.iter().any(|field| field.name() == view.key), "{}", view.name);
        }
    }
}
