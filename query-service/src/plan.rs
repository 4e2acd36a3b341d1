//! A query with all that is needed to answer it, from the cache or from the database.

use std::sync::Arc;

use service_kit::Problem;

use crate::{
    cache::Key,
    catalog::Owner,
    coherence::Tag,
    parameters::Parameters,
    query::{Count, ListQuery, RowQuery},
    served::Served,
};

/// A query that has been checked against the catalog.
pub struct Plan {
    pub served: Arc<Served>,
    pub question: Question,
    /// Names the query in the cache.
    pub key: Key,
    /// What its answer depends on.
    pub tags: Vec<Tag>,
}

#[derive(Debug)]
pub enum Question {
    Row(RowQuery),
    List(Arc<ListQuery>),
    /// The answer is known without a look: the body, or no such row.
    Known(Option<String>),
}

impl Plan {
    /// For a caller who may see only the rows of `owner`, if there is one.
    pub fn row(
        served: Arc<Served>,
        key: &str,
        parameters: &Parameters,
        owner: Option<&Owner>,
    ) -> Result<Self, Problem> {
        let query = RowQuery::parse(&served.view, key, parameters, owner)?;
        let tags = vec![served.tags.of_row(&query.key, query.owner.as_ref())];
        let kind = served.view.key_column().kind;
        let key = Key::of_row(served.id, &query.fields, kind, &query.key, query.owner.as_ref());
        let question = if query.is_nothing { Question::Known(None) } else { Question::Row(query) };
        Ok(Self { served, question, key, tags })
    }

    /// For a caller who may see only the rows of `owner`, if there is one.
    pub fn list(
        served: Arc<Served>,
        parameters: &Parameters,
        owner: Option<&Owner>,
    ) -> Result<Self, Problem> {
        let query = ListQuery::parse(&served.view, parameters, owner)?;
        let tags = served.tags.of_list(&served.view, &query);
        let ListQuery { fields, limit, after, count, .. } = &query;
        let identity = format!("{}{fields:?}{limit}{after:?}{count}", query.identity(&served.view));
        let key = Key::of_list(served.id, &identity);
        let question = if query.is_nothing {
            Question::Known(Some(page("", None, query.count.then_some(Count::of(0)))))
        } else {
            Question::List(Arc::new(query))
        };
        Ok(Self { served, question, key, tags })
    }

    pub fn view(&self) -> &str {
        &self.served.view.name
    }
}

/// The body of a list: its rows as JSON, separated by commas.
pub fn page(items: &str, next_cursor: Option<&str>, count: Option<Count>) -> String {
    let count = count.map(Count::members).unwrap_or_default();
    format!(r#"{{"items":[{items}],"next_cursor":{}{count}}}"#, serde_json::json!(next_cursor))
}
