//! The HTTP side: reads the request, calls the reader, writes the answer.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Response, Uri, header},
    response::IntoResponse,
    routing::get,
};
use service_kit::Problem;
use tokio::sync::Semaphore;

use crate::{
    database::overloaded,
    freshness::{Freshness, LOG_POSITION},
    metrics::Metrics,
    openapi::{self, Keys},
    parameters::Parameters,
    problems::{INVALID_VALUE, NO_SUCH_ROW},
    reader::{ListAnswer, Reader},
};

#[derive(Clone)]
pub struct App {
    pub reader: Reader,
    pub metrics: Metrics,
    /// One permit a query under way.
    pub in_flight: Arc<Semaphore>,
}

pub fn routes(app: App) -> Router {
    Router::new()
        .merge(service_kit::openapi::page())
        .route(service_kit::openapi::PATH, get(document))
        .route("/", get(catalog))
        .route("/{view}", get(list))
        .route("/{view}/{key}", get(row))
        .with_state(app)
}

type Answer = Result<Response<Body>, Problem>;

async fn catalog(State(app): State<App>) -> Answer {
    Ok(Json(app.reader.catalog()?.describe()).into_response())
}

/// The document of the catalog as it is now. Its examples of keys are read like any query, and missing when
/// there is no room for that or no database.
async fn document(State(app): State<App>) -> Answer {
    let catalog = app.reader.catalog()?;
    let keys = match app.in_flight.try_acquire() {
        Ok(_permit) => openapi::some_keys(&app.reader, &catalog).await,
        Err(_) => Keys::new(),
    };
    Ok(Json(openapi::document(&catalog, &keys)).into_response())
}

async fn row(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let Path((view, key)) = path.map_err(|_| unreadable_path())?;
    let reading = async {
        let freshness = Freshness::from_headers(&headers)?;
        let parameters = Parameters::parse(uri.query().unwrap_or_default())?;
        let answer = app.reader.row(&view, &key, &parameters, freshness).await?;
        match answer.item {
            Some(item) => Ok(json(answer.position, item)),
            None => Err(no_such_row(&view, &key, answer.position)),
        }
    };
    app.bounded(&view, reading).await
}

async fn list(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let Path(view) = path.map_err(|_| unreadable_path())?;
    let reading = async {
        let freshness = Freshness::from_headers(&headers)?;
        let parameters = Parameters::parse(uri.query().unwrap_or_default())?;
        let answer = app.reader.list(&view, &parameters, freshness).await?;
        page(&uri, &parameters, answer)
    };
    app.bounded(&view, reading).await
}

impl App {
    /// Runs a query if there is room for it, and measures it.
    async fn bounded(&self, view: &str, reading: impl Future<Output = Answer>) -> Answer {
        let arrived = Instant::now();
        let result = match self.in_flight.try_acquire() {
            Ok(_permit) => reading.await,
            Err(_) => Err(overloaded("As many queries are under way as this replica takes.")),
        };
        let view =
            self.reader.catalog().ok().and_then(|catalog| catalog.view(view).map(|view| view.name.clone()));
        self.metrics.answered(view, &result, arrived.elapsed());
        result
    }
}

fn page(uri: &Uri, parameters: &Parameters, answer: ListAnswer) -> Answer {
    let cursor = serde_json::json!(answer.next_cursor);
    let count = answer.count.map(|count| count.members()).unwrap_or_default();
    let mut response =
        json(answer.position, format!(r#"{{"items":[{}],"next_cursor":{cursor}{count}}}"#, answer.items));
    if let Some(cursor) = answer.next_cursor {
        let next = format!("<{}?{}>; rel=\"next\"", uri.path(), parameters.with("cursor", &cursor));
        let next = HeaderValue::from_str(&next).map_err(Problem::internal)?;
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

fn json(position: i64, body: String) -> Response<Body> {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (LOG_POSITION, HeaderValue::from(position)),
    ];
    (headers, body).into_response()
}

fn no_such_row(view: &str, key: &str, position: i64) -> Problem {
    Problem::new(NO_SUCH_ROW, format!("`{view}` has no row `{key}` at position {position}."))
        .header(LOG_POSITION, HeaderValue::from(position))
}

fn unreadable_path() -> Problem {
    Problem::new(INVALID_VALUE, "The path holds bytes that are not UTF-8.").field("path").accepted("UTF-8")
}
