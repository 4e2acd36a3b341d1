//! The lines that go back: a result for each command, and at the end a summary; an answer without one was
//! cut off.

use serde::Serialize;
use service_kit::Problem;
use uuid::Uuid;

use crate::{
    http::answer::{Accepted, status},
    submission::Outcome,
};

#[derive(Serialize)]
struct Success<'a> {
    line: u64,
    status: u16,
    #[serde(flatten)]
    accepted: Accepted<'a>,
}

#[derive(Serialize)]
struct Failure<'a> {
    line: u64,
    #[serde(flatten)]
    problem: &'a Problem,
}

#[derive(Serialize)]
struct Summary<'a> {
    /// Every line of the request has its result.
    done: bool,
    #[serde(flatten)]
    tally: &'a Tally,
    #[serde(flatten)]
    problem: Option<&'a Problem>,
}

/// How many commands there were, and what came of them.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    commands: u64,
    accepted: u64,
    failed: u64,
}

impl Tally {
    pub fn accepted(&mut self, results: &mut Vec<u8>, line: u64, id: Uuid, outcome: &Outcome) {
        self.commands += 1;
        self.accepted += 1;
        let accepted = Accepted::new(id, outcome);
        append(results, &Success { line, status: status(outcome).as_u16(), accepted });
    }

    pub fn failed(&mut self, results: &mut Vec<u8>, line: u64, problem: &Problem) {
        self.commands += 1;
        self.failed += 1;
        append(results, &Failure { line, problem });
    }

    /// The last line; with the problem that left lines without a result.
    pub fn end(&self, results: &mut Vec<u8>, end: Result<(), Problem>) {
        append(results, &Summary { done: end.is_ok(), tally: self, problem: end.as_ref().err() });
    }
}

fn append(results: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *results, line).expect("results have string keys, and a Vec takes every byte");
    results.push(b'\n');
}
