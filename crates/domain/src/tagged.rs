//! Enums whose variant's name travels apart from its content: a command's name in the URL and its fields
//! in the body; an event's type in one attribute and its data in another.

use std::io;

use schemars::{JsonSchema, SchemaGenerator};
use serde::{
    Serialize,
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor, value::StrDeserializer},
};
use serde_json::{Value, de::StrRead, value::RawValue};

/// The variant's name and its content as JSON. The variants of `T` must be structs (`Closed {}`, not
/// `Closed`), so that every content is a JSON object.
pub fn encode<T: Serialize>(value: &T) -> (String, Box<RawValue>) {
    let mut json = Vec::with_capacity(256);
    let (name, content) = write(value, &mut json);
    let content = RawValue::from_string(content.to_owned()).expect("a part of valid JSON is valid JSON");
    (name.to_owned(), content)
}

/// The same, in a buffer that can be used again.
pub fn write<'a, T: Serialize>(value: &T, json: &'a mut Vec<u8>) -> (&'a str, &'a str) {
    json.clear();
    // serde_json writes an enum as {"name":content}; both parts are cut out of that one encoding.
    serde_json::to_writer(&mut *json, value)
        .expect("commands and events have string keys and finite numbers");
    std::str::from_utf8(json)
        .ok()
        .and_then(|json| json.strip_prefix("{\"")?.strip_suffix('}')?.split_once("\":"))
        .expect("commands and events are enums of struct variants")
}

/// The variant's name alone, without encoding the content.
pub fn name<T: Serialize>(value: &T) -> String {
    let mut start = UpToContent(Vec::new());
    // Ends with the error of the writer, which has all that it wanted.
    let _ = serde_json::to_writer(&mut start, value);
    let name = start.0.split(|byte| *byte == b'"').nth(1).expect("commands and events are enums");
    String::from_utf8_lossy(name).into_owned()
}

/// A variant of such an enum, described.
#[derive(Debug)]
pub struct Variant {
    pub name: String,
    /// What is written above it in the source.
    pub description: Option<String>,
    /// The schema of its content, a JSON object.
    pub content: Value,
}

/// Every variant of `T`, in the order of the source.
pub fn variants<T: JsonSchema>(generator: &mut SchemaGenerator) -> Vec<Variant> {
    // As `encode` writes it, each alternative is an object with one member: {"name": content}.
    let schema = T::json_schema(generator);
    let alternatives = schema.get("oneOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    alternatives.iter().flat_map(variant).collect()
}

fn variant(alternative: &Value) -> Option<Variant> {
    let (name, content) = alternative["properties"].as_object()?.iter().next()?;
    let description = alternative["description"].as_str().map(str::to_owned);
    Some(Variant { name: name.clone(), description, content: content.clone() })
}

/// Takes JSON up to its first colon.
struct UpToContent(Vec<u8>);

impl io::Write for UpToContent {
    fn write(&mut self, json: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(json);
        if json.contains(&b':') { Err(io::ErrorKind::WriteZero.into()) } else { Ok(json.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the variant `name` of `T` with `content`, a JSON object.
pub fn decode<T: DeserializeOwned>(name: &str, content: &str) -> Result<T, DecodeError> {
    // Keeping track of the path costs as much as reading; it is only of use when something is wrong.
    let mut json = serde_json::Deserializer::from_str(content);
    let tagged = Tagged { name, content: &mut json, name_is_known: &mut false };
    match T::deserialize(tagged) {
        Ok(value) if json.end().is_ok() => Ok(value),
        _ => decode_telling_the_path(name, content),
    }
}

fn decode_telling_the_path<T: DeserializeOwned>(name: &str, content: &str) -> Result<T, DecodeError> {
    let mut json = serde_json::Deserializer::from_str(content);
    let mut name_is_known = false;
    let tagged = Tagged { name, content: &mut json, name_is_known: &mut name_is_known };
    match serde_path_to_error::deserialize(tagged) {
        Ok(value) => {
            json.end().map_err(|error| DecodeError::content(String::new(), error))?;
            Ok(value)
        }
        Err(error) if name_is_known => {
            // The variant's own name leads the path; the caller knows it already.
            let path = error.path().to_string();
            let path = path.strip_prefix(name).map_or(path.as_str(), |rest| rest.trim_start_matches('.'));
            Err(DecodeError::content(path.to_owned(), error.into_inner()))
        }
        Err(error) => Err(DecodeError::UnknownName { message: error.into_inner().to_string() }),
    }
}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        Self::content(String::new(), error)
    }
}

/// Why a name and a content make no value.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No variant has this name. The message lists those that exist.
    #[error("{message}")]
    UnknownName { message: String },
    /// The content does not fit the variant. The path leads to the field, as far as it is known.
    #[error("{path}: {message}")]
    Content {
        path: String,
        message: String,
        /// The content is not even JSON.
        is_syntax: bool,
    },
}

impl DecodeError {
    fn content(path: String, error: serde_json::Error) -> Self {
        let is_syntax = error.is_syntax() || error.is_eof();
        DecodeError::Content { path, message: error.to_string(), is_syntax }
    }
}

/// Shows the name and the content to serde as one externally tagged enum.
struct Tagged<'a, 'de> {
    name: &'a str,
    content: &'a mut serde_json::Deserializer<StrRead<'de>>,
    name_is_known: &'a mut bool,
}

impl<'de> de::Deserializer<'de> for Tagged<'_, 'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> de::EnumAccess<'de> for Tagged<'_, 'de> {
    type Error = serde_json::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Self::Error> {
        let name: StrDeserializer<'_, Self::Error> = self.name.into_deserializer();
        let variant = seed.deserialize(name)?;
        *self.name_is_known = true;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for Tagged<'_, 'de> {
    type Error = serde_json::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        Err(de::Error::custom("a variant without fields; write it as a struct: `Closed {}`"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Self::Error> {
        seed.deserialize(self.content)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Self::Error> {
        de::Deserializer::deserialize_seq(self.content, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        de::Deserializer::deserialize_struct(self.content, "", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Command;

    fn error(name: &str, content: &str) -> DecodeError {
        decode::<Command>(name, content).unwrap_err()
    }

    #[test]
    fn the_name_of_a_variant_is_known_without_its_content() {
        assert_eq!(name(&Command::Close {}), "close");
        let command: Command = decode("change-email", r#"{"email":"a@example.org"}"#).unwrap();
        assert_eq!(name(&command), "change-email");
    }

    #[test]
    fn every_variant_is_described_by_its_name_and_content() {
        let variants = variants::<Command>(&mut SchemaGenerator::default());
        let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
        assert_eq!(names, ["register", "change-email", "change-username", "rename", "close"]);
        assert_eq!(variants[0].content["required"], serde_json::json!(["email", "username"]));
        assert_eq!(variants[4].content["additionalProperties"], false);
        assert!(variants[4].description.as_deref().unwrap().starts_with("Closes the account"));
    }

    #[test]
    fn an_unknown_name_is_told_apart_and_lists_those_that_exist() {
        let DecodeError::UnknownName { message } = error("registre", "{}") else { panic!("name is unknown") };
        assert!(message.contains("`change-email`"), "{message}");
    }

    #[test]
    fn a_bad_value_is_reported_with_the_path_of_its_field() {
        let DecodeError::Content { path, message, is_syntax } = error("change-email", r#"{"email":"ada"}"#)
        else {
            panic!("the name is known")
        };
        assert_eq!((path.as_str(), is_syntax), ("email", false));
        assert!(message.contains("email address"), "{message}");
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = error("close", r#"{"why":"bored"}"#);
        assert!(error.to_string().contains("unknown field `why`"), "{error}");
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        for content in ["{", "", r#"{"email":"a@example.org"} {}"#, r#"{"email":"a@example.org"}}"#] {
            let error = error("change-email", content);
            assert!(matches!(error, DecodeError::Content { is_syntax: true, .. }), "{content}: {error:?}");
        }
    }
}
