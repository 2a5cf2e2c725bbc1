//! What is free on cards, for `status`: a driver that does not answer keeps one thread waiting, and nobody who asks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::hardware::devices::{Device, refresh};

/// How long a driver is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Asks drivers, one question at a time.
pub(super) struct FreeMemory {
    read: fn(&Device) -> Option<u64>,
    /// Whoever reads has it until the driver has answered.
    turn: Arc<Mutex<()>>,
}

impl Default for FreeMemory {
    fn default() -> Self {
        Self {
            read: refresh,
            turn: Arc::default(),
        }
    }
}

impl FreeMemory {
    /// Bytes that are free on each of the cards; `None` where nobody can say, or the driver does not answer.
    pub async fn of(&self, cards: Vec<Device>) -> Vec<Option<u64>> {
        let (count, read) = (cards.len(), self.read);
        let asked = async {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            let answered = tokio::task::spawn_blocking(move || {
                let free: Vec<_> = cards.iter().map(read).collect();
                drop(turn);
                free
            });
            answered.await.ok()
        };
        let free = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
        free.unwrap_or_else(|| vec![None; count])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::hardware::devices::detect;

    static HANGS: AtomicBool = AtomicBool::new(true);
    static ASKED: AtomicUsize = AtomicUsize::new(0);

    #[tokio::test]
    async fn a_driver_that_does_not_answer_is_asked_by_one_thread_and_awaited_by_nobody() {
        let memory = FreeMemory {
            read: |_| {
                ASKED.fetch_add(1, Ordering::SeqCst);
                let mut looks = 0..10_000;
                while HANGS.load(Ordering::SeqCst) && looks.next().is_some() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Some(7)
            },
            ..FreeMemory::default()
        };
        let card = detect().cpu;
        for _ in 0..2 {
            assert_eq!(memory.of(vec![card.clone()]).await, [None]);
            assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        }
        HANGS.store(false, Ordering::SeqCst);
        assert_eq!(memory.of(vec![card.clone(), card]).await, [Some(7), Some(7)]);
    }
}
