//! `POST /commands`: many commands in one request, one JSON object a line, and one result a line back, in
//! order, while the request is still being sent. Only the lines under way are held in memory: who reads the
//! results slowly is read slowly.

mod command;
mod lines;
mod result;
mod window;

use std::{convert::Infallible, ops::ControlFlow, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures::{
    FutureExt as _, StreamExt as _,
    stream::{self, BoxStream},
};
use service_kit::{Problem, auth::Caller, problem::kinds};

use super::{App, answer, answer::problems, body, headers};
use crate::submission::Meta;
use lines::Lines;
use result::Tally;
use window::{Answered, Window};

pub const MEDIA_TYPES: [&str; 2] = ["application/x-ndjson", "application/jsonl"];
/// Results that are ready together go out together, up to about this size.
const CHUNK_BYTES: usize = 16 * 1024;
/// After the last line, what is still being sent is read and thrown away for so long: to close the connection
/// on a client that sends may take the last results from it.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);

pub async fn import(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check(&headers)?;
    let meta = headers::meta(&headers, &caller)?;
    let mut body = body.into_data_stream();
    // The answer begins once the first bytes have come, because `100 Continue` must go out before it.
    let first = body.next().await;
    let gateway = app.gateway.clone();
    let submit = move |request| {
        let gateway = gateway.clone();
        async move { gateway.submit_once(request).await }.boxed()
    };
    let import = Import {
        body: stream::iter(first).chain(body).boxed(),
        lines: Lines::default(),
        window: Window::new(submit, app.import_room.clone()),
        end: None,
        is_over: false,
        tally: Tally::default(),
        caller,
        meta,
        app,
    };
    let results = stream::unfold(import, async |mut import| {
        let results = import.results().await?;
        Some((Ok::<_, Infallible>(results), import))
    });
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPES[0])], Body::from_stream(results)).into_response())
}

/// What the request's own headers must and must not say.
fn check(headers: &HeaderMap) -> Result<(), Problem> {
    body::check_media_type(headers, |media_type| MEDIA_TYPES.contains(&media_type), &MEDIA_TYPES)?;
    for (name, member) in [(headers::IDEMPOTENCY_KEY, "idempotency_key"), (headers::IF_MATCH, "if_match")] {
        if headers.contains_key(name) {
            let detail = format!("The header `{name}` cannot speak for many commands.");
            let accepted = format!("the member `{member}` of each line");
            return Err(Problem::new(kinds::INVALID_HEADER, detail).field(name).accepted(accepted));
        }
    }
    Ok(())
}

/// An import under way. Its futures may be dropped at any point and made again.
struct Import {
    app: Arc<App>,
    body: BoxStream<'static, Result<Bytes, axum::Error>>,
    lines: Lines,
    window: Window,
    /// Set when no more lines are read; with a problem if there may be some.
    end: Option<Result<(), Problem>>,
    is_over: bool,
    tally: Tally,
    caller: Caller,
    /// What the request's headers say of each command whose line says nothing else.
    meta: Meta,
}

impl Import {
    /// The results that come next; none after the last.
    async fn results(&mut self) -> Option<Bytes> {
        if self.is_over {
            let rest = async { while self.body.next().await.is_some() {} };
            let _ = tokio::time::timeout(LINGER_TIME_MAX, rest).await;
            return None;
        }
        let mut results = Vec::new();
        while results.len() < CHUNK_BYTES && !self.is_over {
            let step = self.step();
            // Waits only if there is nothing to give yet.
            let step = if results.is_empty() { Some(step.await) } else { step.now_or_never() };
            let Some(answered) = step else { break };
            answered.into_iter().for_each(|answered| self.write(&mut results, answered));
            if self.window.is_empty()
                && let Some(end) = self.end.take()
            {
                self.tally.end(&mut results, end);
                self.is_over = true;
            }
        }
        Some(results.into())
    }

    /// Goes on by one step, of which answers may come.
    async fn step(&mut self) -> Vec<Answered> {
        let may_read = self.end.is_none() && self.window.wants_more();
        tokio::select! {
            biased;
            () = self.app.shutdown.cancelled(), if !self.window.is_closed() => {
                self.interrupt("The service is being stopped.");
            }
            () = self.caller.expired(), if !self.window.is_closed() => {
                self.interrupt("The token has expired.");
            }
            answered = self.window.step(), if !self.window.is_empty() => match answered {
                ControlFlow::Continue(answered) => return answered,
                ControlFlow::Break(reason) => self.interrupt(reason),
            },
            line = self.lines.next(&mut self.body), if may_read => match line {
                Ok(Some(line)) => self.window.push(line.number, line.bytes(), command::read(&line, &self.caller, &self.meta)),
                Ok(None) => self.end = Some(Ok(())),
                Err(_) => self.end = Some(Err(interrupted("The body ended too soon, or nothing of it came for too long."))),
            },
        }
        vec![]
    }

    /// Reads no more; what was read gets its results.
    fn interrupt(&mut self, reason: &str) {
        self.end.get_or_insert_with(|| Err(interrupted(reason)));
        self.window.close();
    }

    fn write(&mut self, results: &mut Vec<u8>, Answered { line, command, .. }: Answered) {
        let (request, answer) = match command {
            Ok(command) => command,
            Err(problem) => return self.tally.failed(results, line, &problem),
        };
        self.app.metrics.answered(request.command.kind().name(), answer::label(&answer));
        match answer {
            Ok(outcome) => self.tally.accepted(results, line, request.id, &outcome),
            Err(refusal) => self.tally.failed(results, line, &refusal.into()),
        }
    }
}

fn interrupted(reason: &str) -> Problem {
    let detail = format!("{reason} Send the import again; lines with an `idempotency_key` have one effect.");
    Problem::new(problems::IMPORT_INTERRUPTED, detail)
}
