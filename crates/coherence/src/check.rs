//! Compares answers with the log.

use std::collections::HashMap;

use anyhow::Result;
use domain::{Recorded, UnreadableEvent};
use event_log::{Checkpoint, Envelope, EventLog};
use serde_json::{Value, json};

use crate::answers::{Answers, BodyId, Noted, Said};
use crate::past::Past;
use crate::place::is_same;
use crate::question::{Asks, Question};
use crate::verdict::{Fault, Verdict};

/// Compares all answers with the log as it is now.
pub async fn check(log: &EventLog, answers: &Answers) -> Result<Verdict> {
    let mut checker = Checker::new(answers);
    let mut follower = log.follow(Checkpoint::default());
    loop {
        let frames = follower.available().await?;
        if frames.is_empty() {
            return Ok(checker.finish());
        }
        for envelope in frames.iter().flat_map(|frame| &frame.events) {
            checker.event(&recorded(envelope)?);
        }
    }
}

fn recorded(envelope: &Envelope) -> Result<Recorded, UnreadableEvent> {
    let Envelope { position, time, subject, r#type, data, .. } = envelope;
    Recorded::read(*position, *time, *subject, r#type, envelope.version(), data.get())
}

/// Goes through the log once, from the first event to the last.
pub struct Checker<'a> {
    answers: &'a Answers,
    /// All answers by the position that they say, from the last to the first.
    to_check: Vec<u32>,
    past: Past,
    /// For each question, what was found about what was said since its answer changed.
    judged: Vec<HashMap<Said, bool>>,
    verdict: Verdict,
}

impl<'a> Checker<'a> {
    pub fn new(answers: &'a Answers) -> Self {
        let noted = &answers.noted;
        let mut to_check: Vec<u32> = (0..noted.len()).map(|index| index as u32).collect();
        to_check.sort_by_key(|index| std::cmp::Reverse(noted[*index as usize].position));
        let mut checker = Self {
            answers,
            to_check,
            past: Past::new(answers.questions.iter().map(|(_, question)| question)),
            judged: vec![HashMap::new(); answers.questions.len()],
            verdict: Verdict {
                answers: noted.len() as u64,
                bodies: answers.bodies.len(),
                ..Verdict::default()
            },
        };
        checker.check_order();
        checker
    }

    /// The next event of the log.
    pub fn event(&mut self, recorded: &Recorded) {
        self.check_until(recorded.position);
        let judged = &mut self.judged;
        self.past.apply(recorded, &self.answers.questions, |question| judged[question].clear());
        self.verdict.events = recorded.position;
    }

    /// There are no more events.
    pub fn finish(mut self) -> Verdict {
        self.check_until(self.verdict.events + 1);
        for index in std::mem::take(&mut self.to_check) {
            let noted = self.answers.noted[index as usize];
            self.fault(Fault::BeyondTheLog, noted, String::new);
        }
        self.verdict
    }

    /// What can be told without the log.
    fn check_order(&mut self) {
        let mut reached: HashMap<(u32, usize), u64> = HashMap::new();
        for noted in &self.answers.noted {
            if noted.position < noted.at_least {
                self.fault(Fault::OlderThanAskedFor, *noted, || format!("asked for {}", noted.at_least));
            }
            let reached = reached.entry((noted.client, self.question(*noted).view)).or_default();
            if noted.position < *reached {
                let before = *reached;
                self.fault(Fault::WentBack, *noted, || format!("client {} had {before}", noted.client));
            }
            *reached = noted.position.max(*reached);
        }
    }

    /// All answers that say a position before this one.
    fn check_until(&mut self, position: u64) {
        let noted = &self.answers.noted;
        while let Some(index) = self.to_check.pop_if(|index| noted[*index as usize].position < position) {
            self.check(noted[index as usize]);
        }
    }

    fn check(&mut self, noted: Noted) {
        let index = noted.question.0 as usize;
        if let Some(is_right) = self.judged[index].get(&noted.said) {
            if !is_right {
                self.fault(Fault::NotAsOfItsPosition, noted, || "as an answer before".to_owned());
            }
            return;
        }
        let right = self.past.answer(index, self.question(noted));
        let is_right = match noted.said {
            Said::Nonsense(status) => {
                return self.fault(Fault::Nonsense, noted, || format!("status {status}"));
            }
            Said::SameEtag(_) => {
                return self.fault(Fault::Nonsense, noted, || "one ETag for two answers".to_owned());
            }
            Said::NoSuchRow => right.is_none(),
            Said::Body(body) => match (&right, self.read(noted, body)) {
                (Some(right), Some(said)) => is_same(right, &said),
                _ => false,
            },
        };
        self.judged[index].insert(noted.said, is_right);
        if !is_right {
            let right = right.map_or("no such row".to_owned(), |right| right.to_string());
            self.fault(Fault::NotAsOfItsPosition, noted, || format!("right is {right}"));
        }
    }

    /// The body as [`Past::answer`] gives it.
    fn read(&self, noted: Noted, body: BodyId) -> Option<Value> {
        let mut body: Value = serde_json::from_slice(self.answers.bodies.get(body)).ok()?;
        if let Asks::List(_) = self.question(noted).asks {
            let cursor = body.get_mut("next_cursor")?;
            *cursor = json!(!cursor.is_null());
        }
        Some(body)
    }

    fn question(&self, noted: Noted) -> &'a Question {
        &self.answers.questions[noted.question.0 as usize].1
    }

    fn fault(&mut self, fault: Fault, noted: Noted, why: impl FnOnce() -> String) {
        let answers = self.answers;
        self.verdict.add(fault, || {
            let path = &answers.questions[noted.question.0 as usize].0;
            let said = match noted.said {
                Said::Body(body) | Said::SameEtag(body) => String::from_utf8_lossy(answers.bodies.get(body)),
                Said::NoSuchRow => "no such row".into(),
                Said::Nonsense(_) => "nothing".into(),
            };
            format!("{path} at {}: {said}; {}", noted.position, why())
        });
    }
}

#[cfg(test)]
mod tests {
    use domain::account::{Event as Account, Event::Renamed};
    use domain::values::{Email, Name, Username};
    use domain::{Event, Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::{Given, QuestionId};

    const ADA: Uuid = Uuid::from_u128(0xada);
    const BOB: Uuid = Uuid::from_u128(0xb0b);

    fn registered(name: &str) -> Account {
        let email = Email::parse(&format!("{name}@example.org")).unwrap();
        Account::Registered { email, username: Username::parse(name).unwrap(), name: None, region: None }
    }

    fn renamed(name: &str) -> Account {
        Renamed { name: Name::parse(name).unwrap() }
    }

    /// What happened to whom, from position 1 on, a second each.
    fn history() -> Vec<Recorded> {
        let events = [
            (ADA, registered("ada")),
            (BOB, registered("bob")),
            (ADA, renamed("Ada")),
            (BOB, renamed("Bob")),
            (ADA, Account::Closed {}),
        ];
        let recorded = |(index, (id, event))| {
            let position = index as u64 + 1;
            let time = Timestamp::from_micros(position as i64 * 1_000_000).unwrap();
            Recorded { position, time, id, event: Event::Account(event) }
        };
        events.into_iter().enumerate().map(recorded).collect()
    }

    fn verdict(answers: &Answers) -> Verdict {
        let mut checker = Checker::new(answers);
        history().iter().for_each(|recorded| checker.event(recorded));
        checker.finish()
    }

    fn faults(answers: &Answers) -> Vec<(Fault, u64)> {
        verdict(answers).faults.into_iter().collect()
    }

    fn ok(position: u64, body: &str) -> Given<'_> {
        Given { status: 200, position, etag: None, body: body.as_bytes() }
    }

    fn ask_for_ada(answers: &mut Answers) -> QuestionId {
        answers.ask(&format!("/accounts/{ADA}?fields=username,name")).unwrap()
    }

    const WITHOUT_NAME: &str = r#"{"username":"ada","name":null}"#;
    const WITH_NAME: &str = r#"{"username":"ada","name":"Ada"}"#;

    #[test]
    fn an_answer_is_right_as_long_as_nothing_touches_its_row() {
        let mut answers = Answers::default();
        let ada = ask_for_ada(&mut answers);
        let no_such_row = Given { status: 404, ..ok(0, "") };
        answers.note(ada, 1, 0, no_such_row);
        for (position, body) in [(1, WITHOUT_NAME), (2, WITHOUT_NAME), (3, WITH_NAME), (4, WITH_NAME)] {
            answers.note(ada, 1, 0, ok(position, body));
        }
        let verdict = verdict(&answers);
        assert!(verdict.is_clean(), "{verdict}");
        assert_eq!((verdict.answers, verdict.bodies, verdict.events), (5, 2, 5));
    }

    #[test]
    fn an_answer_that_is_older_than_it_says_is_found() {
        let mut answers = Answers::default();
        let ada = ask_for_ada(&mut answers);
        answers.note(ada, 1, 0, ok(3, WITHOUT_NAME));
        answers.note(ada, 1, 0, Given { status: 404, ..ok(4, "") });
        assert_eq!(faults(&answers), [(Fault::NotAsOfItsPosition, 2)]);
    }

    #[test]
    fn an_answer_that_is_newer_than_it_says_is_found() {
        let mut answers = Answers::default();
        let ada = ask_for_ada(&mut answers);
        answers.note(ada, 1, 0, ok(2, WITH_NAME));
        answers.note(ada, 1, 0, ok(9, WITH_NAME));
        assert_eq!(faults(&answers), [(Fault::NotAsOfItsPosition, 1), (Fault::BeyondTheLog, 1)]);
    }

    #[test]
    fn an_answer_of_another_row_is_found_each_time() {
        let mut answers = Answers::default();
        let ada = ask_for_ada(&mut answers);
        for _ in 0..3 {
            answers.note(ada, 1, 0, ok(4, r#"{"username":"bob","name":"Bob"}"#));
        }
        assert_eq!(faults(&answers), [(Fault::NotAsOfItsPosition, 3)]);
    }

    #[test]
    fn a_client_that_is_taken_back_in_time_is_found_and_another_client_is_not() {
        let mut answers = Answers::default();
        let ada = ask_for_ada(&mut answers);
        answers.note(ada, 1, 0, ok(2, WITHOUT_NAME));
        answers.note(ada, 2, 0, ok(1, WITHOUT_NAME));
        assert!(verdict(&answers).is_clean());
        answers.note(ada, 1, 0, ok(1, WITHOUT_NAME));
        assert_eq!(faults(&answers), [(Fault::WentBack, 1)]);
    }

    #[test]
    fn an_answer_from_before_what_was_asked_for_is_found() {
        let mut answers = Answers::default();
        let ada = ask_for_ada(&mut answers);
        answers.note(ada, 1, 2, ok(2, WITHOUT_NAME));
        answers.note(ada, 2, 2, ok(1, WITHOUT_NAME));
        assert_eq!(faults(&answers), [(Fault::OlderThanAskedFor, 1)]);
    }

    #[test]
    fn a_list_is_compared_in_its_order_and_with_its_end() {
        let mut answers = Answers::default();
        let newest = answers
            .ask("/accounts?status=active&sort=-created_at&limit=1&fields=username,created_at")
            .unwrap();
        let page = |name: &str, second: u64, cursor: &str| {
            format!(
                r#"{{"items":[{{"username":"{name}","created_at":"1970-01-01T00:00:0{second}+00:00"}}],"next_cursor":{cursor}}}"#
            )
        };
        answers.note(newest, 1, 0, ok(0, r#"{"items":[],"next_cursor":null}"#));
        answers.note(newest, 1, 0, ok(1, &page("ada", 1, "null")));
        answers.note(newest, 1, 0, ok(4, &page("bob", 2, r#""more""#)));
        answers.note(newest, 1, 0, ok(5, &page("bob", 2, "null")));
        let right = verdict(&answers);
        assert!(right.is_clean(), "{right}");

        answers.note(newest, 2, 0, ok(2, &page("ada", 1, r#""more""#)));
        answers.note(newest, 2, 0, ok(4, &page("bob", 2, "null")));
        assert_eq!(faults(&answers), [(Fault::NotAsOfItsPosition, 2)]);
    }

    #[test]
    fn not_modified_is_what_the_etag_stood_for() {
        let mut answers = Answers::default();
        let ada = ask_for_ada(&mut answers);
        answers.note(ada, 1, 0, Given { etag: Some("\"1\""), ..ok(1, WITHOUT_NAME) });
        answers.note(ada, 1, 0, Given { status: 304, etag: Some("\"1\""), ..ok(2, "") });
        assert!(verdict(&answers).is_clean());
        answers.note(ada, 1, 0, Given { status: 304, etag: Some("\"1\""), ..ok(3, "") });
        answers.note(ada, 1, 0, Given { status: 304, etag: Some("\"2\""), ..ok(3, "") });
        answers.note(ada, 1, 0, Given { etag: Some("\"1\""), ..ok(3, WITH_NAME) });
        assert_eq!(faults(&answers), [(Fault::NotAsOfItsPosition, 1), (Fault::Nonsense, 2)]);
    }
}
