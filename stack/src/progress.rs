//! How far a long piece of work has come: a bar on a terminal, now and then a line elsewhere.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::screen;

/// Between two lines where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(5);

pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    started: Instant,
    told: Mutex<Instant>,
}

impl Progress {
    /// `total` pieces, called `what`.
    pub fn new(what: &'static str, total: usize) -> Self {
        let total = total as u64;
        let bar = match screen::is_terminal() {
            true => screen::add(ProgressBar::new(total)),
            false => ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden()),
        };
        let rate = |state: &ProgressState, out: &mut dyn Write| {
            // Writing into a line of text cannot fail.
            let _ = write!(out, "{:.0}/s", state.per_sec());
        };
        let style =
            ProgressStyle::with_template("{wide_bar} {human_pos}/{human_len} {msg}, {rate}, {eta} left");
        bar.set_style(style.expect("the template is valid").with_key("rate", rate));
        bar.set_message(what);
        let now = Instant::now();
        Self { bar, what, started: now, told: Mutex::new(now) }
    }

    /// One more piece is done.
    pub fn advance(&self) {
        self.bar.inc(1);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if screen::is_terminal() || told.elapsed() < TELL_EVERY {
            return;
        }
        *told = Instant::now();
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let rate = done as f64 / self.started.elapsed().as_secs_f64();
        let left = (total - done) as f64 / rate;
        screen::say(format!("{done}/{total} {}, {rate:.0}/s, {left:.0} s left", self.what));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
