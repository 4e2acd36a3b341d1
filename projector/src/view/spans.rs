//! The spans of one batch, for those of its events that are traced: one of the batch itself, in a trace of its own that
//! leads to them, and one in the trace of each, so that it shows when its event came into the view. There are spans only
//! while a view is kept up to date: who folds it anew does not tell again what was told.

use std::time::SystemTime;

use service_kit::trace::{Span, SpanContext, SpanKind};

/// A batch, or those of a frame, that has traced events.
#[derive(Debug)]
pub struct BatchSpans {
    batch: Option<Span>,
    events: Vec<Span>,
}

impl BatchSpans {
    /// For a batch of `view` that `began` then; none if nothing in it is traced.
    pub fn begin(
        view: &'static str,
        subject: &str,
        traced: &[SpanContext],
        began: SystemTime,
    ) -> Option<Self> {
        let name = || format!("project {view}");
        let after = |context: &SpanContext| Span::after_from(context, SpanKind::Consumer, name(), began);
        let events: Vec<Span> = traced.iter().filter_map(after).collect();
        if events.is_empty() {
            return None;
        }
        let batch = Span::for_all(traced, SpanKind::Consumer, name(), began);
        for span in events.iter().chain(&batch) {
            span.messaging("project", "process", subject.to_owned());
            span.set("headwater.view", view);
        }
        if let Some(batch) = &batch {
            events.iter().for_each(|event| event.link(&batch.context()));
        }
        Some(Self { batch, events })
    }

    /// The span of the transaction that writes it.
    pub fn committing(&self, table: &str) -> Option<Span> {
        let batch = self.batch.as_ref()?.context();
        let span = Span::after(&batch, SpanKind::Client, format!("UPSERT {table}"))?;
        span.database("UPSERT", table.to_owned());
        Some(span)
    }

    pub fn failed(&self, kind: &'static str) {
        self.events.iter().chain(&self.batch).for_each(|span| span.failed(kind));
    }

    /// The spans of the signal that says what the batch has changed, one in the trace of each event.
    pub fn signalling(&self, subject: &str) -> Vec<Span> {
        let signalling = |event: &Span| {
            let span = Span::after(&event.context(), SpanKind::Producer, format!("signal {subject}"))?;
            span.messaging("signal", "send", subject.to_owned());
            Some(span)
        };
        self.events.iter().filter_map(signalling).collect()
    }
}
