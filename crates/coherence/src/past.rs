//! The rows that are asked for, as they were at one position of the log, which moves on event by event.

use std::collections::{BTreeMap, HashMap};

use domain::Recorded;
use domain::view::Fold;
use serde_json::{Value, json};

use crate::place::Place;
use crate::question::{Asks, List, Question};

/// The right answers to some questions, at the position of the event that was applied last.
pub struct Past {
    /// Of each view; none of those that nobody asks.
    views: Vec<Option<View>>,
}

struct View {
    fold: Box<dyn Fold>,
    /// The questions that ask for a row, by its key.
    rows: HashMap<String, Vec<usize>>,
    /// By question.
    lists: BTreeMap<usize, Rows>,
}

/// The rows of a list in its order, narrow.
#[derive(Default)]
struct Rows {
    in_order: BTreeMap<(Place, String), Value>,
    places: HashMap<String, Place>,
}

impl Past {
    /// Before the first event.
    pub fn new<'a>(questions: impl Iterator<Item = &'a Question>) -> Self {
        let mut views: Vec<Option<View>> = domain::views::ALL.iter().map(|_| None).collect();
        for (index, question) in questions.enumerate() {
            let view = views[question.view].get_or_insert_with(|| View {
                fold: (question.definition().fold)(),
                rows: HashMap::new(),
                lists: BTreeMap::new(),
            });
            match &question.asks {
                Asks::Row(key) => view.rows.entry(key.clone()).or_default().push(index),
                Asks::List(_) => _ = view.lists.insert(index, Rows::default()),
            }
        }
        Self { views }
    }

    /// Moves on by one event. Calls `changed` with each question whose answer may be another one from now on.
    pub fn apply(
        &mut self,
        recorded: &Recorded,
        questions: &[(String, Question)],
        mut changed: impl FnMut(usize),
    ) {
        for (definition, view) in domain::views::ALL.iter().zip(&mut self.views) {
            let Some(View { fold, rows, lists }) = view else { continue };
            for key in fold.touched(&(definition.touches)(recorded)) {
                fold.apply_to(&key, recorded);
                rows.get(&key).into_iter().flatten().for_each(|question| changed(*question));
                if lists.is_empty() {
                    continue;
                }
                let row = stored(fold.as_ref(), &key);
                for (index, list) in &mut *lists {
                    let question = &questions[*index].1;
                    let Asks::List(asked) = &question.asks else { continue };
                    if list.change(&key, row.as_ref(), question, asked) {
                        changed(*index);
                    }
                }
            }
        }
    }

    /// What is to be answered now: `None` if there is no such row.
    pub fn answer(&self, index: usize, question: &Question) -> Option<Value> {
        let view = self.views[question.view].as_ref()?;
        match &question.asks {
            Asks::Row(key) => stored(view.fold.as_ref(), key).map(|row| question.narrow(&row)),
            Asks::List(list) => view.lists.get(&index).map(|rows| rows.page(list)),
        }
    }
}

/// The row as it is folded now.
fn stored(fold: &dyn Fold, key: &str) -> Option<Value> {
    let changes =
        fold.changes(&[key.to_owned()]).expect("rows that come from the domain can be written as JSON");
    changes.into_iter().find_map(|change| change.after)
}

impl Rows {
    /// Whether the list is another one now that this row has changed.
    fn change(&mut self, key: &str, row: Option<&Value>, question: &Question, list: &List) -> bool {
        let before = self.places.remove(key);
        let was_in = before.is_some();
        if let Some(place) = before {
            self.in_order.remove(&(place, key.to_owned()));
        }
        let Some(row) = row.filter(|row| list.has(key, row)) else { return was_in };
        let place = list.sort.as_ref().map_or(Place::Anywhere, |column| Place::of(row.get(column)));
        self.places.insert(key.to_owned(), place.clone());
        self.in_order.insert((place, key.to_owned()), question.narrow(row));
        true
    }

    /// The first page, but for the cursor itself: only whether there is one.
    fn page(&self, list: &List) -> Value {
        let items: Vec<&Value> = match list.descending {
            true => self.in_order.values().rev().take(list.limit).collect(),
            false => self.in_order.values().take(list.limit).collect(),
        };
        json!({"items": items, "next_cursor": self.in_order.len() > list.limit})
    }
}
