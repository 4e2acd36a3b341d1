//! What was checked in one part of a history and forgotten still counts in the next.

use super::{
    Answer, History, Rule,
    forged::{ADA, BOB, Story, close, keyed, register, rejected, rename, unchanged},
};

/// A story, and how much of it was checked already.
#[derive(Default)]
struct Told {
    history: History,
    attempts: usize,
    events: usize,
}

impl Told {
    /// What has come of the story since.
    fn go_on(&mut self, story: &Story) -> Result<super::Checked, Vec<Rule>> {
        let attempts = story.attempts[self.attempts..].to_vec();
        let checked = self.history.go_on(attempts, &story.log[self.events..]);
        (self.attempts, self.events) = (story.attempts.len(), story.log.len());
        checked.map_err(|violations| violations.iter().map(|violation| violation.rule).collect())
    }
}

#[test]
fn what_is_decided_rests_on_what_was_checked_before() {
    let (mut told, mut story) = (Told::default(), Story::of_ada());
    story.done(keyed("k", rename(ADA, "Ada")), 20, 30);
    told.go_on(&story).unwrap();
    let again = Answer::Accepted { revision: 2, events: vec!["account.renamed".into()], is_created: false };
    story.answered(keyed("k", rename(ADA, "Ada")), 40, 50, again);
    story.answered(keyed("k", close(ADA)), 40, 50, Answer::KeyReused);
    story.answered(rename(ADA, "Ada"), 40, 50, unchanged(2));
    story.answered(register(BOB, "ada"), 40, 50, rejected("email-taken"));
    assert_eq!(told.go_on(&story).unwrap().explained.len(), 4);
    story.done(close(ADA), 60, 70);
    story.done(register(BOB, "ada"), 80, 90);
    told.go_on(&story).unwrap();
}

#[test]
fn an_answer_from_before_what_was_checked_is_found() {
    let (mut told, mut story) = (Told::default(), Story::of_ada());
    story.done(close(ADA), 20, 30);
    told.go_on(&story).unwrap();
    story.answered(register(BOB, "ada"), 40, 50, rejected("email-taken"));
    assert_eq!(told.go_on(&story).unwrap_err(), [Rule::Explained]);
}

#[test]
fn a_keys_second_effect_is_found_in_a_later_part() {
    let (mut told, mut story) = (Told::default(), Story::of_ada());
    story.done(keyed("k", rename(ADA, "Ada")), 20, 30);
    told.go_on(&story).unwrap();
    story.done(rename(ADA, "Lovelace"), 40, 50);
    story.attempts.last_mut().unwrap().key = Some("k".to_owned());
    story.log.last_mut().unwrap().idempotencykey = Some("k".to_owned());
    assert!(told.go_on(&story).unwrap_err().contains(&Rule::Once));
}

#[test]
fn what_was_not_answered_has_its_effect_in_the_next_part_or_never() {
    for parts_between in [0, 1] {
        let (mut told, mut story) = (Told::default(), Story::of_ada());
        story.sent(close(ADA), 20);
        told.go_on(&story).unwrap();
        for _ in 0..parts_between {
            told.go_on(&story).unwrap();
        }
        story.takes_effect();
        let checked = told.go_on(&story);
        match parts_between {
            0 => assert_eq!(checked.unwrap().unanswered_with_effect, 1),
            _ => assert!(checked.unwrap_err().contains(&Rule::Origin)),
        }
    }
}
