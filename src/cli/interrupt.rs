//! Ctrl-C: the first asks to stop, the second stops at once; either way nothing is left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Failure};
use super::leftovers::Leftovers;

/// Whether the user wants it to end.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for SIGINT, SIGTERM and SIGHUP from now on. The second of them clears `leftovers` and ends the process.
    pub fn listen(leftovers: Leftovers) -> Result<Self, Failure> {
        let wanted = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&wanted);
        on_signals(move || {
            if seen.swap(true, Ordering::SeqCst) {
                leftovers.clear_at_once();
                std::process::exit(i32::from(Exit::Interrupted as u8));
            }
        })?;
        Ok(Self(wanted))
    }

    /// `Err(Interrupted)` once the user wants it to end.
    pub fn check(&self) -> Result<(), Failure> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(Failure::Interrupted),
            false => Ok(()),
        }
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP end the process, after a last word.
pub fn end_with(last_word: impl Fn() + Send + 'static) -> Result<(), Failure> {
    on_signals(move || {
        last_word();
        std::process::exit(i32::from(Exit::Interrupted as u8));
    })
}

fn on_signals(mut heard: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("signals cannot be heard: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(failed)?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    drop(guard);
    let listener = async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            heard();
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(listener))
        .map_err(failed)?;
    Ok(())
}
