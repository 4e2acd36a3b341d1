//! A caller's query with all that is needed to answer it, from the cache or from the database.

use std::sync::Arc;

use service_kit::{Problem, auth::Caller};

use crate::{
    cache::Key,
    coherence::Tag,
    parameters::Parameters,
    permit::permit,
    query::{Count, ListQuery, RowQuery},
    served::Served,
};

/// A query that has been checked against the catalog, and against what the caller may read.
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
    pub fn row(
        served: Arc<Served>,
        caller: &Caller,
        key: &str,
        parameters: &Parameters,
    ) -> Result<Self, Problem> {
        let owner = permit(caller, &served.view)?;
        let query = RowQuery::parse(&served.view, key, parameters, owner.as_ref())?;
        let tags = vec![served.tags.of_row(&query.key, query.owner.as_ref())];
        let kind = served.view.key_column().kind;
        let key = Key::of_row(served.id, &query.fields, kind, &query.key, query.owner.as_ref());
        let question = if query.is_nothing { Question::Known(None) } else { Question::Row(query) };
        Ok(Self { served, question, key, tags })
    }

    pub fn list(served: Arc<Served>, caller: &Caller, parameters: &Parameters) -> Result<Self, Problem> {
        let owner = permit(caller, &served.view)?;
        let query = ListQuery::parse(&served.view, parameters, owner.as_ref())?;
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
