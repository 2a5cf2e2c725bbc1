//! SIGTERM and SIGINT: the first asks the daemon to stop, the second ends it there and then, whatever its other threads are at.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How the process ends at the second signal. What it was at is done at the next start.
const STOPPED_AT_ONCE: i32 = 1;

/// Whether there has been a signal.
pub struct Signals(watch::Receiver<bool>);

impl Signals {
    /// Listens from now on, on a thread that nothing else can hold up.
    pub fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let guard = runtime.enter();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        drop(guard);
        let (told, heard) = watch::channel(false);
        let listening = async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if told.send_replace(true) {
                    tracing::warn!("stopped at once; what was running is run again at the next start");
                    std::process::exit(STOPPED_AT_ONCE);
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(listening))?;
        Ok(Self(heard))
    }

    /// Returns once there has been one.
    pub async fn first(&mut self) {
        // The thread listens as long as there is a process.
        let _ = self.0.wait_for(|heard| *heard).await;
    }
}
