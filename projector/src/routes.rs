//! What the projector serves beside health and metrics.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};

use crate::status::{Status, ViewReport};

pub fn routes(status: Arc<Status>) -> Router {
    Router::new().route("/views", get(views)).with_state(status)
}

async fn views(State(status): State<Arc<Status>>) -> Json<Vec<ViewReport>> {
    Json(status.report())
}
