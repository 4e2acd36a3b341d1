//! One connection, from its opening to its end.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderValue, Request, Response, header, request::Parts},
    response::IntoResponse,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use super::{
    is_the_frames, is_unlimited,
    limits::HttpArgs,
    server::Served,
    stall::{Stall, Stalled, StallingBody},
    stream::PatientStream,
    tls::Stream,
    turn::{Patience, ServiceTurn, Turn},
};
use crate::{
    Shutdown,
    auth::Caller,
    load::is_shed,
    problem::{
        Problem,
        kinds::{ANSWER_TIMEOUT, OVERLOADED},
    },
};

/// Answers the requests of one connection, until the client leaves or is too slow; after `shutdown`, only the
/// one that is under way.
pub async fn serve(stream: TcpStream, served: Served, limits: Arc<HttpArgs>, shutdown: Shutdown) {
    // Whoever has no address any more has gone already.
    let Ok(peer) = stream.peer_addr() else { return };
    // Small answers must not wait for an acknowledgement of the one before. Fails only if the client is gone.
    let _ = stream.set_nodelay(true);
    let stream = match &served.tls {
        None => Stream::Plain(stream),
        Some(tls) => match tls.accept(stream, limits.head_timeout()).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection was not encrypted");
                return;
            }
        },
    };
    let turn = Turn::opened();
    let hyper = limits.hyper();
    let mut patience = Patience::new(turn.clone(), &limits);
    let stall = Stall::after(limits.stall_timeout());
    let io = TokioIo::new(PatientStream::new(stream, turn.clone(), stall));
    let service = service_fn(|request| answer(&served, peer.ip(), request, turn.take(), &limits));
    let mut connection = pin!(hyper.serve_connection(io, service));
    // A token of its own, because each look at one takes its lock.
    let leaving = shutdown.child_token();
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = patience.ends() => {
            tracing::debug!("a connection was closed: no request has come in time");
            return;
        }
        () = leaving.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        tracing::debug!("a connection ended: {error}{}", cause.unwrap_or_default());
    }
}

async fn answer(
    served: &Served,
    peer: IpAddr,
    request: Request<Incoming>,
    turn: ServiceTurn,
    limits: &HttpArgs,
) -> Result<Response<AnswerBody>, Infallible> {
    let (head, body) = request.into_parts();
    let mut observed = served.observed.begin(&head);
    let mut answer = match limits.check_head(&head).and_then(|()| check_load(served, &head)) {
        Err(problem) => problem.into_response(),
        Ok(()) => {
            let load = served.load.as_ref().filter(|_| !is_the_frames(head.uri.path()));
            let body = Body::new(StallingBody::new(body, limits.stall_timeout()));
            let mut answering = pin!(answer_to(served, peer, Request::from_parts(head, body)));
            // Borrows what it polls: a future that is handed on by value is copied each time.
            let mut in_time = pin!(in_time(answering.as_mut(), limits));
            let in_time = observed.answering(in_time.as_mut());
            match load {
                Some(load) => load.measure(in_time).await,
                None => in_time.await,
            }
        }
    };
    if is_shed(&answer) {
        served.pace.hold().await;
    }
    served.observed.end(observed, &answer);
    if served.health.is_leaving() {
        // Else a client could send its next request in the moment in which the connection is closed.
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(answer.map(|body| AnswerBody { body, _turn: turn }))
}

/// Refuses a request that would only wait, and make others wait, with all the others.
fn check_load(served: &Served, head: &Parts) -> Result<(), Problem> {
    if !served.lateness.is_lasting() || is_unlimited(head.uri.path()) {
        return Ok(());
    }
    served.load.as_ref().inspect(|load| load.shed());
    Err(Problem::new(OVERLOADED, "There is more to answer than the processors can.").retry_after(1))
}

/// The answer of the routes to a caller that is known and has not sent too much, or why it is not.
async fn answer_to(
    served: &Served,
    peer: IpAddr,
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let (mut head, body) = request.into_parts();
    let caller = served.auth.caller(&head).await;
    if !is_unlimited(head.uri.path()) {
        let subject = caller.as_ref().ok().and_then(Caller::subject);
        if let Err(problem) = served.clients.count(subject, peer, &head.headers) {
            return Ok(problem.into_response());
        }
    }
    match caller {
        Ok(caller) => {
            head.extensions.insert(caller);
            served.router.clone().call(Request::from_parts(head, body)).await
        }
        Err(problem) => Ok(problem.into_response()),
    }
}

async fn in_time(
    mut answering: Pin<&mut impl Future<Output = Result<Response<Body>, Infallible>>>,
    limits: &HttpArgs,
) -> Response<Body> {
    let mut stall = Stall::after(limits.answer_timeout());
    let polling = poll_fn(|context| {
        let polled = answering.as_mut().poll(context);
        stall.watch(context, polled)
    });
    match polling.await {
        Ok(Ok(answer)) => answer,
        Err(Stalled) => too_late().into_response(),
    }
}

fn too_late() -> Problem {
    Problem::new(ANSWER_TIMEOUT, "The answer was not ready within the time that this service allows.")
        .retry_after(1)
}

/// An answer's body, with which the service's turn ends.
struct AnswerBody {
    body: Body,
    _turn: ServiceTurn,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
