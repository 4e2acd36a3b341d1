//! Forged histories: right ones pass, and each rule is broken once.

use domain::Kind;
use serde_json::{Value, json};

use super::*;

const ADA: Uuid = Uuid::from_u128(1);
const BOB: Uuid = Uuid::from_u128(2);

#[derive(Default)]
struct Forged {
    attempts: Vec<Attempt>,
    log: Vec<Envelope>,
}

/// When it was sent and when it was answered.
type Times = (u64, u64);

impl Forged {
    fn attempt(
        &mut self,
        (sent, answered): Times,
        id: Uuid,
        name: &str,
        fields: Value,
        answer: Answer,
    ) -> &mut Attempt {
        self.attempts.push(Attempt {
            correlation: self.attempts.len().to_string(),
            id,
            command: Kind::Account.command(name, &fields.to_string()).unwrap(),
            key: None,
            if_match: None,
            sent: Duration::from_millis(sent),
            answered: Some((Duration::from_millis(answered), answer)),
        });
        self.attempts.last_mut().unwrap()
    }

    /// A command that wrote an event at the log's end, and whose client was told so.
    fn wrote(&mut self, times: Times, id: Uuid, name: &str, event: &str, fields: Value) -> &mut Attempt {
        let position = self.log.len() as u64 + 1;
        let previous = self.log.iter().rfind(|envelope| envelope.subject == id);
        let previous = previous.map_or(0, |envelope| envelope.position);
        let envelope = json!({"specversion": "1.0", "id": position.to_string(), "source": "/test",
            "type": format!("account.{event}"), "subject": id, "time": "2026-01-01T00:00:00Z",
            "datacontenttype": "application/json", "dataschema": format!("urn:headwater:account.{event}:1"),
            "data": fields, "position": position.to_string(), "previous": previous.to_string(),
            "correlationid": self.attempts.len().to_string()});
        self.log.push(serde_json::from_value(envelope).unwrap());
        let answer = Answer::Accepted { revision: position, events: vec![format!("account.{event}")] };
        self.attempt(times, id, name, fields, answer)
    }

    fn registered(&mut self, times: Times, id: Uuid, name: &str) -> &mut Attempt {
        let fields = json!({"email": format!("{name}@example.org"), "username": name});
        self.wrote(times, id, "register", "registered", fields)
    }

    fn closed(&mut self, times: Times, id: Uuid) -> &mut Attempt {
        self.wrote(times, id, "close", "closed", json!({}))
    }

    fn renamed(&mut self, times: Times, id: Uuid, name: &str) -> &mut Attempt {
        self.wrote(times, id, "rename", "renamed", json!({"name": name}))
    }

    /// The same command under the same key as the one before, with the same answer.
    fn key(&mut self, key: &str) {
        self.attempts.last_mut().unwrap().key = Some(key.to_owned());
        let correlation = &self.attempts.last().unwrap().correlation;
        let caused = |envelope: &&mut Envelope| envelope.correlationid.as_ref() == Some(correlation);
        for envelope in self.log.iter_mut().filter(caused) {
            envelope.idempotencykey = Some(key.to_owned());
        }
    }

    fn is_right(&self) {
        let found = violations(&self.attempts, &self.log);
        assert!(found.is_empty(), "{found:#?}");
    }

    fn is_wrong(&self, because: &str) {
        let found = violations(&self.attempts, &self.log);
        assert!(found.iter().any(|violation| violation.contains(because)), "{found:#?}");
    }
}

fn rejected(code: &str) -> Answer {
    Answer::Rejected(code.to_owned())
}

#[test]
fn commands_one_after_the_other_are_right() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada");
    let taken = json!({"email": "ada@example.org", "username": "bob"});
    history.attempt((2, 3), BOB, "register", taken.clone(), rejected("email-taken"));
    history.closed((4, 5), ADA);
    let again = Answer::Accepted { revision: 2, events: vec!["account.closed".into()] };
    history.key("close");
    history.attempt((6, 7), ADA, "close", json!({}), again).key = Some("close".into());
    history.wrote((8, 9), BOB, "register", "registered", taken);
    history.attempt((9, 10), BOB, "rename", json!({"name": "Bob"}), Answer::WithoutEffect);
    history.attempt((10, 11), BOB, "close", json!({}), Answer::RevisionMismatch { actual: 3 }).if_match =
        Some(2);
    let nothing = Answer::Accepted { revision: 3, events: vec![] };
    history.attempt((12, 13), BOB, "change-username", json!({"username": "bob"}), nothing);
    history.is_right();
}

#[test]
fn commands_at_the_same_time_may_come_in_any_order() {
    let mut history = Forged::default();
    history.registered((0, 9), ADA, "ada");
    history.closed((0, 9), ADA);
    // Between the two, of which it knows nothing.
    let taken = json!({"email": "ada@example.org", "username": "bob"});
    history.attempt((0, 9), BOB, "register", taken, rejected("email-taken"));
    history.is_right();
}

#[test]
fn what_was_acknowledged_must_be_in_the_log() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada");
    history.renamed((2, 3), ADA, "Ada");
    history.log.pop();
    history.is_wrong("fits nowhere");
}

#[test]
fn what_had_certainly_no_effect_must_not_be_in_the_log() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada").answered = Some((Duration::from_millis(1), Answer::WithoutEffect));
    history.is_wrong("wrote [\"account.registered\"] at 1");
}

#[test]
fn what_nobody_asked_for_must_not_be_in_the_log() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada");
    history.attempts.clear();
    history.is_wrong("nobody sent");
}

#[test]
fn a_key_has_one_effect() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada");
    history.renamed((2, 3), ADA, "Ada");
    history.key("rename");
    history.renamed((4, 5), ADA, "Ada");
    history.key("rename");
    history.is_wrong("where the domain says Answers(Accepted { revision: 2");
}

#[test]
fn a_key_that_was_used_for_another_command_is_refused() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada");
    history.renamed((2, 3), ADA, "Ada");
    history.key("rename");
    history.attempt((4, 5), ADA, "rename", json!({"name": "Eve"}), Answer::KeyReused).key =
        Some("rename".into());
    history.is_right();
    history.attempt((6, 7), ADA, "rename", json!({"name": "Ada"}), Answer::KeyReused).key =
        Some("rename".into());
    history.is_wrong("fits nowhere");
}

#[test]
fn an_answer_from_an_old_state_is_noticed() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada");
    history.closed((2, 3), ADA);
    // Sent after the address was given up.
    let free = json!({"email": "ada@example.org", "username": "bob"});
    history.attempt((4, 5), BOB, "register", free, rejected("email-taken"));
    history.is_wrong("fits nowhere");
}

#[test]
fn a_revision_that_was_passed_before_is_noticed() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada");
    history.renamed((2, 3), ADA, "Ada");
    let mismatch = Answer::RevisionMismatch { actual: 1 };
    history.attempt((4, 5), ADA, "close", json!({}), mismatch).if_match = Some(7);
    history.is_wrong("fits nowhere");
}

#[test]
fn an_answer_from_the_future_is_noticed() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada");
    // Answered before the account was told to close.
    history.attempt((2, 3), ADA, "rename", json!({"name": "Ada"}), rejected("account-closed"));
    history.closed((4, 5), ADA);
    history.is_wrong("fits nowhere");
}

#[test]
fn answers_without_events_keep_to_real_time_among_themselves() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada");
    history.closed((2, 20), ADA);
    // The first has seen the account closed; the second, which was sent after it, has not.
    history.attempt((3, 4), ADA, "rename", json!({"name": "Ada"}), rejected("account-closed"));
    let nothing = Answer::Accepted { revision: 1, events: vec![] };
    history.attempt((5, 6), ADA, "change-username", json!({"username": "ada"}), nothing);
    history.is_wrong("fits nowhere");
}

#[test]
fn events_keep_to_real_time() {
    let mut history = Forged::default();
    history.registered((5, 6), ADA, "ada");
    // Answered before the other was sent, and after it in the log.
    history.registered((0, 1), BOB, "bob");
    history.is_wrong("before position 2, which was known when it was sent");
}

#[test]
fn an_event_must_follow_from_the_state_before_it() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada");
    let taken = json!({"email": "ada@example.org", "username": "bob"});
    history.wrote((2, 3), BOB, "register", "registered", taken);
    history.is_wrong("where the domain says Answers(Rejected(\"email-taken\"))");
}

#[test]
fn an_event_written_over_a_newer_revision_is_noticed() {
    let mut history = Forged::default();
    history.registered((0, 1), ADA, "ada");
    history.renamed((2, 3), ADA, "Ada");
    history.closed((4, 5), ADA).if_match = Some(1);
    history.is_wrong("where the domain says Answers(RevisionMismatch { actual: 2 })");
}

#[test]
fn an_answer_that_names_another_effect_is_noticed() {
    let mut history = Forged::default();
    let told = Answer::Accepted { revision: 2, events: vec!["account.registered".into()] };
    history.registered((0, 1), ADA, "ada").answered = Some((Duration::from_millis(1), told));
    history.is_wrong("wrote [\"account.registered\"] at 1");
}
