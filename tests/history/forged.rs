//! The checker is checked: histories that are right pass, and each way of being wrong is found.

use std::time::Duration;

use domain::Kind;
use event_log::Envelope;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Answered, Attempt, Checker, Past, Rule, check, rules::Decision};

pub(super) const ADA: Uuid = Uuid::from_u128(1);
pub(super) const BOB: Uuid = Uuid::from_u128(2);
const ORDER: Uuid = Uuid::from_u128(3);

/// A history while it is being written. Times are in milliseconds.
#[derive(Default)]
pub(super) struct Story {
    pub attempts: Vec<Attempt>,
    pub log: Vec<Envelope>,
}

impl Story {
    /// Ada registers, from 0 to 10.
    pub fn of_ada() -> Self {
        let mut story = Self::default();
        story.done(register(ADA, "ada"), 0, 10);
        story
    }

    /// Sent and answered, without an effect.
    pub fn answered(&mut self, attempt: Attempt, sent: u64, answered: u64, answer: Answer) -> &mut Attempt {
        let answered = Answered { at: Duration::from_millis(answered), answer };
        self.sent(attempt, sent).answered = Some(answered);
        self.last()
    }

    /// Sent, never answered, and without an effect so far.
    pub fn sent(&mut self, attempt: Attempt, sent: u64) -> &mut Attempt {
        let id = Uuid::from_u128(100 + self.attempts.len() as u128);
        self.attempts.push(Attempt { id, sent: Duration::from_millis(sent), ..attempt });
        self.last()
    }

    /// Sent, decided by the rules on all that there is, and told so.
    pub fn done(&mut self, attempt: Attempt, sent: u64, answered: u64) -> &mut Attempt {
        self.sent(attempt, sent);
        let answer = self.takes_effect();
        self.last().answered = Some(Answered { at: Duration::from_millis(answered), answer });
        self.last()
    }

    /// What was sent last is decided and stands in the log.
    pub fn takes_effect(&mut self) -> Answer {
        let attempt = self.attempts.last().unwrap();
        let (past, _) = Past::fold(&self.log);
        let (address, position) = (attempt.address(), self.log.len() as u64);
        let (_, revision) = past.aggregate(address, position);
        let by_id = self.attempts.iter().map(|attempt| (attempt.id, attempt)).collect();
        let checker = Checker { past: &past, attempts: &self.attempts, by_id };
        let decision = checker.decide(attempt, position, domain::Timestamp::EARLIEST);
        let Decision::Events(events) = decision else { panic!("{decision:?}") };
        let (mut previous, mut types) = (revision, Vec::new());
        for event in events {
            let (event_type, data) = event.encode();
            let position = self.log.len() as u64 + 1;
            self.log.push(Envelope {
                specversion: Envelope::SPECVERSION.into(),
                id: position.to_string(),
                source: "/test".into(),
                r#type: event_type.clone(),
                subject: attempt.aggregate,
                time: domain::Timestamp::EARLIEST.into(),
                datacontenttype: Envelope::DATACONTENTTYPE.into(),
                dataschema: Envelope::schema(&event_type, event.version()),
                data,
                position,
                previous,
                idempotencykey: attempt.key.clone(),
                commandhash: None,
                correlationid: Some(attempt.id.to_string()),
                causationid: None,
                actor: None,
                traceparent: None,
            });
            previous = position;
            types.push(event_type);
        }
        Answer::Accepted { revision: previous, events: types, is_created: revision == 0 }
    }

    fn last(&mut self) -> &mut Attempt {
        self.attempts.last_mut().unwrap()
    }

    fn is_right(&self) {
        let checked = check(&self.attempts, &self.log);
        assert!(checked.is_ok(), "{checked:#?}");
    }

    fn breaks(&self, rule: Rule) {
        let violations = check(&self.attempts, &self.log).unwrap_err();
        let rules: Vec<Rule> = violations.iter().map(|violation| violation.rule).collect();
        assert!(rules.contains(&rule), "{violations:#?}");
    }
}

fn attempt(kind: Kind, aggregate: Uuid, name: &str, fields: Value) -> Attempt {
    let command = kind.command(name, &fields.to_string()).unwrap();
    let (id, sent) = (Uuid::nil(), Duration::ZERO);
    Attempt { id, aggregate, command, key: None, if_match: None, sent, answered: None }
}

/// Registers with an email address and a username of this name.
pub(super) fn register(account: Uuid, name: &str) -> Attempt {
    let fields = json!({"email": format!("{name}@example.org"), "username": name});
    attempt(Kind::Account, account, "register", fields)
}

pub(super) fn rename(account: Uuid, name: &str) -> Attempt {
    attempt(Kind::Account, account, "rename", json!({"name": name}))
}

pub(super) fn close(account: Uuid) -> Attempt {
    attempt(Kind::Account, account, "close", json!({}))
}

fn place(account: Uuid) -> Attempt {
    let fields = json!({"account_id": account, "quantity": 1, "amount_cents": 1, "currency": "USD"});
    attempt(Kind::Order, ORDER, "place", fields)
}

pub(super) fn keyed(key: &str, attempt: Attempt) -> Attempt {
    Attempt { key: Some(key.to_owned()), ..attempt }
}

fn if_match(revision: u64, attempt: Attempt) -> Attempt {
    Attempt { if_match: Some(revision), ..attempt }
}

pub(super) fn rejected(code: &str) -> Answer {
    Answer::Rejected(code.to_owned())
}

pub(super) fn unchanged(revision: u64) -> Answer {
    Answer::Accepted { revision, events: vec![], is_created: false }
}

#[test]
fn commands_one_after_the_other_are_right() {
    let mut story = Story::of_ada();
    story.answered(register(BOB, "ada"), 20, 30, rejected("email-taken"));
    story.answered(if_match(7, close(ADA)), 20, 30, Answer::RevisionMismatch { actual: 1 });
    story.done(keyed("k", rename(ADA, "Ada")), 40, 50);
    story.answered(rename(ADA, "Ada"), 60, 70, unchanged(2));
    let again = Answer::Accepted { revision: 2, events: vec!["account.renamed".into()], is_created: false };
    story.answered(keyed("k", rename(ADA, "Ada")), 60, 70, again);
    story.answered(keyed("k", close(ADA)), 60, 70, Answer::KeyReused);
    story.done(place(ADA), 80, 90);
    story.answered(keyed("c", close(ADA)), 90, 95, Answer::WithoutEffect);
    story.done(keyed("c", close(ADA)), 100, 110);
    story.done(register(BOB, "ada"), 120, 130);
    story.is_right();
}

#[test]
fn commands_at_the_same_time_may_have_come_in_either_order() {
    for answer in [rejected("email-taken"), rejected("account-not-registered")] {
        let mut story = Story::of_ada();
        story.done(close(ADA), 20, 60);
        let attempt = match &answer {
            Answer::Rejected(code) if code == "email-taken" => register(BOB, "ada"),
            _ => close(BOB),
        };
        story.answered(attempt, 30, 70, answer);
        story.is_right();
    }
}

#[test]
fn what_was_never_answered_may_have_had_its_effect_late_or_not_at_all() {
    let mut story = Story::of_ada();
    story.sent(rename(ADA, "Nobody"), 15);
    story.sent(keyed("k", close(ADA)), 20);
    story.is_right();
    story.takes_effect();
    story.done(register(BOB, "ada"), 900, 910);
    story.is_right();
}

#[test]
fn an_acknowledged_event_that_is_lost_is_found() {
    let mut story = Story::of_ada();
    story.done(rename(ADA, "Ada"), 20, 30);
    story.log.pop();
    story.breaks(Rule::Kept);
}

#[test]
fn an_event_in_the_middle_that_is_lost_is_found() {
    let mut story = Story::of_ada();
    story.done(rename(ADA, "Ada"), 20, 30);
    story.done(close(ADA), 40, 50);
    story.log.remove(1);
    story.breaks(Rule::Chain);
    story.log[1].position = 2;
    story.breaks(Rule::Chain);
}

#[test]
fn an_effect_of_nobody_is_found() {
    let mut story = Story::of_ada();
    story.done(rename(ADA, "Ada"), 20, 30);
    story.attempts.pop();
    story.breaks(Rule::Origin);
}

#[test]
fn a_key_that_is_effective_twice_is_found() {
    let mut story = Story::of_ada();
    story.done(keyed("k", rename(ADA, "Ada")), 20, 30);
    story.done(rename(ADA, "Lovelace"), 40, 50).key = Some("k".into());
    story.log[2].idempotencykey = Some("k".into());
    story.breaks(Rule::Once);
}

#[test]
fn an_attempt_that_is_effective_twice_is_found() {
    let mut story = Story::of_ada();
    let attempt = story.done(rename(ADA, "Ada"), 20, 30).id;
    story.done(rename(ADA, "Lovelace"), 40, 50);
    story.done(rename(ADA, "Ada"), 60, 70);
    story.attempts.pop();
    story.log[3].correlationid = Some(attempt.to_string());
    story.breaks(Rule::Once);
}

#[test]
fn an_effect_of_a_command_that_was_told_it_had_none_is_found() {
    for answer in [Answer::WithoutEffect, rejected("email-taken"), unchanged(1), Answer::KeyReused] {
        let mut story = Story::of_ada();
        story.done(rename(ADA, "Ada"), 20, 30).answered.as_mut().unwrap().answer = answer;
        story.breaks(Rule::Told);
    }
}

#[test]
fn an_acknowledgement_of_other_events_or_another_place_is_found() {
    for (revision, event) in [(2, "account.closed"), (3, "account.renamed")] {
        let mut story = Story::of_ada();
        let answered = story.done(rename(ADA, "Ada"), 20, 30).answered.as_mut().unwrap();
        answered.answer = Answer::Accepted { revision, events: vec![event.into()], is_created: false };
        story.breaks(Rule::Told);
    }
}

#[test]
fn an_event_that_the_rules_do_not_give_is_found() {
    let mut story = Story::of_ada();
    story.done(rename(ADA, "Ada"), 20, 30);
    story.last().command = close(ADA).command;
    story.breaks(Rule::Decided);
}

#[test]
fn an_effect_in_spite_of_a_taken_claim_a_closed_account_or_another_revision_is_found() {
    // Each is right at first, and made wrong by what then comes before it.
    let mut taken = Story::default();
    taken.done(register(BOB, "bob"), 20, 30);
    taken.done(register(ADA, "ada"), 20, 30).command = register(ADA, "bob").command;
    let (_, data) = register(ADA, "bob").command.encode();
    taken.log[1].data = data;
    taken.breaks(Rule::Decided);

    let mut closed = Story::of_ada();
    closed.done(place(ADA), 20, 60);
    closed.done(close(ADA), 20, 60);
    closed.is_right();
    swap(&mut closed.log, 1, 2);
    closed.attempts.iter_mut().skip(1).for_each(|attempt| attempt.answered = None);
    closed.breaks(Rule::Decided);

    let mut moved_on = Story::of_ada();
    moved_on.done(if_match(1, rename(ADA, "Ada")), 20, 30).if_match = Some(0);
    moved_on.breaks(Rule::Decided);
}

#[test]
fn a_refusal_from_before_what_was_acknowledged_is_found() {
    let mut story = Story::of_ada();
    story.done(close(ADA), 20, 30);
    story.answered(register(BOB, "ada"), 40, 50, rejected("email-taken"));
    story.breaks(Rule::Explained);
}

#[test]
fn a_refusal_because_of_what_was_sent_later_is_found() {
    let mut story = Story::default();
    story.answered(register(BOB, "ada"), 0, 10, rejected("email-taken"));
    story.done(register(ADA, "ada"), 20, 30);
    story.breaks(Rule::Explained);
}

#[test]
fn an_old_revision_after_a_newer_one_was_acknowledged_is_found() {
    let mut story = Story::of_ada();
    story.done(rename(ADA, "Ada"), 20, 30);
    story.answered(if_match(2, close(ADA)), 40, 50, Answer::RevisionMismatch { actual: 1 });
    story.breaks(Rule::Explained);
}

#[test]
fn an_answer_from_an_old_state_is_found() {
    let mut story = Story::of_ada();
    story.done(rename(ADA, "Ada"), 20, 30);
    story.done(rename(ADA, "Lovelace"), 40, 50);
    story.answered(rename(ADA, "Ada"), 60, 70, unchanged(2));
    story.breaks(Rule::Explained);
}

#[test]
fn answers_without_an_effect_that_contradict_each_others_order_are_found() {
    let closing = |answers: [(u64, u64, Answer); 2]| {
        let mut story = Story::of_ada();
        story.done(close(ADA), 20, 900);
        for (sent, answered, answer) in answers {
            let attempt =
                if answer == rejected("account-closed") { rename(ADA, "A") } else { register(BOB, "ada") };
            story.answered(attempt, sent, answered, answer);
        }
        story
    };
    let (open, closed) = (|| rejected("email-taken"), || rejected("account-closed"));
    closing([(30, 40, open()), (50, 60, closed())]).is_right();
    closing([(30, 60, closed()), (50, 70, open())]).is_right();
    closing([(30, 40, closed()), (50, 60, open())]).breaks(Rule::Explained);
}

#[test]
fn a_repeat_before_the_first_is_found() {
    let mut story = Story::of_ada();
    let renamed = Answer::Accepted { revision: 2, events: vec!["account.renamed".into()], is_created: false };
    story.answered(keyed("k", rename(ADA, "Ada")), 20, 30, renamed);
    story.done(keyed("k", rename(ADA, "Ada")), 40, 50);
    story.breaks(Rule::Explained);
}

#[test]
fn effects_against_the_order_of_time_are_found() {
    let mut story = Story::default();
    story.done(register(ADA, "ada"), 40, 50);
    story.done(register(BOB, "bob"), 20, 30);
    story.breaks(Rule::RealTime);
    // At the same time they may come in either order.
    story.attempts[0].sent = Duration::from_millis(25);
    story.is_right();
}

/// Lets two events of different aggregates change places.
fn swap(log: &mut [Envelope], one: usize, other: usize) {
    log.swap(one, other);
    let position = log[one].position;
    log[one].position = log[other].position;
    log[other].position = position;
}
