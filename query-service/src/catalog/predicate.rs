//! Reads the predicate of a partial index as Postgres writes it (`pg_get_expr`): a conjunction of
//! `column = constant` and `column is not null`. Whatever else it says is not understood, on purpose: an
//! index that is misread would give answers that lack rows.

use super::{Column, ColumnId, Constant, Kind, Only};

/// `None`: not understood. `quoted` are the columns' names as Postgres quotes them, in the columns' order.
pub fn parse(text: &str, columns: &[Column], quoted: &[String]) -> Option<Only> {
    let mut only = Only::default();
    for part in conjunction(text)? {
        let (id, rest) = quoted.iter().enumerate().find_map(|(id, name)| {
            let rest = without_column(part, name)?;
            Some((id, rest))
        })?;
        match rest {
            " IS NOT NULL" => only.not_null.push(id),
            rest => only.equal.push(constant(id, columns[id].kind?, rest)?),
        }
    }
    let mut named: Vec<ColumnId> = only.equal.iter().map(|constant| constant.column).collect();
    named.sort_unstable();
    named.dedup();
    (named.len() == only.equal.len()).then_some(only)
}

/// What follows the column's name; a boolean that stands alone is compared with `true`.
fn without_column<'a>(part: &'a str, name: &str) -> Option<&'a str> {
    if part == name {
        return Some(" = true");
    }
    if part.strip_prefix("NOT ") == Some(name) {
        return Some(" = false");
    }
    // A `varchar` is compared as text.
    let as_text = format!("({name})::text");
    let rest = part.strip_prefix(as_text.as_str()).or_else(|| part.strip_prefix(name))?;
    rest.starts_with(' ').then_some(rest)
}

fn constant(column: ColumnId, kind: Kind, comparison: &str) -> Option<Constant> {
    let literal = comparison.strip_prefix(" = ")?;
    let value = match kind {
        Kind::Text => text(literal.strip_suffix("::text")?)?,
        Kind::Uuid => kind.parse(&text(literal.strip_suffix("::uuid")?)?)?,
        Kind::Boolean => kind.parse(literal)?,
        Kind::SmallInt | Kind::Integer | Kind::BigInt => kind.parse(&number(literal)?)?,
        // How these are written depends on settings of the session.
        Kind::Numeric | Kind::Date | Kind::Timestamp => return None,
    };
    Some(Constant { column, value, literal: literal.to_owned() })
}

/// `'…'` with its quotes doubled. One with a backslash is written differently, and not understood.
fn text(literal: &str) -> Option<String> {
    let inner = literal.strip_prefix('\'')?.strip_suffix('\'')?;
    let single = inner.replace("''", "");
    (!single.contains(['\'', '\\'])).then(|| inner.replace("''", "'"))
}

/// `5`, or `'-5'::integer`.
fn number(literal: &str) -> Option<String> {
    match literal.split_once("::") {
        None => Some(literal.to_owned()),
        Some((quoted, "smallint" | "integer" | "bigint")) => text(quoted),
        Some(_) => None,
    }
}

/// The parts between the outermost `AND`s, without the parentheses around each.
fn conjunction(text: &str) -> Option<Vec<&str>> {
    let text = without_parentheses(text)?;
    let mut parts = vec![];
    let mut start = 0;
    for (at, depth) in depths(text)? {
        if depth == 0 && text[at..].starts_with(" AND ") {
            parts.push(without_parentheses(&text[start..at])?);
            start = at + " AND ".len();
        }
    }
    parts.push(without_parentheses(text.get(start..)?)?);
    Some(parts)
}

/// Without the parentheses that hold the whole of it, if any do.
fn without_parentheses(text: &str) -> Option<&str> {
    let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else {
        return Some(text);
    };
    let closed_early = depths(text)?.iter().any(|&(at, depth)| depth == 0 && at > 0 && at < text.len() - 1);
    if closed_early { Some(text) } else { Some(inner) }
}

/// The places outside of quotes, each with how many parentheses are open after it; `None` if they do not match.
fn depths(text: &str) -> Option<Vec<(usize, usize)>> {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut places = vec![];
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.checked_sub(1)?,
            (None, _) => {}
        }
        if quote.is_none() {
            places.push((at, depth));
        }
    }
    (depth == 0 && quote.is_none()).then_some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: Kind) -> Column {
        Column { name: name.into(), type_name: name.into(), kind: Some(kind), nullable: true }
    }

    /// The constants, and the columns that are not null.
    type Parsed = (Vec<(ColumnId, String)>, Vec<ColumnId>);

    fn parsed(text: &str) -> Option<Parsed> {
        let columns = [
            column("status", Kind::Text),
            column("n", Kind::Integer),
            column("Odd \"AND\" name", Kind::Text),
            column("flag", Kind::Boolean),
            column("day", Kind::Date),
        ];
        let quoted = ["status", "n", r#""Odd ""AND"" name""#, "flag", "day"].map(str::to_owned);
        let only = parse(text, &columns, &quoted)?;
        Some((only.equal.into_iter().map(|c| (c.column, c.value)).collect(), only.not_null))
    }

    #[test]
    fn an_equality_with_a_constant_is_understood() {
        assert_eq!(parsed("(status = 'active'::text)"), Some((vec![(0, "active".into())], vec![])));
        assert_eq!(parsed("((status)::text = 'active'::text)"), Some((vec![(0, "active".into())], vec![])));
        assert_eq!(parsed("(n = 5)"), Some((vec![(1, "5".into())], vec![])));
        assert_eq!(parsed("(n = '-5'::integer)"), Some((vec![(1, "-5".into())], vec![])));
        assert_eq!(parsed("flag"), Some((vec![(3, "true".into())], vec![])));
        assert_eq!(parsed("(NOT flag)"), Some((vec![(3, "false".into())], vec![])));
    }

    #[test]
    fn conjunctions_are_taken_apart_whatever_stands_in_their_texts() {
        let text = r#"((status = 'it''s (A) AND B'::text) AND ("Odd ""AND"" name" IS NOT NULL) AND (n = 5))"#;
        let expected = vec![(0, "it's (A) AND B".to_owned()), (1, "5".to_owned())];
        assert_eq!(parsed(text), Some((expected, vec![2])));
    }

    #[test]
    fn whatever_else_a_predicate_says_is_not_understood() {
        for text in [
            "",
            "(status <> 'active'::text)",
            "(status > 'active'::text)",
            "(status IS NULL)",
            "((status = 'a'::text) OR (n = 5))",
            "((status = 'a'::text) AND ((n = 5) OR (n = 6)))",
            "(status = ANY (ARRAY['a'::text, 'b'::text]))",
            r"(status = E'a\\b'::text)",
            "(status = 'a'::text COLLATE \"C\")",
            "(lower(status) = 'a'::text)",
            "((status || 'x'::text) = 'a'::text)",
            "(unknown = 5)",
            "(n = (5)::bigint)",
            "(n = 5.0)",
            "(day = '2026-01-01'::date)",
            "((n = 5) AND (n = 6))",
            "((n = 5)",
            "(status = 'a)",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
