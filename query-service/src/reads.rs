//! Reads the database for those that the cache cannot answer: misses of one shape together in one statement, the
//! same list once for all who ask for it; and says what may be done with each answer.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
    time::Instant,
};

use futures::{FutureExt, future::BoxFuture};
use service_kit::Problem;
use sqlx::{Row, postgres::PgRow};

use crate::{
    batcher::{Answer, Batcher, Bounds},
    cache::{Cache, ETag, Entry, Key},
    catalog::{ColumnId, Owner, View},
    coherence::{Read, Source, Tag, Usable},
    cursor,
    database::{Databases, ReadError},
    plan::page,
    query::{Count, ListQuery, RowQuery},
    served::Served,
    sql::{self, RowKey, Statement},
};

/// Rows with the same fields of one view.
const ROWS: Bounds = Bounds { reads_max: 4, crowd: 64, keys_max: 256 };
/// One list.
const LIST: Bounds = Bounds { reads_max: 1, crowd: 1, keys_max: 1 };

/// What a read has found.
#[derive(Clone, Debug)]
pub struct Found {
    pub entry: Arc<Entry>,
    pub usable: Usable,
}

/// Why it found nothing. Shared by all who asked.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The catalog is not that of the database any more.
    OutOfDate,
    Problem(Problem),
    /// No connection came free.
    Busy,
}

pub type Outcome = Result<Found, Failure>;

#[derive(Clone)]
pub struct Reads {
    rows: Arc<Batcher<RowShape, RowKey, Outcome>>,
    lists: Arc<Batcher<List, (), Outcome>>,
}

impl Reads {
    pub fn new(databases: Databases, cache: Cache) -> Self {
        let reading = Reading { databases, cache };
        let (rows, lists) = (reading.clone(), reading);
        Self {
            rows: Batcher::new(ROWS, Box::new(move |shape, keys| rows.clone().rows(shape, keys).boxed())),
            lists: Batcher::new(LIST, Box::new(move |list, _| list_alone(lists.clone(), list))),
        }
    }

    pub async fn row(&self, served: Arc<Served>, query: &RowQuery, source: Source) -> Outcome {
        let RowQuery { key, fields, owner, .. } = query.clone();
        let (owner_column, owner) =
            owner.map_or((None, String::new()), |owner| (Some(owner.column), owner.value));
        let shape = RowShape { served, fields, owner_column, source };
        self.rows.get(shape, RowKey { key, owner }).await.unwrap_or_else(|| Err(panicked()))
    }

    pub async fn list(
        &self,
        served: Arc<Served>,
        query: Arc<ListQuery>,
        key: Key,
        source: Source,
    ) -> Outcome {
        let list = List { served, query, key, source };
        self.lists.get(list, ()).await.unwrap_or_else(|| Err(panicked()))
    }
}

fn panicked() -> Failure {
    Failure::Problem(Problem::internal("a read ended without an answer"))
}

/// Rows of one view that are read alike.
#[derive(Clone)]
struct RowShape {
    served: Arc<Served>,
    fields: Vec<ColumnId>,
    /// Each is read for its owner alone.
    owner_column: Option<ColumnId>,
    source: Source,
}

impl RowShape {
    fn identity(&self) -> impl Eq + Hash + '_ {
        (self.served.id, &self.fields, self.owner_column, self.source)
    }
}

impl PartialEq for RowShape {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for RowShape {}

impl Hash for RowShape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

#[derive(Clone)]
struct List {
    served: Arc<Served>,
    query: Arc<ListQuery>,
    /// Names the view and the query.
    key: Key,
    source: Source,
}

impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.source == other.source
    }
}

impl Eq for List {}

impl Hash for List {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.key, self.source).hash(state);
    }
}

#[derive(Clone)]
struct Reading {
    databases: Databases,
    cache: Cache,
}

fn list_alone(reading: Reading, list: List) -> BoxFuture<'static, Vec<Answer<Outcome>>> {
    async move { vec![answer(reading.list(list).await)] }.boxed()
}

fn answer(answer: Outcome) -> Answer<Outcome> {
    let is_current = matches!(answer, Ok(Found { usable: Usable::Kept(_), .. }));
    Answer { answer, is_current }
}

impl Reading {
    async fn rows(self, shape: RowShape, keys: Vec<RowKey>) -> Vec<Answer<Outcome>> {
        let RowShape { served, fields, owner_column, source } = shape;
        let statement = sql::rows(&served.view, &fields, owner_column, keys.clone());
        let found = self.fetch(&statement, source).await.and_then(|row| rows_of(&row, keys.len()));
        let (read, items) = match found {
            Ok(found) => found,
            Err(failure) => return vec![Answer { answer: Err(failure), is_current: false }; keys.len()],
        };
        let kind = served.view.key_column().kind;
        let rows = keys.into_iter().zip(items).map(|(RowKey { key, owner }, item)| {
            let body = item.map(|item| item.into_bytes().into_boxed_slice());
            let owner = owner_column.map(|column| Owner { column, value: owner });
            let tags = [served.tags.of_row(&key, owner.as_ref())];
            let key = Key::of_row(served.id, &fields, kind, &key, owner.as_ref());
            answer(Ok(self.judge(&served, key, &tags, source, Content { read, body, next_cursor: None })))
        });
        rows.collect()
    }

    async fn list(self, list: List) -> Outcome {
        let List { served, query, key, source } = list;
        let row = self.fetch(&sql::list(&served.view, &query), source).await?;
        let content = content(&served.view, &query, &row).map_err(internal)?;
        let tags = served.tags.of_list(&served.view, &query);
        Ok(self.judge(&served, key, &tags, source, content))
    }

    /// Keeps it, if that may be done.
    fn judge(&self, served: &Served, key: Key, tags: &[Tag], source: Source, content: Content) -> Found {
        let Content { read, body, next_cursor } = content;
        served.coherence.learn(read);
        let timeline = served.coherence.timeline();
        let usable = timeline.usable(timeline.judge(read, tags, Instant::now()), read, source);
        let etag = ETag::of(body.as_deref().unwrap_or_default());
        let entry = Arc::new(Entry { timeline: timeline.id(), read, etag, next_cursor, body });
        if let Usable::Kept(_) = usable {
            self.cache.put(key, entry.clone());
        }
        Found { entry, usable }
    }

    async fn fetch(&self, statement: &Statement, source: Source) -> Result<PgRow, Failure> {
        match self.databases.of(source).fetch(statement).await {
            Ok(Some(row)) => Ok(row),
            // The registry names another build of the view by now.
            Ok(None) | Err(ReadError::OutOfDate) => Err(Failure::OutOfDate),
            Err(ReadError::Busy) => Err(Failure::Busy),
            Err(error) => {
                if source == Source::Standby {
                    self.databases.standby_failed(&error);
                }
                Err(Failure::Problem(error.into()))
            }
        }
    }
}

/// What one snapshot gave.
struct Content {
    read: Read,
    body: Option<Box<[u8]>>,
    next_cursor: Option<Box<str>>,
}

fn internal(error: sqlx::Error) -> Failure {
    Failure::Problem(Problem::internal(error))
}

/// Positions and terms are never negative.
fn read(row: &PgRow) -> Result<Read, sqlx::Error> {
    let (position, term): (i64, i64) = (row.try_get("position")?, row.try_get("term")?);
    Ok(Read { term: term.cast_unsigned(), position: position.cast_unsigned() })
}

fn rows_of(row: &PgRow, keys: usize) -> Result<(Read, Vec<Option<String>>), Failure> {
    let items: Vec<Option<String>> = row.try_get("items").map_err(internal)?;
    let read = read(row).map_err(internal)?;
    if items.len() == keys {
        Ok((read, items))
    } else {
        Err(Failure::Problem(Problem::internal(format!("{} rows came for {keys} keys", items.len()))))
    }
}

fn content(view: &View, query: &ListQuery, row: &PgRow) -> Result<Content, sqlx::Error> {
    let items: Option<String> = row.try_get("items")?;
    let next_cursor = next_cursor(view, query, row)?;
    let items = items.unwrap_or_default();
    let counted: Option<i64> = row.try_get("counted")?;
    let body = page(&items, next_cursor.as_deref(), counted.map(Count::of));
    let (body, next_cursor) = (Some(body.into_bytes().into()), next_cursor.map(String::into_boxed_str));
    Ok(Content { read: read(row)?, body, next_cursor })
}

fn next_cursor(view: &View, query: &ListQuery, row: &PgRow) -> Result<Option<String>, sqlx::Error> {
    let found: i64 = row.try_get("found")?;
    if found <= i64::from(query.limit) {
        return Ok(None);
    }
    let place = (1..=query.order.len())
        .map(|i| row.try_get(format!("place_{i}").as_str()))
        .collect::<Result<Vec<String>, _>>()?;
    Ok(Some(cursor::encode(&place, &query.identity(view))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        catalog::{Catalog, tests::orders},
        served::served,
    };

    #[test]
    fn rows_for_their_owners_are_not_read_together_with_rows_for_who_may_see_all() {
        let view = orders();
        let catalog = Catalog { views: BTreeMap::from([(view.name.clone(), Arc::new(view))]) };
        let served = served(&catalog, &BTreeMap::new())["orders"].clone();
        let (fields, source) = (vec![0], Source::Primary);
        let shape =
            |owner_column| RowShape { served: served.clone(), fields: fields.clone(), owner_column, source };
        assert!(shape(None) == shape(None) && shape(Some(1)) == shape(Some(1)));
        assert!(shape(None) != shape(Some(1)));
    }
}
