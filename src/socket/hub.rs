//! Events from whoever makes them to whoever watches: publishing never waits, a slow watcher loses the oldest and is told how many.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::notification::{EventNotification, Told};
use crate::domain::event::Event;
use crate::domain::ids::InterviewId;

/// Where events are published and subscribed to. Cheap to share: all clones are one hub.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    /// By what they are restricted to; `None`: nothing.
    queues: HashMap<Option<InterviewId>, Vec<Arc<Queue>>>,
}

/// What waits for one subscriber.
#[derive(Debug)]
struct Queue {
    id: u64,
    capacity: usize,
    waiting: Mutex<Waiting>,
    arrival: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    /// Events lost before the first of `events`.
    missed: u64,
}

/// Events from now on; dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    table: Arc<Mutex<Table>>,
    queue: Arc<Queue>,
    filter: Option<InterviewId>,
    last_seq: u64,
}

impl Hub {
    /// Tells every subscriber that it concerns. Never waits for one.
    pub fn publish(&self, event: &Event) {
        let event = Arc::new(event.clone());
        let filter = Some(event.interview_id.clone());
        let table = locked(&self.table);
        let concerned = [&None, &filter].into_iter().filter_map(|key| table.queues.get(key));
        for queue in concerned.flatten() {
            queue.push(Arc::clone(&event));
        }
    }

    /// Subscribes to the events of one interview, or of all. At most `capacity` events (at least one) wait to be read.
    pub fn subscribe(&self, filter: Option<InterviewId>, capacity: usize) -> Subscription {
        let mut table = locked(&self.table);
        table.last_id += 1;
        let queue = Arc::new(Queue {
            id: table.last_id,
            capacity: capacity.max(1),
            waiting: Mutex::default(),
            arrival: Notify::new(),
        });
        let of_the_same = table.queues.entry(filter.clone()).or_default();
        of_the_same.push(Arc::clone(&queue));
        Subscription {
            table: Arc::clone(&self.table),
            queue,
            filter,
            last_seq: 0,
        }
    }

    pub fn subscriptions(&self) -> usize {
        locked(&self.table).queues.values().map(Vec::len).sum()
    }
}

impl Queue {
    fn push(&self, event: Arc<Event>) {
        let mut waiting = locked(&self.waiting);
        if waiting.events.len() == self.capacity {
            waiting.events.pop_front();
            waiting.missed += 1;
        }
        waiting.events.push_back(event);
        drop(waiting);
        self.arrival.notify_one();
    }
}

impl Subscription {
    /// Of this subscription, as long as the hub lives.
    pub fn id(&self) -> u64 {
        self.queue.id
    }

    /// The next notification. May be dropped at any time: nothing is lost by it.
    pub async fn next(&mut self) -> EventNotification {
        loop {
            if let Some(notification) = self.try_next() {
                return notification;
            }
            self.queue.arrival.notified().await;
        }
    }

    /// The next notification if there is one already.
    pub fn try_next(&mut self) -> Option<EventNotification> {
        let told = {
            let mut waiting = locked(&self.queue.waiting);
            match std::mem::take(&mut waiting.missed) {
                0 => Told::Event(Arc::unwrap_or_clone(waiting.events.pop_front()?)),
                missed => Told::Lagged {
                    missed,
                    interview_id: self.filter.clone(),
                },
            }
        };
        self.last_seq += 1;
        Some(EventNotification {
            subscription: self.queue.id,
            seq: self.last_seq,
            told,
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut table = locked(&self.table);
        if let Some(queues) = table.queues.get_mut(&self.filter) {
            queues.retain(|queue| queue.id != self.queue.id);
            if queues.is_empty() {
                table.queues.remove(&self.filter);
            }
        }
    }
}

/// Nothing panics while it holds one of these locks half way through a change.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::event::EventKind;

    fn id(text: &str) -> InterviewId {
        InterviewId::parse(text).unwrap()
    }

    fn event(interview: &str, done: usize) -> Event {
        Event {
            interview_id: id(interview),
            kind: EventKind::Accepted,
            done,
            total: 9,
        }
    }

    fn told(subscription: &mut Subscription) -> Vec<(u64, String)> {
        let all = std::iter::from_fn(|| subscription.try_next());
        all.map(|n| match n.told {
            Told::Event(event) => (n.seq, format!("{} {}", event.interview_id, event.done)),
            Told::Lagged { missed, .. } => (n.seq, format!("missed {missed}")),
        })
        .collect()
    }

    fn expected(list: &[(u64, &str)]) -> Vec<(u64, String)> {
        list.iter().map(|(seq, text)| (*seq, (*text).to_owned())).collect()
    }

    #[test]
    fn a_subscriber_hears_what_it_asked_for_in_order_and_numbered() {
        let hub = Hub::default();
        let mut of_x = hub.subscribe(Some(id("x")), 8);
        let mut of_all = hub.subscribe(None, 8);
        for (interview, done) in [("x", 1), ("y", 2), ("x", 3)] {
            hub.publish(&event(interview, done));
        }
        assert_ne!(of_x.id(), of_all.id());
        assert_eq!(told(&mut of_x), expected(&[(1, "x 1"), (2, "x 3")]));
        assert_eq!(told(&mut of_all), expected(&[(1, "x 1"), (2, "y 2"), (3, "x 3")]));
    }

    #[test]
    fn a_slow_subscriber_is_told_how_many_it_missed_where_they_are_missing() {
        let hub = Hub::default();
        let mut slow = hub.subscribe(None, 2);
        for done in 1..=5 {
            hub.publish(&event("x", done));
        }
        assert_eq!(told(&mut slow), expected(&[(1, "missed 3"), (2, "x 4"), (3, "x 5")]));
        hub.publish(&event("x", 6));
        assert_eq!(told(&mut slow), expected(&[(4, "x 6")]));
    }

    #[test]
    fn a_dropped_subscription_leaves_nothing_behind() {
        let hub = Hub::default();
        let (first, second) = (hub.subscribe(Some(id("x")), 2), hub.subscribe(Some(id("x")), 2));
        drop(first);
        assert_eq!(hub.subscriptions(), 1);
        drop(second);
        assert_eq!(hub.subscriptions(), 0);
        assert!(locked(&hub.table).queues.is_empty());
    }

    #[tokio::test]
    async fn waiting_ends_with_the_next_event_from_any_thread() {
        let hub = Hub::default();
        let mut subscription = hub.subscribe(None, 2);
        let publisher = hub.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            publisher.publish(&event("x", 1));
        });
        assert_eq!(subscription.next().await.seq, 1);
        thread.join().unwrap();
    }
}
