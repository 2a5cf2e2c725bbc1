//! How the socket is set up and how much a connection may have of everything.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Options {
    /// Of the socket's file; at most 107 bytes.
    pub path: PathBuf,
    /// Permission bits of the socket's file.
    pub mode: u32,
    /// Users that are admins besides those of `own_uid_is_admin`.
    pub admin_uids: Vec<u32>,
    /// Whether the daemon's own user and root are admins.
    pub own_uid_is_admin: bool,
    /// Longest line, without its line break.
    pub line_bytes_max: usize,
    pub connections_max: usize,
    /// Of all partial lines, requests in work and unread output together; over it the connection that holds most is closed. The longest line takes
    /// three times its length at most while it is read.
    pub buffered_bytes_max: usize,
    /// Told whenever much of that has been given back: freed memory can go back to the system. Must not block.
    pub given_back: fn(),
    /// A connection without a pending request or a subscription is closed after this long without a line.
    pub idle: Duration,
    /// Or after this long, the one that has been silent longest first, if another client wants its place.
    pub makes_way: Duration,
    /// A connection that takes none of its output for this long is closed.
    pub write_timeout: Duration,
    /// Waiting events per subscription; what is more is told as `lagged`.
    pub events_queued_max: usize,
    /// Unanswered requests per connection; no line is read while there are as many.
    pub requests_in_flight_max: usize,
    /// Subscriptions per connection.
    pub subscriptions_max: usize,
    /// How long pending requests may go on once the daemon stops.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: PathBuf::from("run/interviewd.sock"),
            mode: 0o660,
            admin_uids: Vec::new(),
            own_uid_is_admin: true,
            line_bytes_max: 16 << 20,
            connections_max: 256,
            buffered_bytes_max: 48 << 20,
            given_back: || {},
            idle: Duration::from_secs(600),
            makes_way: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            events_queued_max: 1_024,
            requests_in_flight_max: 64,
            subscriptions_max: 64,
            grace: Duration::from_secs(5),
        }
    }
}
