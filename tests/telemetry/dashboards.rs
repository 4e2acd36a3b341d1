//! Dashboard and alerts ask for what the services measure.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    harness::{Served, World, until},
    tasks::started,
};

/// The names of metrics in a file under `deploy/dashboards`.
fn asked(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/dashboards").join(file);
    let text = fs::read_to_string(path).unwrap();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("headwater_") || word.starts_with("http_server_"));
    ours.map(str::to_owned).collect()
}

async fn measured(service: &impl Served) -> BTreeSet<String> {
    let text = reqwest::get(format!("{}/metrics", service.url())).await.unwrap().text().await.unwrap();
    let names =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next());
    names.map(str::to_owned).collect()
}

// In one thread the services would be so busy that tasks are held back.
#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_is_asked_for_is_measured() {
    let world = World::start().await;
    let worker = started(&world, &["--mail", "null:"]).await;
    world.registered("ada").await;
    world.get("/accounts?limit=1").header("Min-Position", 1).send().await;
    let asked: BTreeSet<String> = ["headwater.json", "alerts.yaml"].into_iter().flat_map(asked).collect();
    assert!(asked.len() > 20, "{asked:?}");
    let mut known = BTreeSet::new();
    until("all that is asked for is measured", async || {
        let mut missing = asked.clone();
        for service in [&world.commands, &world.queries, &world.projector, &worker] {
            let measured = measured(service).await;
            missing.retain(|name| !measured.contains(name));
        }
        if missing != known {
            eprintln!("nobody measures {missing:?}");
        }
        known = missing;
        known.is_empty()
    })
    .await;
}
