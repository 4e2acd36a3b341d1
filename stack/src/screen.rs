//! What a person sees: messages, and the one line below them that changes.

use std::io::IsTerminal as _;
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar};

/// Owns the bottom of the terminal, so that a message never lands in the middle of a progress bar.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Whether someone watches; if not, output is plain lines.
pub fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Prints a message, above whatever changes on the screen.
pub fn say(message: impl AsRef<str>) {
    BARS.suspend(|| eprintln!("{}", message.as_ref()));
}

/// Adds a bar or line at the bottom of the screen.
pub fn add(bar: ProgressBar) -> ProgressBar {
    BARS.add(bar)
}
