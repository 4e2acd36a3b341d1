//! The stretch of the log that a query can need of a table, as far as its conditions say so.

use datafusion::{
    logical_expr::{BinaryExpr, Expr, Operator},
    scalar::ScalarValue,
};
use event_log::{Envelope, Target};
use jiff::Timestamp;

/// Both ends belong to it. It may hold more than what is asked for: the conditions are looked at again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    first: Option<u64>,
    last: Option<u64>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Stretch {
    /// Where all of these conditions hold.
    pub fn of(conditions: &[Expr]) -> Self {
        let stretches = conditions.iter().filter_map(Self::of_condition);
        stretches.fold(Self::default(), |all, one| Self {
            first: all.first.max(one.first),
            last: smaller(all.last, one.last),
            from: all.from.max(one.from),
            until: smaller(all.until, one.until),
        })
    }

    /// None if the condition tells nothing about it.
    pub fn of_condition(condition: &Expr) -> Option<Self> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
        let (column, op, value) = match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) => (column, *op, value),
            (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap()?, value),
            _ => return None,
        };
        match (column.name(), value) {
            ("position", ScalarValue::Int64(Some(value))) => {
                // No event has a position below 1.
                let value = u64::try_from(*value).unwrap_or(0);
                let (first, last) = ends(op, value)?;
                Some(Self { first, last, ..Self::default() })
            }
            ("time", ScalarValue::TimestampMicrosecond(Some(value), _)) => {
                let (from, until) = ends(op, Timestamp::from_microsecond(*value).ok()?)?;
                Some(Self { from, until, ..Self::default() })
            }
            _ => None,
        }
    }

    /// Where to begin to read; at the start, if nothing is said of it.
    pub fn begin(&self) -> Target {
        match (self.first, self.from) {
            (Some(first), _) => Target::Position(first),
            (None, Some(from)) => Target::Time(from),
            (None, None) => Target::Position(0),
        }
    }

    pub fn is_over(&self, event: &Envelope) -> bool {
        self.last.is_some_and(|last| event.position > last)
            || self.until.is_some_and(|until| event.time > until)
    }
}

fn ends<T: Copy>(op: Operator, value: T) -> Option<(Option<T>, Option<T>)> {
    match op {
        Operator::Gt | Operator::GtEq => Some((Some(value), None)),
        Operator::Lt | Operator::LtEq => Some((None, Some(value))),
        Operator::Eq => Some((Some(value), Some(value))),
        _ => None,
    }
}

fn smaller<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn conditions_on_positions_and_times_tell_a_stretch_and_others_nothing() {
        let time = |micros: i64| lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("+00:00".into())));
        let position = |value: i64| lit(value);
        let stretch = Stretch::of(&[
            col("position").gt(position(5)),
            position(9).gt_eq(col("position")),
            col("position").lt(position(20)),
            col("time").gt_eq(time(7)),
            col("cents").gt(position(1000)),
        ]);
        let from = Timestamp::from_microsecond(7).ok();
        assert_eq!(stretch, Stretch { first: Some(5), last: Some(9), from, until: None });
        assert_eq!(stretch.begin(), Target::Position(5));
        assert_eq!(Stretch::of_condition(&col("position").not_eq(position(5))), None);
        let negative = Stretch::of(&[col("position").eq(position(-1))]);
        assert_eq!((negative.first, negative.last), (Some(0), Some(0)));
    }
}
