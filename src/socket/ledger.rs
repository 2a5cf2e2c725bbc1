//! Who holds how many buffered bytes: when all together hold too many, the largest holder has to go.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Whoever holds no more waits for nobody: it is others who hold too much.
const LITTLE_BYTES: usize = 24 << 10;
/// So much has been given back: worth telling whoever can pass memory on.
const MUCH_BYTES: usize = 8 << 20;

/// The buffered bytes of all connections.
#[derive(Debug)]
pub struct Ledger {
    bytes_max: usize,
    total: AtomicUsize,
    /// What was given back since anybody was told.
    returned: AtomicUsize,
    /// Told whenever much has been given back. Must not block.
    given_back: fn(),
    holders: Mutex<Vec<Arc<Holder>>>,
    /// Told when the sum is within the limit again.
    relief: Notify,
}

#[derive(Debug, Default)]
struct Holder {
    bytes: AtomicUsize,
    is_evicted: AtomicBool,
    eviction: Notify,
}

/// One connection's share; closed when dropped. What was charged to it stays in the sum until it is really given back.
#[derive(Debug)]
pub struct Account {
    ledger: Arc<Ledger>,
    holder: Arc<Holder>,
}

/// Bytes held now; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    ledger: Arc<Ledger>,
    holder: Arc<Holder>,
    bytes: usize,
}

impl Ledger {
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Self::telling(bytes_max, || {})
    }

    /// `given_back` is told whenever much has been given back; it must not block.
    pub fn telling(bytes_max: usize, given_back: fn()) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            total: AtomicUsize::new(0),
            returned: AtomicUsize::new(0),
            given_back,
            holders: Mutex::default(),
            relief: Notify::new(),
        })
    }

    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    pub fn open(self: &Arc<Self>) -> Account {
        let holder = Arc::<Holder>::default();
        self.holders().push(Arc::clone(&holder));
        Account {
            ledger: Arc::clone(self),
            holder,
        }
    }

    /// Returns once all together hold no more than they may: those that were evicted have given theirs back.
    async fn relieved(&self, holder: &Holder) {
        loop {
            // Made before the look, so that it hears of what happens after it.
            let relief = self.relief.notified();
            if self.total() <= self.bytes_max || holder.bytes.load(Ordering::Relaxed) <= LITTLE_BYTES {
                return;
            }
            self.relieve();
            relief.await;
        }
    }

    /// Says so once it is much. That little is held by then does not matter: what was freed for small things is of no use for large ones.
    fn returned(&self, bytes: usize) {
        let returned = self.returned.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Of several that come this far at once, one says it.
        if returned >= MUCH_BYTES && self.returned.swap(0, Ordering::Relaxed) >= MUCH_BYTES {
            (self.given_back)();
        }
    }

    /// Evicts the largest holders until the others are within the limit: those already evicted are about to give theirs back.
    fn relieve(&self) {
        let holders = self.holders();
        // Each is asked once: the figures change meanwhile.
        let mut staying: Vec<_> = holders
            .iter()
            .filter(|holder| !holder.is_evicted.load(Ordering::Relaxed))
            .map(|holder| (holder.bytes.load(Ordering::Relaxed), holder))
            .collect();
        staying.sort_by_key(|(bytes, _)| *bytes);
        let mut sum: usize = staying.iter().map(|(bytes, _)| bytes).sum();
        while sum > self.bytes_max {
            let Some((bytes, largest)) = staying.pop() else { return };
            sum -= bytes;
            largest.is_evicted.store(true, Ordering::Relaxed);
            largest.eviction.notify_one();
        }
    }

    fn holders(&self) -> MutexGuard<'_, Vec<Arc<Holder>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// Returns once all connections together hold no more than they may, or this one holds little.
    pub async fn relieved(&self) {
        self.ledger.relieved(&self.holder).await;
    }

    /// An empty charge that can grow.
    pub fn charge(&self) -> Charge {
        Charge {
            ledger: Arc::clone(&self.ledger),
            holder: Arc::clone(&self.holder),
            bytes: 0,
        }
    }

    /// So many bytes, held from now on.
    pub fn charged(&self, bytes: usize) -> Charge {
        let mut charge = self.charge();
        charge.set(bytes);
        charge
    }

    /// Returns once this connection has to go: how much it holds then.
    pub async fn evicted(&self) -> usize {
        while !self.holder.is_evicted.load(Ordering::Relaxed) {
            self.holder.eviction.notified().await;
        }
        self.bytes()
    }

    pub fn bytes(&self) -> usize {
        self.holder.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.ledger
            .holders()
            .retain(|holder| !Arc::ptr_eq(holder, &self.holder));
    }
}

impl Charge {
    /// Sets how many bytes are held.
    pub fn set(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        let less = self.bytes.saturating_sub(bytes);
        self.bytes = bytes;
        self.holder.bytes.fetch_add(more, Ordering::Relaxed);
        self.holder.bytes.fetch_sub(less, Ordering::Relaxed);
        let ledger = &self.ledger;
        if more > 0 {
            let total = ledger.total.fetch_add(more, Ordering::Relaxed) + more;
            if total > ledger.bytes_max {
                ledger.relieve();
            }
        }
        if less > 0 {
            let before = ledger.total.fetch_sub(less, Ordering::Relaxed);
            if before > ledger.bytes_max && before - less <= ledger.bytes_max {
                ledger.relief.notify_waiters();
            }
            ledger.returned(less);
        }
    }

    /// Returns once all together hold no more than they may, or its account little.
    pub async fn relieved(&self) {
        self.ledger.relieved(&self.holder).await;
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Moves so many of its bytes, all at most, to another charge of the same account.
    #[must_use]
    pub fn split_off(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            ledger: Arc::clone(&self.ledger),
            holder: Arc::clone(&self.holder),
            bytes,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(account: &Account) -> bool {
        account.holder.is_evicted.load(Ordering::Relaxed)
    }

    #[test]
    fn over_the_limit_the_largest_holder_goes_whoever_went_over_it() {
        let ledger = Ledger::new(100);
        let (small, large, last) = (ledger.open(), ledger.open(), ledger.open());
        let _held = (small.charged(20), large.charged(50), last.charged(30));
        assert!(!is_evicted(&large));
        let _more = last.charged(1);
        assert_eq!(
            [&small, &large, &last].map(is_evicted),
            [false, true, false],
            "only the largest"
        );
        let _much_more = last.charged(30);
        assert!(!is_evicted(&last), "what the evicted one holds is as good as free");
    }

    #[test]
    fn what_is_dropped_is_given_back() {
        let ledger = Ledger::new(100);
        let account = ledger.open();
        let mut charge = account.charged(70);
        charge.set(40);
        assert_eq!((ledger.total(), account.bytes()), (40, 40));
        let (some, rest) = (charge.split_off(30), charge.split_off(30));
        assert_eq!((charge.bytes(), rest.bytes()), (0, 10));
        drop((account, rest));
        assert_eq!(ledger.total(), 30, "still in memory");
        drop(some);
        assert_eq!(ledger.total(), 0);
    }

    #[tokio::test]
    async fn whoever_wants_more_waits_until_the_evicted_have_given_theirs_back_unless_he_holds_little() {
        let ledger = Ledger::new(100_000);
        let (large, other, small) = (ledger.open(), ledger.open(), ledger.open());
        let held = large.charged(90_000);
        let more = other.charged(30_000);
        assert!(is_evicted(&large) && !is_evicted(&other));
        let mut waiting = Box::pin(more.relieved());
        tokio::select! {
            biased;
            () = &mut waiting => panic!("what was evicted is still in memory"),
            () = tokio::task::yield_now() => {}
        }
        small.charged(LITTLE_BYTES).relieved().await;
        drop(held);
        waiting.await;
    }

    #[test]
    fn it_is_told_when_much_was_given_back_however_little_at_a_time() {
        static TOLD: AtomicUsize = AtomicUsize::new(0);
        let ledger = Ledger::telling(usize::MAX, || {
            TOLD.fetch_add(1, Ordering::Relaxed);
        });
        let account = ledger.open();
        let told_after = |bytes| {
            drop(account.charged(bytes));
            TOLD.load(Ordering::Relaxed)
        };
        assert_eq!(told_after(MUCH_BYTES - 1), 0);
        assert_eq!(told_after(1), 1);
        for _ in 0..15 {
            assert_eq!(told_after(MUCH_BYTES / 16), 1);
        }
        assert_eq!(told_after(MUCH_BYTES / 16), 2);
    }

    #[tokio::test]
    async fn an_evicted_connection_hears_of_it_even_if_it_listens_late() {
        let ledger = Ledger::new(1);
        let account = ledger.open();
        let _charge = account.charged(2);
        for _ in 0..2 {
            assert_eq!(account.evicted().await, 2);
        }
    }
}
