//! A log with a long past, made without deciding anything.

mod history;

use anyhow::Result;
use domain::account;
use domain::values::{Email, Username};
use event_log::{Encoded, Envelope, EventLog, Head, NewFrame};
use jiff::Timestamp;
use uuid::Uuid;

use history::History;

/// As a writer makes them when it has much to do.
pub const EVENTS_PER_FRAME: u64 = 1000;
/// Ours; a writer that comes later opens the next.
const TERM: u64 = 1;

/// Registers `count` new accounts, and returns their ids. The log must be empty.
pub async fn accounts(log: &EventLog, count: usize) -> Result<Vec<Uuid>> {
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    append(
        log,
        ids.iter().map(|id| Happening { id: *id, previous: 0, event: registered(*id) }),
        EVENTS_PER_FRAME,
    )
    .await?;
    Ok(ids)
}

/// Accounts that register, orders that they place, some of which are cancelled: `count` events, so many in each frame.
/// The log must be empty.
pub async fn history(log: &EventLog, count: u64, frame_events: u64) -> Result<()> {
    append(log, History::new(count), frame_events).await
}

/// An event before it is in the log.
#[derive(Debug)]
pub struct Happening {
    /// The aggregate's.
    id: Uuid,
    /// The position of the aggregate's event before this one; 0 for its first.
    previous: u64,
    event: domain::Event,
}

/// An account whose email address and username nobody else has.
fn registered(id: Uuid) -> domain::Event {
    let name = id.simple().to_string();
    let email = Email::parse(&format!("{name}@example.org")).expect("digits make a local part");
    let username = Username::parse(&name).expect("32 hexadecimal digits are as long as a username may be");
    domain::Event::Account(account::Event::Registered { email, username, name: None, region: None })
}

/// Appends what has happened to an empty log, from position 1 on, in frames of so many, or of as many as fit.
async fn append(
    log: &EventLog,
    happenings: impl Iterator<Item = Happening>,
    frame_events: u64,
) -> Result<()> {
    log.ensure().await?;
    let bytes_max = log.frame_bytes_max();
    let mut head = log.head().await?;
    let mut events = Encoded::default();
    let mut time = Timestamp::UNIX_EPOCH;
    for (position, happening) in (1..).zip(happenings) {
        // The clock may go back, the log may not.
        time = time.max(Timestamp::from_microsecond(Timestamp::now().as_microsecond())?);
        let event = envelope(log.namespace(), happening, position, time);
        let (full, bytes) = (events.count(), events.bytes());
        events.push(&event);
        // Room for the bracket at the end.
        if events.bytes() + 1 > bytes_max {
            events.truncate(full, bytes);
            head = append_frame(log, head, &mut events).await?;
            events.push(&event);
        }
        if events.count() == frame_events {
            head = append_frame(log, head, &mut events).await?;
        }
    }
    if events.count() > 0 {
        append_frame(log, head, &mut events).await?;
    }
    Ok(())
}

async fn append_frame(log: &EventLog, head: Head, events: &mut Encoded) -> Result<Head> {
    Ok(log.append(&NewFrame::new(head, TERM, std::mem::take(events)), head).await?)
}

fn envelope(namespace: &str, happening: Happening, position: u64, time: Timestamp) -> Envelope {
    let Happening { id, previous, event } = happening;
    let (event_type, data) = event.encode();
    Envelope {
        specversion: Envelope::SPECVERSION.into(),
        id: position.to_string(),
        source: format!("/{namespace}"),
        dataschema: Envelope::schema(&event_type, event.version()),
        r#type: event_type,
        subject: id,
        time,
        datacontenttype: Envelope::DATACONTENTTYPE.into(),
        data,
        position,
        previous,
        idempotencykey: None,
        commandhash: None,
        correlationid: None,
        causationid: None,
        actor: None,
        traceparent: None,
    }
}
