//! Looking at events.

use std::io::Write;

use anyhow::Result;
use domain::Kind;
use event_log::{Envelope, Target};
use replay::{
    Events, Source, output,
    table::{Table, bytes},
};
use uuid::Uuid;

use super::{Outcome, Which, progress};

pub async fn streams(source: &Source, json: bool) -> Result<Outcome> {
    let progress = progress::of(source).await?;
    let streams = replay::streams(source, |position| progress.set_position(position)).await?;
    progress.finish_and_clear();
    let mut out = output::lines();
    if json {
        for stream in &streams {
            writeln!(out, "{}", serde_json::to_string(stream)?)?;
        }
        return Ok(Outcome::Fine);
    }
    if streams.is_empty() {
        writeln!(out, "the log is empty")?;
        return Ok(Outcome::Fine);
    }
    let header = ["type", ">events", ">aggregates", ">a day", ">data", ">first", "at", ">last", "at"];
    let mut table = Table::new(&header);
    for stream in &streams {
        table.push([
            stream.event_type.clone(),
            stream.events.to_string(),
            stream.aggregates.to_string(),
            stream.events_per_day.map_or("–".to_owned(), |rate| format!("{rate:.1}")),
            bytes(stream.data_bytes),
            stream.first_position.to_string(),
            format!("{:.3}", stream.first_time),
            stream.last_position.to_string(),
            format!("{:.3}", stream.last_time),
        ]);
    }
    table.print(&mut out)?;
    let (events, data) = streams
        .iter()
        .fold((0, 0), |(events, data), stream| (events + stream.events, data + stream.data_bytes));
    writeln!(out, "{events} events, {} of data; `aggregates` counts those that began so", bytes(data))?;
    Ok(Outcome::Fine)
}

pub async fn history(
    source: &Source,
    kind: Kind,
    id: Uuid,
    from: Option<Target>,
    json: bool,
) -> Result<Outcome> {
    let mut out = output::lines();
    let shown = replay::history(source, kind, id, from, |happening| {
        if json {
            return Ok(writeln!(out, "{}", happening.to_json()?)?);
        }
        show(&mut out, &happening.event)?;
        for change in happening.changes() {
            writeln!(out, "{:>10}{}", "", printable(&change))?;
        }
        Ok(())
    })
    .await?;
    if shown == 0 {
        let since = if from.is_some() { " since then" } else { "" };
        eprintln!("nothing has happened to the {} {id}{since}", kind.name());
        return Ok(Outcome::Differs);
    }
    Ok(Outcome::Fine)
}

pub async fn tail(source: &Source, which: Which, from: Option<Target>, json: bool) -> Result<Outcome> {
    let filter = which.filter()?;
    let mut events = match from {
        Some(target) => Events::from(source, target).await?,
        None => Events::after(source, source.log.head().await?.into()),
    };
    let mut out = output::lines();
    let mut closed = std::pin::pin!(output::closed());
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            () = &mut closed => return Ok(Outcome::Fine),
        };
        if !filter.lets_through(&event) {
            continue;
        }
        match json {
            true => writeln!(out, "{}", serde_json::to_string(&event)?)?,
            false => show(&mut out, &event)?,
        }
    }
}

fn show(out: &mut impl Write, event: &Envelope) -> std::io::Result<()> {
    let Envelope { position, time, r#type, subject, data, .. } = event;
    writeln!(out, "{position:>8}  {time:.3}  {:<24} {subject}  {}", r#type, printable(data.get()))
}

/// Without what could steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
