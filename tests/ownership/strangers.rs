//! What one caller can tell of another's rows: nothing, whatever is in memory.

use reqwest::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::{Shop, Visitor};
use crate::harness::{Answer, until};

/// All that a client can see of an answer, but for the moment and the key that was asked for.
fn seen(answer: &Answer, key: &str) -> (StatusCode, String, Vec<(String, String)>) {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "date");
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (answer.status, answer.text.replace(key, "{key}"), headers.collect())
}

#[tokio::test]
async fn nobody_can_tell_somebody_elses_row_from_one_that_is_not_there() {
    let shop = Shop::open().await;
    let (ada, eve) = (shop.world.registered("ada").await, shop.world.registered("eve").await);
    let (_, position) = shop.order(eve, 1, "1997-01-01").await;
    let visitor = shop.owner(ada);
    let hit = "headwater; hit";
    let none = Uuid::now_v7().to_string();

    // Whether an answer has left the memory must not tell that the row has changed.
    let mut attempts = 0;
    until("signals are heard all the while", async || {
        attempts += 1;
        let (eves, position) = shop.order(eve, attempts, "1997-01-02").await;
        let paths =
            [&eves, &none].map(|key| [format!("/orders/{key}?fields=id"), format!("/orders?id={key}")]);
        let asks = async |path: &str| visitor.get_from(position, path).await;
        for (theirs, nobodys) in paths[0].iter().zip(&paths[1]) {
            for _ in 0..3 {
                let (theirs, nobodys) = (asks(theirs).await, asks(nobodys).await);
                // The first time, only the row that is not there may have been asked for before.
                if theirs.header("cache-status") == nobodys.header("cache-status") {
                    assert_eq!(seen(&theirs, &eves), seen(&nobodys, &none));
                }
            }
        }
        let position = shop.cancel(&eves).await;
        let mut is_heard = true;
        for (theirs, nobodys) in paths[0].iter().zip(&paths[1]) {
            let nobodys = visitor.get_from(position, nobodys).await;
            let theirs = visitor.get_from(position, theirs).await;
            is_heard &= nobodys.header("cache-status") == hit;
            if is_heard {
                assert_eq!(seen(&theirs, &eves), seen(&nobodys, &none));
            }
        }
        is_heard
    })
    .await;

    // Where the key itself is the owner, nothing is read at all.
    let (theirs, nobodys) = (format!("/accounts/{eve}"), format!("/accounts/{none}"));
    for headers in [[("If-None-Match", "*")], [("Min-Position", "1")]] {
        let ask = async |path: &str| {
            let call = headers.iter().fold(visitor.ask(path), |call, (name, value)| call.header(name, value));
            call.send().await
        };
        until("both are answered in the same state of the memory", async || {
            let (theirs, nobodys) = (ask(&theirs).await, ask(&nobodys).await);
            assert_eq!(theirs.problem(), (404, "no-such-row"));
            seen(&theirs, &eve.to_string()) == seen(&nobodys, &none)
        })
        .await;
    }
    let behind = visitor.ask(&theirs).header("Min-Position", position + 1_000).header("Prefer", "wait=0");
    assert_eq!(behind.send().await.problem(), (503, "view-behind"));
}

#[tokio::test]
async fn what_is_in_memory_for_one_caller_is_not_for_another() {
    let shop = Shop::open().await;
    let (ada, eve) = (shop.world.registered("ada").await, shop.world.registered("eve").await);
    let (eves, _) = shop.order(eve, 3, "1997-01-01").await;
    let (adas, position) = shop.order(ada, 1, "1997-01-02").await;
    let (visitor, other) = (shop.owner(ada), shop.owner(eve));
    let everybodys = shop.visitor("support", "orders:read:any accounts:read:any");
    let hit = async |visitor: &Visitor<'_>, path: &str| {
        let mut answer = None;
        until("the answer comes from memory", async || {
            answer = Some(visitor.get_from(position, path).await);
            answer.as_ref().unwrap().header("cache-status") == "headwater; hit"
        })
        .await;
        answer.unwrap()
    };
    let row = format!("/orders/{adas}?fields=amount_cents");
    for (first, second) in [(&visitor, &other), (&everybodys, &other)] {
        let mine = hit(first, &row).await;
        assert_eq!(mine.body, json!({"amount_cents": 1}));
        assert_eq!(second.get(&row).await.problem(), (404, "no-such-row"));
        // Nor does what the other has help.
        let with_tag = second.ask(&row).header("If-None-Match", mine.header("etag")).send().await;
        assert_eq!(with_tag.problem(), (404, "no-such-row"));
        assert_eq!(hit(first, &row).await.body, mine.body);
    }
    let accounts = format!("/accounts/{ada}?fields=username");
    assert_eq!(hit(&everybodys, &accounts).await.body, json!({"username": "ada"}));
    assert_eq!(hit(&visitor, &accounts).await.body, json!({"username": "ada"}));
    assert_eq!(other.get(&accounts).await.problem(), (404, "no-such-row"));

    for path in ["/orders?fields=amount_cents", &format!("/orders?fields=amount_cents&id={adas},{eves}")] {
        let cents = |answer: Answer| {
            let items = answer.body["items"].as_array().unwrap().iter();
            items.map(|item| item["amount_cents"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        for _ in 0..2 {
            assert_eq!(cents(hit(&visitor, path).await), [1], "{path}");
            assert_eq!(cents(hit(&other, path).await), [3], "{path}");
            assert_eq!(cents(hit(&everybodys, path).await).len(), 2, "{path}");
        }
    }
    // Their own changes are seen, and soon.
    let position = shop.cancel(&adas).await;
    let cancelled = visitor.get_from(position, &format!("/orders/{adas}?fields=status")).await;
    assert_eq!(cancelled.body, json!({"status": "cancelled"}));
    let list = visitor.get_from(position, "/orders?fields=status").await;
    assert_eq!(list.body["items"], json!([{"status": "cancelled"}]));
}
