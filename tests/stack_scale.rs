//! A stack of several regions is scaled while clients use it, by the command that the README shows.

use event_log::EventLog;
use stack::servers::temporary_folder;

use crate::{edge::Clients, harness::until, stack_process::Stack};

const BOTH: [&str; 2] = ["query-service-1", "query-service-2"];

#[tokio::test]
async fn a_stack_grows_and_shrinks_and_no_client_notices() {
    let arguments = ["--regions", "eu,us", "--nats-nodes", "3"];
    let stack = Stack::start_with(temporary_folder().unwrap(), &arguments).await;
    let edge = stack.url("query").strip_suffix("/queries").unwrap().to_owned();
    // They say nothing of where they are, so the first region serves them.
    let clients = Clients::start(&edge, 4, 1).await;
    clients.until_served_by(&BOTH[..1], 20).await;
    assert_eq!(clients.tally().served_by(BOTH[1]), 0);

    let said =
        stack.ask("scale", &["query.eu=3", "command=2", "projector=2", "task-worker=2"]).await.unwrap();
    for started in ["query-service-3", "query-service-4", "command-service-2", "projector-2", "task-worker-2"]
    {
        assert!(said.contains(started), "{said}");
    }
    clients.until_served_by(&["query-service-1", "query-service-3", "query-service-4"], 20).await;
    let table = stack.ask("status", &[]).await.unwrap();
    for (name, region, health) in [
        ("edge", "eu", "ready"),
        ("command-service-1", "eu", "writer"),
        ("command-service-2", "eu", "ready"),
        ("query-service-2", "us", "ready"),
        ("query-service-4", "eu", "ready"),
        ("nats-server-3", "eu", "ready"),
        ("postgres-standby-2", "us", "ready"),
    ] {
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(name));
        let cells: Vec<&str> =
            row.unwrap_or_else(|| panic!("no {name} in {table}")).split_whitespace().collect();
        assert_eq!((cells[1], cells[4]), (region, health), "{table}");
        if name == "postgres-standby-2" {
            assert!(cells[5].parse::<u64>().unwrap() > 0 && cells[6].parse::<u64>().is_ok(), "{table}");
        }
    }

    // Whoever is left is the first of its region.
    stack.ask("scale", &["query=2", "command=1", "projector=1"]).await.unwrap();
    let pids = stack.pids();
    assert!(
        BOTH.iter().all(|name| pids.contains_key(*name)) && !pids.contains_key("query-service-3"),
        "{pids:?}"
    );
    let before = clients.tally();
    clients.until_served_by(&BOTH[..1], 50).await;
    assert_eq!(clients.tally().served_since(&before, "query-service-3"), 0);
    let tally = clients.stop().await;
    println!("a stack grows and shrinks: {tally}");
    tally.is_flawless();

    let refused = stack.ask("scale", &["query.asia=1"]).await.unwrap_err();
    assert!(refused.contains("the regions are eu, us"), "{refused}");
    let nats = service_kit::nats::connect(&stack.url("nats"), "test").await.unwrap();
    let log = EventLog::new(nats, "headwater");
    until("every view is what the log folds to", async || {
        let report = replay::verify(&log, &stack.url("postgres"), |_| ()).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        report.views.iter().all(|view| view.position == report.events)
    })
    .await;
    stack.stop().await;
}
