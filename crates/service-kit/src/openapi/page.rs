//! `/docs`: a page to read and try the document, Swagger UI, all of it inside the program.

use std::sync::{Arc, LazyLock};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Path,
    http::{HeaderValue, Response, header},
    response::{IntoResponse, Redirect},
    routing::get,
};
use utoipa_swagger_ui::{Config, SwaggerFile};

use crate::{Problem, problem::kinds};

/// The page's own files are all that a browser may load for it; it can call this service alone.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// Where the page is.
pub const DOCS: &str = "/docs";

/// Seen from the page, so that it is also found behind a prefix.
const DOCUMENT: &str = "../openapi.json";

/// Without a list of models, which repeats what stands at the operations, and without the badge of a
/// validator elsewhere.
static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from(DOCUMENT).use_base_layout().validator_url("none");
    Arc::new(config.default_models_expand_depth(-1).display_request_duration(true).try_it_out_enabled(true))
});

/// The routes of the page.
pub fn page<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        // The page names its files relative to itself, and so does this, which may be behind a prefix.
        .route("/docs", get(async || Redirect::permanent("docs/")))
        .route("/docs/", get(async || file("")))
        .route("/docs/{*file}", get(async |Path(name): Path<String>| file(&name)))
}

fn file(name: &str) -> Result<Response<Body>, Problem> {
    match utoipa_swagger_ui::serve(name, CONFIG.clone()) {
        Ok(Some(file)) => Ok(response(file)),
        Ok(None) => Err(Problem::new(
            kinds::UNKNOWN_ROUTE,
            format!("There is no `{name}` in the page of the document."),
        )),
        Err(error) => Err(Problem::internal(error)),
    }
}

fn response(file: SwaggerFile<'_>) -> Response<Body> {
    let content_type = HeaderValue::from_str(&file.content_type);
    let mut response = Bytes::copy_from_slice(&file.bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("text/plain")));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    if file.gzpipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}
