//! The spans of tasks that are planned because of traced events. The task is done within its own.

use domain::Timestamp;
use service_kit::trace::{SPANS_TOGETHER_MAX, Span, SpanKind, sampled_lately};

use crate::queue::QueuedTask;

/// The spans of tasks that are on their way into the queue, up to a bound. From now on the tasks belong to them.
pub fn planning(tasks: &mut [(QueuedTask, Option<Timestamp>)], namespace: &str) -> Vec<Span> {
    let planning = |(task, _): &mut (QueuedTask, Option<Timestamp>)| {
        let context = sampled_lately(task.traceparent.as_deref(), task.event_time.micros())?;
        let policy = &task.id.policy;
        let span = Span::after(&context, SpanKind::Producer, format!("plan {policy}"))?;
        span.messaging("plan", "send", format!("{namespace}.tasks.ready.{policy}"));
        span.set("headwater.policy", policy.clone());
        task.traceparent = Some(span.traceparent());
        Some(span)
    };
    tasks.iter_mut().filter_map(planning).take(SPANS_TOGETHER_MAX).collect()
}
