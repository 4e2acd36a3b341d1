//! The window before a writer that answers as it is told.

use std::sync::Mutex;

use domain::Kind;

use super::*;
use crate::{http::request, permit::Permit, submission::Meta};

/// What the writer says to a line that was sent so often before: a refusal, or else it accepts.
type Script = fn(line: u64, times: usize) -> Option<Refusal>;

#[derive(Default)]
struct Writer {
    accepted: Vec<u64>,
    /// The lines in the order in which they were sent, again or for the first time.
    sent: Vec<u64>,
}

fn line(number: u64, key: Option<&str>) -> Result<Request, Problem> {
    let id = uuid::Uuid::from_u128(number.into());
    let close = Kind::Account.command("close", "{}").unwrap();
    Ok(request(Some(id), close, key.map(str::to_owned), None, Permit::Any, Meta::default()))
}

/// Sends ten lines to the writer: it says at once that its queue is full, and everything else later.
async fn ten_lines(key: Option<&str>, script: Script) -> (Writer, Vec<Answered>) {
    let writer = Arc::new(Mutex::new(Writer::default()));
    let decides = writer.clone();
    let submit = move |request: Request| {
        let mut writer = decides.lock().unwrap();
        let line = request.id.as_u128() as u64;
        let times = writer.sent.iter().filter(|sent| **sent == line).count();
        writer.sent.push(line);
        match script(line, times) {
            Some(Refusal::Overloaded) => ready(Err(Refusal::Overloaded)).boxed(),
            Some(refusal) => tokio::task::yield_now().map(|()| Err(refusal)).boxed(),
            None => {
                writer.accepted.push(line);
                let outcome = Outcome { revision: line, events: vec![], is_created: false };
                tokio::task::yield_now().map(|()| Ok(outcome)).boxed()
            }
        }
    };
    let mut window = Window::new(submit, Arc::new(Semaphore::new(100)));
    let (mut next, mut answers) = (1, Vec::new());
    loop {
        if next <= 10 && window.wants_more() {
            window.push(next, 1, line(next, key));
            next += 1;
        }
        if window.is_empty() {
            break;
        }
        let ControlFlow::Continue(answered) = window.step().await else { panic!("out of patience") };
        answers.extend(answered);
    }
    let writer = std::mem::take(&mut *writer.lock().unwrap());
    assert!(answers.iter().map(|answered| answered.line).eq(1..=10), "answered in order");
    assert_eq!(window.bytes, 0);
    (writer, answers)
}

fn failed(answers: &[Answered]) -> Vec<u64> {
    let failed =
        answers.iter().filter(|answered| answered.command.as_ref().is_ok_and(|(_, answer)| answer.is_err()));
    failed.map(|answered| answered.line).collect()
}

#[tokio::test]
async fn lines_are_sent_in_order_and_once() {
    let (writer, answers) = ten_lines(None, |_, _| None).await;
    assert!(writer.sent.iter().copied().eq(1..=10));
    assert_eq!(failed(&answers), [0; 0]);
}

#[tokio::test]
async fn no_line_overtakes_one_that_found_the_queue_full() {
    let (writer, answers) = ten_lines(None, |line, times| {
        (matches!(line, 3 | 4 | 7) && times < 2).then_some(Refusal::Overloaded)
    })
    .await;
    assert!(writer.accepted.iter().copied().eq(1..=10), "{:?}", writer.accepted);
    assert_eq!(failed(&answers), [0; 0]);
}

#[tokio::test]
async fn what_a_writer_left_undecided_is_sent_again_in_order() {
    for refusal in [Refusal::NoWriter, Refusal::LogUnavailable("full".into())] {
        let is_no_writer = matches!(refusal, Refusal::NoWriter);
        let script: Script = if is_no_writer {
            |line, times| (line >= 4 && times == 0).then_some(Refusal::NoWriter)
        } else {
            |line, times| (line >= 4 && times == 0).then_some(Refusal::LogUnavailable("full".into()))
        };
        let (writer, answers) = ten_lines(None, script).await;
        assert!(writer.accepted.iter().copied().eq(1..=10), "{:?}", writer.accepted);
        assert_eq!(failed(&answers), [0; 0]);
    }
}

#[tokio::test]
async fn a_line_that_was_rejected_for_want_of_an_earlier_one_is_sent_again() {
    let (writer, answers) = ten_lines(None, |line, times| match line {
        4 => (times == 0).then_some(Refusal::NoWriter),
        // Another writer rejected it before line 4 had come again.
        5 => (times == 0).then_some(Refusal::Rejected(domain::account::NOT_REGISTERED)),
        _ => None,
    })
    .await;
    assert_eq!(failed(&answers), [0; 0]);
    // What was accepted meanwhile is not sent again: without a key it would have a second effect.
    let mut accepted = writer.accepted;
    accepted.sort_unstable();
    assert!(accepted.iter().copied().eq(1..=10), "{accepted:?}");
}

#[tokio::test]
async fn a_rejection_stands_if_nothing_before_it_is_missing() {
    let script: Script = |line, _| (line == 5).then_some(Refusal::Rejected(domain::account::NOT_REGISTERED));
    let (writer, answers) = ten_lines(None, script).await;
    assert_eq!(failed(&answers), [5]);
    assert_eq!(writer.sent.len(), 10);
}

#[tokio::test]
async fn a_line_whose_outcome_is_unknown_is_sent_again_only_with_a_key() {
    let script: Script = |line, times| (line == 5 && times == 0).then_some(Refusal::OutcomeUnknown);
    let (_, answers) = ten_lines(None, script).await;
    assert_eq!(failed(&answers), [5]);
    let (_, answers) = ten_lines(Some("k"), script).await;
    assert_eq!(failed(&answers), [0; 0]);
}

#[tokio::test]
async fn a_line_without_a_key_whose_outcome_is_unknown_is_not_sent_again_with_those_before_it() {
    let script: Script = |line, times| match (line, times) {
        (4, 0) => Some(Refusal::NoWriter),
        (5, _) => Some(Refusal::OutcomeUnknown),
        _ => None,
    };
    let (writer, answers) = ten_lines(None, script).await;
    assert_eq!(failed(&answers), [5]);
    assert_eq!(writer.sent.iter().filter(|line| **line == 5).count(), 1);
}

#[tokio::test]
async fn a_line_that_may_have_had_its_effect_is_not_answered_as_one_without() {
    let times = Arc::new(Mutex::new(0));
    let counted = times.clone();
    let submit = move |_| {
        let mut times = counted.lock().unwrap();
        *times += 1;
        let refusal = if *times == 1 { Refusal::OutcomeUnknown } else { Refusal::NoWriter };
        ready(Err(refusal)).boxed()
    };
    let mut window = Window::new(submit, Arc::new(Semaphore::new(1)));
    window.push(1, 1, line(1, Some("k")));
    while *times.lock().unwrap() < 2 {
        let ControlFlow::Continue(_) = window.step().await else { panic!("out of patience") };
    }
    window.close();
    let ControlFlow::Continue(answers) = window.step().await else { panic!("out of patience") };
    let answer = &answers[0].command.as_ref().unwrap().1;
    assert!(matches!(answer, Err(Refusal::OutcomeUnknown)), "{answer:?}");
}

#[tokio::test]
async fn the_length_of_the_lines_under_way_is_bounded_as_their_number_is() {
    let mut window = Window::new(|_| futures::future::pending().boxed(), Arc::new(Semaphore::new(5000)));
    for (bytes, lines_max) in [(1, LINES_MAX), (64 * 1024, BYTES_MAX / (64 * 1024))] {
        window.sent.clear();
        window.bytes = 0;
        let mut lines = 0;
        while window.wants_more() {
            lines += 1;
            window.push(lines, bytes, line(lines, None));
            let ControlFlow::Continue(_) = window.step().await else { panic!("out of patience") };
        }
        assert_eq!(lines as usize, lines_max);
    }
}

#[tokio::test]
async fn a_closed_window_answers_what_it_has_not_sent() {
    let mut window = Window::new(|_| futures::future::pending().boxed(), Arc::new(Semaphore::new(1)));
    window.push(1, 1, line(1, None));
    window.close();
    let ControlFlow::Continue(answers) = window.step().await else { panic!("out of patience") };
    assert_eq!(failed(&answers), [1]);
    assert!(window.is_empty());
}
