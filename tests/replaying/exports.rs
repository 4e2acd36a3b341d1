use super::*;

#[tokio::test]
async fn an_export_has_every_event_with_all_that_the_log_says_of_it() {
    let desk = Desk::with_events(60).await;
    desk.fine(&["export", "--out", "all", "--format", "jsonl"]).await;
    let events = exported(&desk.path("all"));
    assert_eq!(positions(&events), (1..=60).collect::<Vec<_>>());
    for raw in desk.raw().await {
        let event = &events[&raw["position"].as_str().unwrap().parse().unwrap()];
        assert_eq!((&event["event_type"], &event["aggregate_id"]), (&raw["type"], &raw["subject"]));
        assert_eq!(event["previous"].to_string(), raw["previous"].as_str().unwrap());
        assert_eq!(event["time"], raw["time"]);
        for (name, value) in raw["data"].as_object().unwrap() {
            match value {
                Value::Object(inner) => {
                    inner
                        .iter()
                        .for_each(|(field, value)| assert_eq!(&event[format!("{name}_{field}")], value));
                }
                value => assert_eq!(&event[name], value, "{raw}"),
            }
        }
    }
}

#[tokio::test]
async fn a_later_export_adds_what_is_new_and_changes_no_file() {
    let mut desk = Desk::with_events(30).await;
    let export = ["export", "--out", "all", "--format", "jsonl"];
    desk.fine(&export).await;
    let before = files(&desk.path("all"), "jsonl");
    assert!(desk.fine(&export).await.err.starts_with("0 events added"), "nothing is new");
    assert_eq!(files(&desk.path("all"), "jsonl"), before);
    desk.append_story(40).await;
    desk.fine(&export).await;
    assert!(files(&desk.path("all"), "jsonl").is_superset(&before));
    assert_eq!(positions(&exported(&desk.path("all"))), (1..=70).collect::<Vec<_>>());
}

#[tokio::test]
async fn files_are_cut_by_positions_within_frames_and_by_days() {
    let mut desk = Desk::with_events(40).await;
    desk.fine(&["export", "--out", "p", "--format", "jsonl", "--partition", "10"]).await;
    // Frames hold 7 events: every part but the first begins within one.
    let parts = files(&desk.path("p/order.placed"), "jsonl").len();
    assert_eq!((parts, positions(&exported(&desk.path("p")))), (4, (1..=40).collect()));

    let mut late = registered(41, 41, "late");
    late["time"] = json!("2026-01-02T00:00:00Z");
    desk.append(&[story(41), late].map(|mut event| {
        event["position"] = json!(if event["time"] == "2026-01-02T00:00:00Z" { "42" } else { "41" });
        event
    }))
    .await;
    desk.fine(&["export", "--out", "d", "--format", "jsonl", "--partition", "day"]).await;
    assert_eq!(positions(&exported(&desk.path("d/account.registered/day=2026-01-02"))), [42]);
    assert_eq!(positions(&exported(&desk.path("d"))), (1..=42).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_slice_is_what_was_asked_for() {
    let desk = Desk::with_events(60).await;
    let slice = async |name: &str, arguments: &[&str]| {
        desk.fine(&[&["export", "--out", name, "--format", "jsonl"], arguments].concat()).await;
        positions(&exported(&desk.path(name)))
    };
    assert_eq!(slice("a", &["--from", "11", "--before", "14"]).await, [11, 12, 13]);
    let times = ["--from", "2026-01-01T00:00:20Z", "--before", "2026-01-01T00:00:22Z"];
    assert_eq!(slice("b", &times).await, [20, 21]);
    assert_eq!(slice("c", &["--type", "account.closed"]).await, [10, 20, 30, 40, 50, 60]);
    let id = uuid::Uuid::from_u128(11).to_string();
    assert_eq!(slice("d", &["--id", &id, "--aggregate", "account"]).await, [11, 12, 14, 19, 20]);
    assert_eq!(slice("e", &["--max-rate", "1000", "--before", "3"]).await, [1, 2]);
}

#[tokio::test]
async fn personal_values_leave_the_log_only_as_masks_of_one_key() {
    let desk = Desk::with_events(20).await;
    let key = [("HEADWATER_MASK_KEY", "a key of more than 16 bytes")];
    let export = async |out: &str, arguments: &[&str], variables: &[(&str, &str)]| {
        let arguments = [&["export", "--format", "jsonl", "--out", out], arguments].concat();
        desk.run_with(&arguments, variables).await
    };
    assert_eq!(export("m", &["--mask", "personal"], &key).await.code, Some(0));
    let masked = exported(&desk.path("m"));
    let text = |events: &BTreeMap<u64, Value>| events.values().map(Value::to_string).collect::<String>();
    assert!(!text(&masked).contains("@example.org") && !text(&masked).contains("User 1"), "{masked:?}");
    // A field within a field is as personal, and numbers stay.
    assert_ne!(masked[&6]["reason"], "late");
    assert_eq!(
        (masked[&6]["reason"].clone(), masked[&3]["amount_cents"].clone()),
        (masked[&16]["reason"].clone(), json!(300))
    );
    // The view's masks are the same, so that they can be joined.
    let view = ["view", "accounts", "--as-of", "1", "--mask", "email", "--format", "jsonl"];
    let row: Value = serde_json::from_str(&desk.run_with(&view, &key).await.out).unwrap();
    assert_eq!((&row["email"], &row["username"]), (&masked[&1]["email"], &json!("user-1")));

    assert_eq!(export("d", &["--drop", "email,username"], &[]).await.code, Some(0));
    assert!(exported(&desk.path("d"))[&1].get("email").is_none());

    let other =
        export("m", &["--mask", "personal"], &[("HEADWATER_MASK_KEY", "another key of many bytes")]).await;
    assert!(other.code == Some(2) && other.err.contains("mask_key"), "{other:?}");
    for (arguments, words) in
        [(["--mask", "e-mail"], "no column `e-mail`"), (["--mask", "quantity"], "--drop quantity")]
    {
        let refused = export("x", &arguments, &key).await;
        assert!(refused.code == Some(2) && refused.err.contains(words), "{refused:?}");
    }
    let keyless = export("x", &["--mask", "email"], &[]).await;
    assert!(keyless.code == Some(2) && keyless.err.contains("--mask-key-file"), "{keyless:?}");
}
