//! What a type declares, as serde sees it: the fields of its structs and the variants of its enums, and
//! which of them the samples have. That is how a field is noticed that old samples read well without.
//!
//! Fields behind `#[serde(flatten)]`, and those of untagged or internally tagged enums, stay unseen.

use std::{cell::RefCell, collections::BTreeMap};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, EnumAccess, Error, IntoDeserializer, VariantAccess, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;

/// The declared fields and variants by their paths, such as `account.registered.email`.
#[derive(Default)]
pub struct Schema(RefCell<BTreeMap<String, Sampled>>);

#[derive(Default)]
struct Sampled {
    is_optional: bool,
    is_present: bool,
    is_absent: bool,
}

impl Schema {
    /// Reads a sample as `T`, and notes what `T` declares on the way.
    pub fn trace<T: DeserializeOwned>(&self, path: &str, sample: &Value) -> Result<T, serde_json::Error> {
        T::deserialize(Traced { value: sample, path: path.to_owned(), schema: self })
    }

    /// The names of the variants of the enum `T`.
    pub fn variants<T: DeserializeOwned>() -> Vec<String> {
        let schema = Self::default();
        // No variant has this name: what is expected instead becomes known all the same.
        let _ = schema.trace::<T>("", &Value::String(String::new()));
        schema.0.into_inner().into_keys().map(|path| path[1..].to_owned()).collect()
    }

    /// What is declared but not sampled.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        for (path, sampled) in self.0.borrow().iter() {
            if !sampled.is_present {
                gaps.push(format!("no sample of the current version has `{path}`"));
            } else if sampled.is_optional && !sampled.is_absent {
                gaps.push(format!("no sample of the current version is without the optional `{path}`"));
            }
        }
        gaps
    }

    fn note(&self, path: String, note: impl FnOnce(&mut Sampled)) {
        note(self.0.borrow_mut().entry(path).or_default());
    }
}

/// A JSON value that notes what is asked of it.
struct Traced<'de> {
    value: &'de Value,
    path: String,
    schema: &'de Schema,
}

impl<'de> Traced<'de> {
    fn child(&self, name: &str, value: &'de Value) -> Self {
        Self { value, path: format!("{}.{name}", self.path), schema: self.schema }
    }

    fn declare(&self, names: &[&str]) {
        for name in names {
            let is_present = self.value.get(name).is_some() || self.value.as_str() == Some(name);
            self.schema.note(format!("{}.{name}", self.path), |sampled| {
                sampled.is_present |= is_present;
                sampled.is_absent |= !is_present;
            });
        }
    }
}

impl<'de> IntoDeserializer<'de, serde_json::Error> for Traced<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Traced<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.value {
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.iter().map(|item| self.child("[]", item))))
            }
            Value::Object(members) => {
                let members = members.iter().map(|(name, value)| (name.as_str(), self.child(name, value)));
                visitor.visit_map(MapDeserializer::new(members))
            }
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.declare(fields);
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.declare(variants);
        visitor.visit_enum(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.schema.note(self.path.clone(), |sampled| {
            sampled.is_optional = true;
            sampled.is_absent |= self.value.is_null();
        });
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for Traced<'de> {
    type Error = serde_json::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Self::Error> {
        let (name, content) = match self.value {
            Value::String(name) => (name, &Value::Null),
            Value::Object(members) => members.iter().next().ok_or_else(|| Error::custom("no variant"))?,
            _ => return Err(Error::custom("neither the name of a variant nor an object with one")),
        };
        let variant = seed.deserialize(name.as_str().into_deserializer())?;
        Ok((variant, self.child(name, content)))
    }
}

impl<'de> VariantAccess<'de> for Traced<'de> {
    type Error = serde_json::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Self::Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.declare(fields);
        self.deserialize_any(visitor)
    }
}
