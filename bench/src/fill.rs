//! A log with a long history, made without deciding anything.

use anyhow::Result;
use event_log::{Encoded, Envelope, EventLog, NewFrame};
use serde_json::value::RawValue;
use uuid::Uuid;

const EVENTS_PER_FRAME: usize = 1000;
const TYPE: &str = "account.registered";
const VERSION: u32 = 1;
/// Ours; a writer that comes later opens the next.
const TERM: u64 = 1;

/// Registers `count` new accounts, and returns their ids. The log must be empty.
pub async fn accounts(log: &EventLog, count: usize) -> Result<Vec<Uuid>> {
    log.ensure().await?;
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    let bytes_max = log.frame_bytes_max();
    let mut head = log.head().await?;
    let mut events = Encoded::default();
    for (index, id) in ids.iter().enumerate() {
        let (full, bytes) = (events.count(), events.bytes());
        let event = registered(log.namespace(), *id, index as u64 + 1)?;
        events.push(&event);
        // Room for the bracket at the end.
        if events.bytes() + 1 > bytes_max {
            events.truncate(full, bytes);
            head = log.append(&NewFrame::new(head, TERM, std::mem::take(&mut events)), head).await?;
            events.push(&event);
        }
        if events.count() == EVENTS_PER_FRAME as u64 || index + 1 == count {
            head = log.append(&NewFrame::new(head, TERM, std::mem::take(&mut events)), head).await?;
        }
    }
    Ok(ids)
}

fn registered(namespace: &str, id: Uuid, position: u64) -> Result<Envelope> {
    let name = id.simple();
    Ok(Envelope {
        specversion: Envelope::SPECVERSION.into(),
        id: position.to_string(),
        source: format!("/{namespace}"),
        r#type: TYPE.to_owned(),
        subject: id,
        time: jiff::Timestamp::now(),
        datacontenttype: Envelope::DATACONTENTTYPE.into(),
        dataschema: Envelope::schema(TYPE, VERSION),
        data: RawValue::from_string(format!(r#"{{"email":"{name}@example.org","username":"{name}"}}"#))?,
        position,
        previous: 0,
        idempotencykey: None,
        commandhash: None,
        correlationid: None,
        causationid: None,
        actor: None,
        traceparent: None,
    })
}
