use anyhow::Result;
use event_log::LogError;
use indicatif::{ProgressBar, ProgressStyle};
use replay::Source;

/// How far along the log somebody is. Hidden where standard error is no terminal.
pub async fn of(source: &Source) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} events  {per_sec}  {eta} left")?;
    let end = match source.log.head().await {
        Ok(head) => head.position,
        // A check says so, and where.
        Err(LogError::Frame(_)) => 0,
        Err(error) => return Err(error.into()),
    };
    Ok(ProgressBar::new(end).with_style(style))
}
