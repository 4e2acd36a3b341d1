//! The program that the README starts, as separate processes: it survives the death of each of them, stops
//! cleanly, and finds its data again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use event_log::EventLog;
use reqwest::StatusCode;
use serde_json::{Value, json};
use stack::servers::temporary_folder;
use uuid::Uuid;

use crate::{harness::until, stack_process::Stack};

/// Clients that register accounts and place orders, and send a command again until it is answered.
#[derive(Clone)]
struct Load {
    http: reqwest::Client,
    stack: Arc<Stack>,
    is_over: Arc<AtomicBool>,
    /// Position and aggregate of every command that was acknowledged.
    acknowledged: Arc<Mutex<Vec<(u64, Uuid)>>>,
}

impl Load {
    async fn run(self, client: usize) {
        for round in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let name = format!("c{client}-{round}");
            let account = Uuid::now_v7();
            let register = json!({"email": format!("{name}@example.org"), "username": name});
            self.send(&format!("/accounts/{account}/register"), account, register).await;
            let order = Uuid::now_v7();
            let place = json!({"account_id": account, "quantity": 1, "amount_cents": 100, "currency": "USD"});
            self.send(&format!("/orders/{order}/place"), order, place).await;
        }
    }

    /// Sends a command under one key until it is acknowledged.
    async fn send(&self, path: &str, id: Uuid, body: Value) {
        let key = Uuid::now_v7().to_string();
        let url = format!("{}{path}", self.stack.url("command"));
        loop {
            let request = self.http.post(&url).header("Idempotency-Key", &key).json(&body);
            match request.send().await {
                Ok(answer) if answer.status() == StatusCode::CREATED => {
                    let answer: Value = answer.json().await.unwrap();
                    let position = answer["position"].as_u64().unwrap();
                    self.acknowledged.lock().unwrap().push((position, id));
                    return;
                }
                Ok(answer) if matches!(answer.status().as_u16(), 503 | 504) => {}
                Ok(answer) => panic!("{} {}", answer.status(), answer.text().await.unwrap()),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_whichever_process_is_killed() {
    let stack = Arc::new(Stack::start(temporary_folder().unwrap()).await);
    let load = Load {
        http: reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap(),
        stack: stack.clone(),
        is_over: Default::default(),
        acknowledged: Default::default(),
    };
    let clients: Vec<_> = (0..4).map(|client| tokio::spawn(load.clone().run(client))).collect();
    for victim in ["projector-1", "query-service-1", "command-service-1", "nats-server", "postgres"] {
        let before = load.count();
        until("commands flow", async || load.count() > before + 20).await;
        stack.kill(victim).await;
        let after = load.count();
        until(&format!("commands flow after {victim} was killed"), async || load.count() > after + 20).await;
    }
    load.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }

    let nats = service_kit::nats::connect(&stack.url("nats"), "test").await.unwrap();
    let log = EventLog::new(nats, "headwater");
    let mut events = replay::Events::from_start(&log);
    let mut subjects = Vec::new();
    while let Some(event) = events.available().await.unwrap() {
        subjects.push(event.subject);
    }
    let acknowledged = load.acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() > 200);
    for (position, id) in &acknowledged {
        assert_eq!(subjects[*position as usize - 1], *id, "at position {position}");
    }
    assert_eq!(subjects.len(), acknowledged.len(), "every command had one effect");

    let last = subjects.len().to_string();
    until("the queries have caught up", async || {
        let url = format!("{}/accounts?limit=1", stack.url("query"));
        let answer = load.http.get(url).header("Min-Position", &last).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    })
    .await;
    until("every view has caught up", async || {
        let report = replay::verify(&log, &stack.url("postgres"), |_| ()).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        report.views.iter().all(|view| view.position == report.events)
    })
    .await;
    drop(load);
    Arc::into_inner(stack).unwrap().stop().await;
}

#[tokio::test]
async fn a_second_start_finds_the_data() {
    let stack = Stack::start(temporary_folder().unwrap()).await;
    let http = reqwest::Client::new();
    let register = http.post(format!("{}/accounts/register", stack.url("command")));
    let body = json!({"email": "ada@example.org", "username": "ada"});
    assert_eq!(register.json(&body).send().await.unwrap().status(), StatusCode::CREATED);
    let folder = stack.stop().await;

    let stack = Stack::start(folder).await;
    let found = http.get(format!("{}/accounts?email=ada@example.org&fields=username", stack.url("query")));
    let found = found.header("Min-Position", 1).send().await.unwrap().text().await.unwrap();
    assert!(found.contains(r#"[{"username":"ada"}]"#), "{found}");
    let taken =
        http.post(format!("{}/accounts/register", stack.url("command"))).json(&body).send().await.unwrap();
    assert_eq!(taken.status(), StatusCode::CONFLICT);
    stack.stop().await;
}
