//! A query with all that is needed to answer it, from the cache or from the database.

use std::sync::Arc;

use service_kit::Problem;

use crate::{
    cache::Key,
    coherence::Tag,
    parameters::Parameters,
    query::{ListQuery, RowQuery},
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
}

impl Plan {
    pub fn row(served: Arc<Served>, key: &str, parameters: &Parameters) -> Result<Self, Problem> {
        let query = RowQuery::parse(&served.view, key, parameters)?;
        let tags = vec![served.tags.of_row(&query.key)];
        let key = Key::of_row(served.id, &query.fields, served.view.key_column().kind, &query.key);
        Ok(Self { served, question: Question::Row(query), key, tags })
    }

    pub fn list(served: Arc<Served>, parameters: &Parameters) -> Result<Self, Problem> {
        let query = ListQuery::parse(&served.view, parameters)?;
        let tags = served.tags.of_list(&query);
        let ListQuery { fields, limit, after, count, .. } = &query;
        let identity = format!("{}{fields:?}{limit}{after:?}{count}", query.identity(&served.view));
        let key = Key::of_list(served.id, &identity);
        Ok(Self { served, question: Question::List(Arc::new(query)), key, tags })
    }

    pub fn view(&self) -> &str {
        &self.served.view.name
    }
}
