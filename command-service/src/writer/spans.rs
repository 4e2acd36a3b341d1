//! The spans of the commands of one frame that are traced: each is decided in its own trace; what they share, the append,
//! is in the trace of the first and leads to the others.

use event_log::EventLog;
use service_kit::trace::{SPANS_TOGETHER_MAX, Span, SpanContext, SpanKind, sampled};

use crate::submission::Request;

/// Which commands of a frame are traced, up to a bound.
#[derive(Default)]
pub struct Traced {
    /// The spans that they come from. Those of an import come from one.
    from: Vec<SpanContext>,
    decided: usize,
}

impl Traced {
    /// The span in which a command is decided, if it is traced.
    pub fn deciding(&mut self, request: &Request) -> Option<Span> {
        let parent = sampled(request.meta.traceparent.as_deref())?;
        if self.decided >= SPANS_TOGETHER_MAX {
            return None;
        }
        let span = Span::after(&parent, SpanKind::Internal, "decide")?;
        span.set("headwater.aggregate", request.command.kind().name());
        span.set("headwater.command", request.command.encode().0);
        self.decided += 1;
        if !self.from.contains(&parent) {
            self.from.push(parent);
        }
        Some(span)
    }

    /// The span in which the frame is appended, if any of its commands is traced.
    pub fn appending(&self, log: &EventLog, events: u64) -> Option<Span> {
        let (first, others) = self.from.split_first()?;
        let subject = format!("{}.log.0", log.namespace());
        let span = Span::after(first, SpanKind::Producer, format!("append {subject}"))?;
        others.iter().for_each(|other| span.link(other));
        span.messaging("append", "send", subject);
        span.set("messaging.batch.message_count", events.cast_signed());
        Some(span)
    }
}
