//! The bar over an interview's answers, on standard error and only where someone looks at it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output;

/// Shows how many answers have ended, and what goes on.
#[derive(Clone)]
pub struct AnswersBar(Option<ProgressBar>);

impl AnswersBar {
    pub fn new() -> Self {
        if !output::stderr_is_watched() {
            return Self(None);
        }
        let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} answers  {wide_msg} {elapsed}")
            .expect("the template is sound")
            .progress_chars("█▌░");
        let bar = ProgressBar::new(0).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(Some(bar))
    }

    /// Prints a line for people above the bar.
    pub fn note(&self, text: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    pub fn show(&self, done: usize, total: usize, message: &str) {
        if let Some(bar) = &self.0 {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(message.to_owned());
        }
    }

    pub fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for AnswersBar {
    fn drop(&mut self) {
        self.clear();
    }
}
