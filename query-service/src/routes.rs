//! The HTTP side: reads the request, calls the reader, writes the answer.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header},
    response::{IntoResponse, Sse},
    routing::get,
};
use service_kit::{Problem, auth::Caller, trace};
use tokio::sync::Semaphore;

use crate::{
    cache::Entry,
    conditions,
    database::overloaded,
    freshness::{Freshness, LOG_POSITION},
    live::{self, Live},
    metrics::Metrics,
    openapi::{self, Keys},
    parameters::Parameters,
    plan::Plan,
    problems::{INVALID_VALUE, NO_SUCH_ROW},
    reader::{Answer, CacheStatus, Reader},
};

pub struct App {
    pub reader: Reader,
    pub metrics: Metrics,
    /// One permit a query under way.
    pub in_flight: Arc<Semaphore>,
    /// One permit an event stream.
    pub live: Arc<Semaphore>,
    /// Tokens are asked for.
    pub is_secured: bool,
}

pub fn routes(app: App) -> Router {
    Router::new()
        .merge(service_kit::openapi::page())
        .route(service_kit::openapi::PATH, get(document))
        .route("/", get(catalog))
        .route("/{view}", get(list))
        .route("/{view}/{key}", get(row))
        .with_state(Arc::new(app))
}

type Answered = Result<Response<Body>, Problem>;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

async fn catalog(State(app): State<Arc<App>>) -> Answered {
    Ok(Json(app.reader.catalog()?.describe()).into_response())
}

/// The document of the catalog as it is now. Its examples of keys are read like any query, and missing when
/// there is no room for that or no database, or where they would tell everybody what only some may read.
async fn document(State(app): State<Arc<App>>, caller: Caller) -> Answered {
    let catalog = app.reader.catalog()?;
    let keys = match app.in_flight.try_acquire() {
        Ok(_permit) => openapi::some_keys(&app.reader, &catalog, &caller).await,
        Err(_) => Keys::new(),
    };
    Ok(Json(openapi::document(&catalog, &keys, app.is_secured)).into_response())
}

async fn row(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    let Path((view, key)) = path.map_err(|_| unreadable_path())?;
    let reading = async {
        let freshness = Freshness::from_headers(&headers)?;
        let parameters = Parameters::parse(uri.query().unwrap_or_default())?;
        if live::is_asked_for(&headers) {
            let plan = {
                let (caller, key) = (caller.clone(), key.clone());
                Box::new(move |served| Plan::row(served, &caller, &key, &parameters))
            };
            return app.live(&view, plan, caller, &headers, freshness).await;
        }
        let answer = app
            .reader
            .answer(&view, freshness, |served| Plan::row(served, &caller, &key, &parameters))
            .await?;
        if answer.entry.body.is_none() {
            return Err(no_such_row(&view, &key, &answer));
        }
        Ok((respond(&headers, &answer), answer.cache))
    };
    app.bounded(&view, reading).await
}

async fn list(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    let Path(view) = path.map_err(|_| unreadable_path())?;
    let reading = async {
        let freshness = Freshness::from_headers(&headers)?;
        let parameters = Parameters::parse(uri.query().unwrap_or_default())?;
        if live::is_asked_for(&headers) {
            let plan = {
                let caller = caller.clone();
                Box::new(move |served| Plan::list(served, &caller, &parameters))
            };
            return app.live(&view, plan, caller, &headers, freshness).await;
        }
        let answer =
            app.reader.answer(&view, freshness, |served| Plan::list(served, &caller, &parameters)).await?;
        let mut response = respond(&headers, &answer);
        if let Some(cursor) = &answer.entry.next_cursor {
            // Relative to the request's own address, which may be behind a prefix.
            let next = format!("<?{}>; rel=\"next\"", parameters.with("cursor", cursor));
            let next = HeaderValue::from_str(&next).map_err(Problem::internal)?;
            response.headers_mut().insert(header::LINK, next);
        }
        Ok((response, answer.cache))
    };
    app.bounded(&view, reading).await
}

impl App {
    /// Runs a query if there is room for it, and measures it.
    async fn bounded(&self, view: &str, reading: impl Future<Output = Responded>) -> Answered {
        let arrived = Instant::now();
        let result = match self.in_flight.try_acquire() {
            Ok(_permit) => reading.await,
            Err(_) => Err(overloaded("As many queries are under way as this replica takes.")),
        };
        let view =
            self.reader.catalog().ok().and_then(|catalog| catalog.view(view).map(|view| view.name.clone()));
        if let Ok((_, cache)) = &result {
            trace::say("headwater.cache", cache.word());
        }
        self.metrics.answered(view, result.as_ref().map(|(_, cache)| *cache), arrived.elapsed());
        result.map(|(response, _)| response)
    }
}

type Responded = Result<(Response<Body>, CacheStatus), Problem>;

impl App {
    async fn live(
        &self,
        view: &str,
        plan: live::PlanAgain,
        caller: Caller,
        headers: &HeaderMap,
        freshness: Option<Freshness>,
    ) -> Responded {
        let place = self.live.clone().try_acquire_owned();
        let place = place.map_err(|_| overloaded("As many event streams are open as this replica takes."))?;
        let live = Live::begin(self.reader.clone(), view.to_owned(), plan, headers, freshness, place).await?;
        let cache = live.state().cache;
        let headers = described(live.state());
        Ok(((headers, Sse::new(live.events(caller))).into_response(), cache))
    }
}

/// The answer, or 304 if the client has it already.
fn respond(request: &HeaderMap, answer: &Answer) -> Response<Body> {
    if conditions::has_it(request, answer.entry.etag) {
        return (StatusCode::NOT_MODIFIED, described(answer)).into_response();
    }
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (json, described(answer), Bytes::from_owner(JsonBody(answer.entry.clone()))).into_response()
}

fn described(answer: &Answer) -> [(HeaderName, HeaderValue); 4] {
    let etag = answer.entry.etag.to_string();
    [
        (LOG_POSITION, HeaderValue::from(answer.position)),
        (CACHE_STATUS, cache_status(answer.cache)),
        // Whoever keeps an answer asks, with its ETag, whether it still holds.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, HeaderValue::from_str(&etag).expect("digits in quotes")),
    ]
}

/// The bytes of an entry, served without being copied.
struct JsonBody(Arc<Entry>);

impl AsRef<[u8]> for JsonBody {
    fn as_ref(&self) -> &[u8] {
        self.0.body.as_deref().unwrap_or_default()
    }
}

/// RFC 9211: what became of the query in the cache, and why it went on to the database if it did.
fn cache_status(status: CacheStatus) -> HeaderValue {
    HeaderValue::from_static(match status {
        CacheStatus::Hit => "headwater; hit",
        CacheStatus::Miss => "headwater; fwd=miss",
        CacheStatus::Stale => "headwater; fwd=stale",
        CacheStatus::Bypass => "headwater; fwd=bypass",
    })
}

fn no_such_row(view: &str, key: &str, answer: &Answer) -> Problem {
    let position = answer.position;
    Problem::new(NO_SUCH_ROW, format!("`{view}` has no row `{key}` at position {position}."))
        .header(LOG_POSITION, HeaderValue::from(position))
        .header(CACHE_STATUS, cache_status(answer.cache))
}

fn unreadable_path() -> Problem {
    Problem::new(INVALID_VALUE, "The path holds bytes that are not UTF-8.").field("path").accepted("UTF-8")
}
