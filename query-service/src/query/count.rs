//! The answer to `count=true`.

/// Up to how many rows are counted: entries of an index, read in some milliseconds.
pub const COUNT_MAX: u32 = 10_000;

/// How many rows fit a list, on all of its pages together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// At most [`COUNT_MAX`].
    pub count: u32,
    /// Otherwise there are more.
    pub is_exact: bool,
}

impl Count {
    /// Of `counted` rows that were found before the count ended, which is at one more than [`COUNT_MAX`].
    pub fn of(counted: i64) -> Self {
        let is_exact = counted <= i64::from(COUNT_MAX);
        Self { count: u32::try_from(counted).unwrap_or(COUNT_MAX).min(COUNT_MAX), is_exact }
    }

    /// As further members of a JSON object.
    pub fn members(self) -> String {
        format!(r#","count":{},"count_is_exact":{}"#, self.count, self.is_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_says_when_there_are_more() {
        assert_eq!(Count::of(0).members(), r#","count":0,"count_is_exact":true"#);
        assert_eq!(Count::of(10_000).members(), r#","count":10000,"count_is_exact":true"#);
        assert_eq!(Count::of(10_001).members(), r#","count":10000,"count_is_exact":false"#);
    }
}
