//! Rows as lines of text, a column each: the text format of Postgres's `copy`, by which new rows are written
//! at a fraction of what a statement takes.

use std::fmt::{self, Display, Write};

use serde::{
    Serialize,
    ser::{self, Impossible, SerializeStruct},
};

/// Rows of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The columns, in their order in each line.
    pub columns: Vec<&'static str>,
    pub text: String,
    pub count: usize,
}

/// A field is no single value, but a list or an object: how Postgres writes that depends on the column's type.
#[derive(Debug)]
pub struct NotScalar;

impl Lines {
    /// Adds a row, or nothing.
    pub fn push<R: Serialize>(&mut self, row: &R) -> Result<(), NotScalar> {
        let start = self.text.len();
        let first = self.count == 0;
        let columns = first.then_some(&mut self.columns);
        let line = Line { columns, text: &mut self.text, is_first: true };
        if let Err(error) = row.serialize(RowSerializer(line)) {
            self.text.truncate(start);
            return Err(error);
        }
        self.text.push('\n');
        self.count += 1;
        Ok(())
    }
}

struct Line<'a> {
    /// To be filled by the first row.
    columns: Option<&'a mut Vec<&'static str>>,
    text: &'a mut String,
    is_first: bool,
}

struct RowSerializer<'a>(Line<'a>);

impl SerializeStruct for Line<'_> {
    type Ok = ();
    type Error = NotScalar;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), NotScalar> {
        if let Some(columns) = &mut self.columns {
            columns.push(name);
        }
        if !std::mem::take(&mut self.is_first) {
            self.text.push('\t');
        }
        value.serialize(Field(self.text))
    }

    fn end(self) -> Result<(), NotScalar> {
        Ok(())
    }
}

/// Writes text so that no character ends a column or a line.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(['\\', '\t', '\n', '\r']) {
            self.0.push_str(&rest[..at]);
            self.0.push_str(match rest.as_bytes()[at] {
                b'\\' => "\\\\",
                b'\t' => "\\t",
                b'\n' => "\\n",
                _ => "\\r",
            });
            rest = &rest[at + 1..];
        }
        self.0.push_str(rest);
        Ok(())
    }
}

/// One value of a row.
struct Field<'a>(&'a mut String);

impl Field<'_> {
    fn write(self, value: impl Display) -> Result<(), NotScalar> {
        // Writing to a String cannot fail; a value's own Display might.
        write!(Escaped(self.0), "{value}").map_err(|_| NotScalar)
    }
}

/// The methods of a serializer for what is not told apart from `$error`.
macro_rules! refuse {
    ($($compound:ident)+) => {
        $(type $compound = Impossible<(), NotScalar>;)+

        fn serialize_bytes(self, _: &[u8]) -> Result<(), NotScalar> {
            Err(NotScalar)
        }

        fn serialize_newtype_variant<T: ?Sized + Serialize>(
            self, _: &'static str, _: u32, _: &'static str, _: &T,
        ) -> Result<(), NotScalar> {
            Err(NotScalar)
        }

        fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, NotScalar> {
            Err(NotScalar)
        }

        fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, NotScalar> {
            Err(NotScalar)
        }

        fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, NotScalar> {
            Err(NotScalar)
        }

        fn serialize_tuple_variant(
            self, _: &'static str, _: u32, _: &'static str, _: usize,
        ) -> Result<Self::SerializeTupleVariant, NotScalar> {
            Err(NotScalar)
        }

        fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, NotScalar> {
            Err(NotScalar)
        }

        fn serialize_struct_variant(
            self, _: &'static str, _: u32, _: &'static str, _: usize,
        ) -> Result<Self::SerializeStructVariant, NotScalar> {
            Err(NotScalar)
        }
    };
}

macro_rules! write_as_displayed {
    ($($method:ident: $type:ty),+) => {
        $(fn $method(self, value: $type) -> Result<(), NotScalar> {
            self.write(value)
        })+
    };
}

macro_rules! refuse_scalars {
    ($($method:ident: $type:ty),+) => {
        $(fn $method(self, _: $type) -> Result<(), NotScalar> {
            Err(NotScalar)
        })+
    };
}

impl ser::Serializer for Field<'_> {
    type Ok = ();
    type Error = NotScalar;
    type SerializeStruct = Impossible<(), NotScalar>;

    refuse!(SerializeSeq SerializeTuple SerializeTupleStruct SerializeTupleVariant SerializeMap SerializeStructVariant);

    write_as_displayed!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_char: char, serialize_str: &str
    );

    fn collect_str<T: ?Sized + Display>(self, value: &T) -> Result<(), NotScalar> {
        self.write(value)
    }

    fn serialize_none(self) -> Result<(), NotScalar> {
        self.0.push_str("\\N");
        Ok(())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), NotScalar> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), NotScalar> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NotScalar> {
        self.serialize_none()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), NotScalar> {
        self.write(name)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotScalar> {
        value.serialize(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, NotScalar> {
        Err(NotScalar)
    }
}

impl<'a> ser::Serializer for RowSerializer<'a> {
    type Ok = ();
    type Error = NotScalar;
    type SerializeStruct = Line<'a>;

    refuse!(SerializeSeq SerializeTuple SerializeTupleStruct SerializeTupleVariant SerializeMap SerializeStructVariant);

    refuse_scalars!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char, serialize_str: &str, serialize_unit_struct: &'static str
    );

    fn serialize_none(self) -> Result<(), NotScalar> {
        Err(NotScalar)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<(), NotScalar> {
        Err(NotScalar)
    }

    fn serialize_unit(self) -> Result<(), NotScalar> {
        Err(NotScalar)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), NotScalar> {
        Err(NotScalar)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<(), NotScalar> {
        Err(NotScalar)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Line<'a>, NotScalar> {
        Ok(self.0)
    }
}

impl Display for NotScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a single value")
    }
}

impl std::error::Error for NotScalar {}

impl ser::Error for NotScalar {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::values::{Day, Timestamp};

    #[derive(Serialize)]
    struct Row {
        id: uuid::Uuid,
        name: Option<String>,
        count: i64,
        is_open: bool,
        status: Status,
        at: Timestamp,
        day: Day,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Status {
        Active,
    }

    fn row(name: Option<&str>) -> Row {
        Row {
            id: uuid::Uuid::from_u128(1),
            name: name.map(str::to_owned),
            count: -7,
            is_open: true,
            status: Status::Active,
            at: Timestamp::EARLIEST,
            day: Timestamp::EARLIEST.day(),
        }
    }

    #[test]
    fn a_row_is_a_line_of_columns() {
        let mut lines = Lines::default();
        lines.push(&row(Some("Ada"))).unwrap();
        lines.push(&row(None)).unwrap();
        let rest = "-7\ttrue\tactive\t1970-01-01T00:00:00Z\t1970-01-01\n";
        let id = "00000000-0000-0000-0000-000000000001";
        assert_eq!(lines.text, format!("{id}\tAda\t{rest}{id}\t\\N\t{rest}"));
        assert_eq!(lines.columns, ["id", "name", "count", "is_open", "status", "at", "day"]);
        assert_eq!(lines.count, 2);
    }

    #[test]
    fn no_text_ends_a_column_or_a_line_or_passes_for_null() {
        let mut lines = Lines::default();
        for name in ["a\tb\nc\rd\\e", "\\N", "", "\\."] {
            lines.push(&row(Some(name))).unwrap();
        }
        let names: Vec<&str> = lines.text.lines().map(|line| line.split('\t').nth(1).unwrap()).collect();
        assert_eq!(names, [r"a\tb\nc\rd\\e", r"\\N", "", r"\\."]);
    }

    #[test]
    fn a_row_with_a_list_is_refused_and_leaves_nothing() {
        #[derive(Serialize)]
        struct Tagged {
            id: u32,
            tags: Vec<String>,
        }
        let mut lines = Lines::default();
        assert!(lines.push(&Tagged { id: 1, tags: vec![] }).is_err());
        assert_eq!((lines.text.as_str(), lines.count), ("", 0));
    }
}
