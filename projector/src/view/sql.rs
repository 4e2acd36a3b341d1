//! The text of the statements that read and write a view's table. Names come from the database's own
//! catalog and are always quoted; values are always bound.

/// The statements of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct Statements {
    /// With its schema, quoted.
    table: String,
    /// Reads rows, up to the condition.
    rows: String,
    /// `$1`: keys as texts. Gives key and row, the row as JSON.
    pub select: String,
    /// `$1`: rows as a JSON array.
    pub upsert: String,
    /// `$1`: keys as texts.
    pub delete: String,
    pub count: String,
    /// Gives the same as `select` for one of `$1` equal parts of all keys, the one with the number `$2`: the
    /// first four bytes of the SHA-256 of its text decide where a key belongs.
    pub select_part: String,
}

impl Statements {
    pub fn new(schema: &str, table: &str, key: &str, key_type: &str, columns: &[&str]) -> Self {
        let table = format!("{}.{}", quote(schema), quote(table));
        let key = quote(key);
        let keys = format!("$1::text[]::{key_type}[]");
        let columns: Vec<String> = columns.iter().map(|column| quote(column)).collect();
        let all = columns.join(", ");
        let rows = format!("select r.{key}::text, row_to_json(r)::text from {table} as r");
        let news: Vec<String> = columns
            .iter()
            .filter(|column| **column != key)
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        // A row that is its key alone has nothing to update; setting the key to itself counts it as written.
        let news = if news.is_empty() { format!("{key} = excluded.{key}") } else { news.join(", ") };
        Self {
            select: format!("{rows} where r.{key} = any({keys})"),
            upsert: format!(
                "insert into {table} ({all}) select {all} from json_populate_recordset(null::{table}, $1::text::json) \
                 on conflict ({key}) do update set {news}"
            ),
            delete: format!("delete from {table} where {key} = any({keys})"),
            count: format!("select count(*) from {table}"),
            select_part: format!(
                "{rows} where (('x' || encode(substr(sha256(convert_to(r.{key}::text, 'UTF8')), 1, 4), 'hex'))::bit(32)\
                 ::bigint & 4294967295) % $1 = $2"
            ),
            rows,
            table,
        }
    }

    /// Takes new rows as lines of these columns.
    pub fn copy(&self, columns: &[&str]) -> String {
        let columns: Vec<String> = columns.iter().map(|column| quote(column)).collect();
        format!("copy {} ({}) from stdin", self.table, columns.join(", "))
    }

    /// `$1`: values of the column as texts. `$2`: how many rows at the most. Gives the same as `select`.
    pub fn select_by(&self, column: &str, type_name: &str) -> String {
        format!("{} where r.{} = any($1::text[]::{type_name}[]) limit $2", self.rows, quote(column))
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_by_their_keys_in_one_statement() {
        let statements = Statements::new("public", "accounts", "id", "uuid", &["id", "email"]);
        assert_eq!(
            statements.select,
            "select r.\"id\"::text, row_to_json(r)::text from \"public\".\"accounts\" as r \
             where r.\"id\" = any($1::text[]::uuid[])"
        );
    }

    #[test]
    fn rows_are_written_in_one_statement_that_replaces_all_but_the_key() {
        let statements = Statements::new("public", "accounts", "id", "uuid", &["id", "email", "status"]);
        assert_eq!(
            statements.upsert,
            "insert into \"public\".\"accounts\" (\"id\", \"email\", \"status\") \
             select \"id\", \"email\", \"status\" \
             from json_populate_recordset(null::\"public\".\"accounts\", $1::text::json) \
             on conflict (\"id\") do update set \"email\" = excluded.\"email\", \"status\" = excluded.\"status\""
        );
    }

    #[test]
    fn new_rows_are_copied() {
        let statements = Statements::new("public", "accounts", "id", "uuid", &["id", "email"]);
        assert_eq!(
            statements.copy(&["id", "email"]),
            "copy \"public\".\"accounts\" (\"id\", \"email\") from stdin"
        );
    }

    #[test]
    fn a_row_that_is_its_key_alone_still_counts_as_written() {
        let statements = Statements::new("public", "days", "day", "date", &["day"]);
        assert!(statements.upsert.ends_with("do update set \"day\" = excluded.\"day\""));
    }

    #[test]
    fn no_name_can_break_out_of_its_quotes() {
        let statements = Statements::new("public", "a\"; drop table b; --", "id", "uuid", &["id"]);
        assert!(statements.delete.starts_with("delete from \"public\".\"a\"\"; drop table b; --\" where"));
    }
}
