//! One instance writes, the others forward to it and take its place.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use stack::servers::temporary_folder;
use uuid::Uuid;

use crate::{
    harness::{Place, Servers},
    instance::{Instance, writer},
};

/// Commands flow again within this time after the writer was killed.
const TAKEOVER_TIME_MAX: Duration = Duration::from_secs(3);
/// The same, after it was asked to leave.
const HANDOVER_TIME_MAX: Duration = Duration::from_secs(1);

async fn register(instance: &Instance) -> StatusCode {
    let id = Uuid::now_v7();
    let body = json!({"email": format!("{id}@example.org"), "username": id.simple().to_string()});
    let request = reqwest::Client::new().post(format!("{}/accounts/{id}/register", instance.url)).json(&body);
    request.send().await.unwrap().status()
}

/// How long it takes until an instance has accepted a command.
async fn until_accepted(instance: &Instance) -> Duration {
    let started = Instant::now();
    while register(instance).await != StatusCode::CREATED {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    started.elapsed()
}

#[tokio::test]
async fn another_instance_takes_over_from_one_that_was_killed_and_from_one_that_leaves() {
    let place = Place::new(Servers::shared().await).await;
    let folder = temporary_folder().unwrap();
    let mut instances = Vec::new();
    for name in ["a", "b", "c"] {
        instances.push(Instance::start(&place, &folder.path().join(name)).await);
    }
    for instance in &instances {
        assert_eq!(register(instance).await, StatusCode::CREATED);
    }
    let killed = instances.swap_remove(writer(&instances).await);
    killed.kill().await;
    let took = until_accepted(&instances[0]).await;
    assert!(took < TAKEOVER_TIME_MAX, "{took:?}");

    let left = instances.swap_remove(writer(&instances).await);
    left.stop().await;
    let took = until_accepted(&instances[0]).await;
    assert!(took < HANDOVER_TIME_MAX, "{took:?}");
    assert!(instances[0].said().contains("writing"), "{}", instances[0].said());
}
