//! `states/<aggregate>/<state version>.jsonl`: what events fold to, as it stands in stores, and the claims
//! that stores hold with it.

use domain::{Aggregate, tagged};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{files::Golden, schema::Schema};

#[derive(Deserialize, Serialize)]
struct Folded {
    events: Vec<Past>,
    state: Box<RawValue>,
    claims: Vec<(String, String)>,
}

#[derive(Deserialize, Serialize)]
struct Past {
    name: String,
    version: u32,
    data: Box<RawValue>,
}

/// Sequences of events that lead to every state.
type Histories<A> = fn() -> Vec<Vec<<A as Aggregate>::Event>>;

/// What is wrong with the golden states of an aggregate, or with its state, seen from them.
pub fn complaints<A: Aggregate>(golden: &Golden, histories: Histories<A>) -> Vec<String> {
    let file = format!("states/{}/{}.jsonl", A::NAME, A::STATE_VERSION);
    let schema = Schema::default();
    match check::<A>(golden, &file, histories, &schema) {
        Ok(()) => schema.gaps(),
        Err(complaint) => vec![complaint],
    }
}

fn check<A: Aggregate>(
    golden: &Golden,
    file: &str,
    histories: Histories<A>,
    schema: &Schema,
) -> Result<(), String> {
    for line in golden.lines(file, || histories().iter().map(|events| folded::<A>(events)).collect())? {
        let error = |error: &dyn std::fmt::Display| format!("{file}: {error}: {line}");
        let Folded { events, state, .. } = serde_json::from_str(&line).map_err(|e| error(&e))?;
        let events = events.iter().map(|past| A::UPCASTS.decode(&past.name, past.version, past.data.get()));
        let events = events.collect::<Result<Vec<_>, _>>().map_err(|e| error(&e))?;
        let stored: A = serde_json::from_str(state.get()).map_err(|e| error(&e))?;
        // Events of older versions stand in the file as they were; only what follows from them counts.
        let now = folded::<A>(&events);
        let (before, now) = (without_events(&line), without_events(&now));
        if before != now {
            return Err(error(&format!("the events now fold to {now}")));
        }
        if stored != fold(&events) {
            return Err(error(&"the state reads as another one"));
        }
        let value: serde_json::Value = serde_json::from_str(state.get()).map_err(|e| error(&e))?;
        schema.trace::<A>(A::NAME, &value).map_err(|e| error(&e))?;
    }
    Ok(())
}

fn folded<A: Aggregate>(events: &[A::Event]) -> String {
    let state: A = fold(events);
    let past = |event: &A::Event| {
        let (name, data) = tagged::encode(event);
        Past { version: A::UPCASTS.version(&name), name, data }
    };
    let claims = state.claims().into_iter().map(|claim| (claim.taken.code.to_owned(), claim.value));
    let state = serde_json::value::to_raw_value(&state).unwrap();
    let folded = Folded { events: events.iter().map(past).collect(), state, claims: claims.collect() };
    serde_json::to_string(&folded).unwrap()
}

fn fold<A: Aggregate>(events: &[A::Event]) -> A {
    events.iter().fold(A::default(), A::evolve)
}

fn without_events(line: &str) -> &str {
    line.rsplit_once("],\"state\":").map_or(line, |(_, rest)| rest)
}
