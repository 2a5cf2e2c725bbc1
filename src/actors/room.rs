//! Room in the queue, reserved before anything is stored: the only place where a client can hear `busy`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How many answers may wait for a slot.
#[derive(Debug)]
pub struct Room {
    max: AtomicUsize,
    taken: AtomicUsize,
    freed: Notify,
}

/// One answer's place in the queue; free again when dropped, which is when the answer gets a slot or needs none any more.
#[derive(Debug)]
pub struct Place(Arc<Room>);

/// There is no room for so many answers now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    pub taken: usize,
    pub max: usize,
}

impl Room {
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max: max.into(),
            taken: 0.into(),
            freed: Notify::new(),
        })
    }

    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Has whoever waits for [`Self::freed`] look again, though no place was given back.
    pub fn look_again(&self) {
        self.freed.notify_one();
    }

    /// Until a place is given back, or at once if one was since this last returned. For one who waits.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Places that are taken stay taken, even if they are too many now.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// All of the places or none.
    pub fn reserve(self: &Arc<Self>, places: usize) -> Result<Vec<Place>, Full> {
        let max = self.max();
        let fits = |taken: usize| taken.checked_add(places).filter(|sum| *sum <= max);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok((0..places).map(|_| Place(Arc::clone(self))).collect()),
            Err(taken) => Err(Full { taken, max }),
        }
    }

    /// Places beyond the limit, for work that was accepted long ago and is found again in the store.
    pub fn recover(self: &Arc<Self>, places: usize) -> Vec<Place> {
        self.taken.fetch_add(places, Ordering::Relaxed);
        (0..places).map(|_| Place(Arc::clone(self))).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_places_or_none() {
        let room = Room::new(5);
        let three = room.reserve(3).unwrap();
        assert_eq!(room.reserve(3).unwrap_err(), Full { taken: 3, max: 5 });
        let two = room.reserve(2).unwrap();
        drop(three);
        assert_eq!(room.taken(), 2);
        drop(two);
        assert_eq!(room.taken(), 0);
        assert!(room.reserve(usize::MAX).is_err());
    }

    #[test]
    fn recovered_work_finds_room_beyond_the_limit() {
        let room = Room::new(1);
        let recovered = room.recover(3);
        assert!(room.reserve(1).is_err());
        drop(recovered);
        assert!(room.reserve(1).is_ok());
    }

    #[tokio::test]
    async fn a_place_that_was_given_back_before_anybody_waited_is_not_missed() {
        let room = Room::new(2);
        let places = room.reserve(2).unwrap();
        let soon = std::time::Duration::from_millis(10);
        assert!(tokio::time::timeout(soon, room.freed()).await.is_err());
        drop(places);
        room.freed().await;
    }
}
