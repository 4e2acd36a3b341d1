//! The part of UmaDB's protocol that appends (`umadb.v1`, umadb.proto), by hand: its own client needs `protoc` to be
//! built.

use anyhow::Result;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, Message)]
pub struct Event {
    #[prost(string, tag = "1")]
    pub event_type: String,
    #[prost(string, repeated, tag = "2")]
    pub tags: Vec<String>,
    #[prost(bytes = "vec", tag = "3")]
    pub data: Vec<u8>,
    #[prost(string, tag = "4")]
    pub uuid: String,
}

#[derive(Clone, PartialEq, Message)]
struct QueryItem {
    #[prost(string, repeated, tag = "1")]
    types: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    tags: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Query {
    #[prost(message, repeated, tag = "1")]
    items: Vec<QueryItem>,
}

#[derive(Clone, PartialEq, Message)]
struct AppendCondition {
    #[prost(message, optional, tag = "1")]
    fail_if_events_match: Option<Query>,
    #[prost(uint64, optional, tag = "2")]
    after: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct AppendRequest {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Event>,
    #[prost(message, optional, tag = "2")]
    condition: Option<AppendCondition>,
}

#[derive(Clone, PartialEq, Message)]
struct AppendResponse {
    #[prost(uint64, tag = "1")]
    position: u64,
}

/// Appends one event, unless there is one already that has one of its tags. Returns its position once it is durable.
pub async fn append_first(channel: &Channel, event: Event) -> Result<u64, Status> {
    let items = event.tags.iter().map(|tag| QueryItem { types: vec![], tags: vec![tag.clone()] }).collect();
    let condition = AppendCondition { fail_if_events_match: Some(Query { items }), after: None };
    let request = AppendRequest { events: vec![event], condition: Some(condition) };
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/umadb.v1.DCB/Append");
    let codec: ProstCodec<AppendRequest, AppendResponse> = ProstCodec::default();
    Ok(client.unary(Request::new(request), path, codec).await?.into_inner().position)
}
