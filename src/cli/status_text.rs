//! The status for people: one screen, whatever the daemon's size.

use std::collections::BTreeMap;

use super::output::Look;
use super::text::{bytes, count, fit, one_line, pad, seconds, thousands, width, wrap};
use crate::socket::view::{ActorState, ActorView, DaemonState, DeviceView, SlotRow, StatusView};

const LABEL_COLUMNS: usize = 12;
const LINES_MAX: usize = 24;
/// How many rows of each kind are shown: together they leave a reason 2 lines of the 24, and more where there are fewer.
const REASON_LINES_MIN: usize = 2;
const DEVICES_MAX: usize = 2;
const ACTORS_MAX: usize = 4;
const ERRORS_MAX: usize = 1;
const WORK_MAX: usize = 2;
/// One block a slot up to this many.
const BLOCKS_MAX: usize = 32;

/// Lays a status out, a line an element, none wider than `look.columns`.
pub fn render(status: &StatusView, look: Look) -> Vec<String> {
    let below = body(status, look);
    let mut lines = head(status, LINES_MAX.saturating_sub(below.len() + 2), look);
    lines.extend(below);
    lines
}

fn body(status: &StatusView, look: Look) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push(labelled("model", &model(status), look));
    devices(&mut lines, &status.devices, look);
    pool(&mut lines, status, look);
    let queue = &status.queue;
    let oldest = match queue.answers {
        0 => String::new(),
        _ => format!(" · oldest waits {}", seconds(queue.oldest_wait_s)),
    };
    let queue = format!(
        "{} of at most {} answers · {}{oldest}",
        thousands(queue.answers as u64),
        thousands(queue.max as u64),
        count(queue.interviews, "interview")
    );
    lines.push(labelled("queue", &queue, look));
    work(&mut lines, status, look);
    lines.push(labelled("interviews", &interviews(status), look));
    let totals = &status.totals;
    let answers = format!(
        "{} answers scored · {} unscored · {} reports",
        thousands(totals.answers_scored),
        thousands(totals.answers_unscored),
        thousands(totals.reports)
    );
    lines.push(labelled("totals", &answers, look));
    let tokens = format!(
        "{} in · {} out",
        thousands(totals.tokens_in),
        thousands(totals.tokens_out)
    );
    lines.push(labelled("tokens", &tokens, look));
    let store = &status.store;
    let sizes = format!("{} · {} free · ", bytes(store.size_bytes), bytes(store.free_bytes));
    lines.push(labelled("store", &format!("{sizes}{}", store.path), look));
    lines
}

/// The first line, the reason in at most `reason_lines_max` lines, and an empty line.
fn head(status: &StatusView, reason_lines_max: usize, look: Look) -> Vec<String> {
    let (state, painted): (_, fn(Look, &str) -> String) = match status.state {
        DaemonState::Starting => ("starting", Look::warn),
        DaemonState::Ready => ("ready", Look::good),
        DaemonState::Degraded => ("degraded", Look::bad),
        DaemonState::Draining => ("draining", Look::warn),
    };
    let version = fit(&status.version, 20);
    let up = seconds(status.uptime_s);
    let connections = count(status.connections, "connection");
    let mut lines = vec![format!(
        "{} · {} · up {up} · {connections}",
        look.bold(&format!("interviewd {version}")),
        painted(look, state)
    )];
    if let Some(reason) = &status.reason {
        let reason = wrap(&one_line(reason), look.columns - 2);
        let lines_max = reason_lines_max.max(REASON_LINES_MIN);
        let cut = reason.len() > lines_max;
        for (index, line) in reason.into_iter().take(lines_max).enumerate() {
            let is_cut = cut && index + 1 == lines_max;
            let line = if is_cut {
                fit(&format!("{line} …"), look.columns - 2)
            } else {
                line
            };
            lines.push(format!("  {}", painted(look, &line)));
        }
    }
    lines.push(String::new());
    lines
}

fn model(status: &StatusView) -> String {
    let Some(model) = &status.model else {
        return "none is loaded".to_owned();
    };
    let demo = if model.demo { " (demo)" } else { "" };
    let hash: String = model.hash.chars().take(12).collect();
    let context = thousands(model.context_tokens as u64);
    format!("{}{demo} · {} · {context} tokens · {hash}", model.name, model.precision)
}

fn devices(lines: &mut Vec<String>, devices: &[DeviceView], look: Look) {
    let mib = |mib: u64| bytes(mib.saturating_mul(1 << 20));
    for device in devices.iter().take(DEVICES_MAX) {
        let memory = format!(
            " · {} of {} free · budget {}",
            mib(device.memory_free_mib),
            mib(device.memory_total_mib),
            mib(device.budget_mib)
        );
        let name = format!("{}:{} {}", device.kind, device.index, device.name);
        let room = (look.columns - LABEL_COLUMNS).saturating_sub(width(&memory));
        lines.push(labelled("device", &format!("{}{memory}", fit(&name, room)), look));
    }
    more(lines, devices.len(), DEVICES_MAX, "device", look);
    if devices.is_empty() {
        lines.push(labelled("device", "none", look));
    }
}

fn pool(lines: &mut Vec<String>, status: &StatusView, look: Look) {
    let actors = &status.pool.actors;
    let (busy, slots) = actors.iter().fold((0, 0), |(busy, slots), actor| {
        (busy + actor.slots_busy, slots + actor.slots)
    });
    // Not `sum`, whose nothing is −0.0.
    let speed = actors.iter().fold(0.0, |sum, actor| sum + actor.tokens_per_s);
    let summary = format!(
        "{} of {} actors · {busy} of {slots} slots busy · {speed:.1} tokens/s",
        actors.len(),
        status.pool.planned_actors
    );
    lines.push(labelled("pool", &summary, look));
    for actor in actors.iter().take(ACTORS_MAX) {
        lines.push(actor_line(actor, look));
    }
    more(lines, actors.len(), ACTORS_MAX, "actor", look);
    let failed = actors
        .iter()
        .filter_map(|actor| Some((actor.id, actor.last_error.as_ref()?)));
    for (id, error) in failed.take(ERRORS_MAX) {
        let line = fit(&format!("actor {id}: {error}"), look.columns - 2);
        lines.push(format!("  {}", look.warn(&line)));
    }
}

fn actor_line(actor: &ActorView, look: Look) -> String {
    let state = match actor.state {
        ActorState::Starting => "starting",
        ActorState::Ready => "ready",
        ActorState::Restarting => "restarting",
        ActorState::Retiring => "retiring",
    };
    let blocks = blocks(actor);
    let mut numbers = format!("{}/{}", actor.slots_busy, actor.slots);
    if actor.queue > 0 {
        numbers += &format!(" · next {}", actor.queue);
    }
    if actor.restarts > 0 {
        numbers += &format!(" · restarts {}", actor.restarts);
    }
    let lead = format!(
        "  {}  {}",
        pad(&format!("{} {}", actor.id, actor.device), 9),
        pad(state, 10)
    );
    let room = look.columns.saturating_sub(width(&lead) + 2 + width(&blocks) + 1);
    format!("{lead}  {} {}", look.good(&blocks), fit(&numbers, room))
}

/// A block a slot: `█` writes, `▒` reads its prompt, `░` is free. With too many slots for that, their shares.
fn blocks(actor: &ActorView) -> String {
    let scoring = || actor.slot_table.iter().filter(|row| row.answer_id.is_some());
    let reading = scoring().filter(|row| row.phase == "prefill").count();
    let busy = actor.slots_busy.min(actor.slots);
    let reading = reading.min(busy);
    let cells = actor.slots.min(BLOCKS_MAX);
    let scaled = |count: usize| (count * cells).checked_div(actor.slots).unwrap_or(0);
    let (writing_cells, busy_cells) = (scaled(busy - reading), scaled(busy));
    "█".repeat(writing_cells) + &"▒".repeat(busy_cells - writing_cells) + &"░".repeat(cells - busy_cells)
}

/// What the slots are busy with, by interview.
fn work(lines: &mut Vec<String>, status: &StatusView, look: Look) {
    let mut interviews: BTreeMap<&str, Vec<&SlotRow>> = BTreeMap::new();
    for row in status.pool.actors.iter().flat_map(|actor| &actor.slot_table) {
        interviews.entry(row.interview_id.as_str()).or_default().push(row);
    }
    let number = interviews.len();
    for (id, rows) in interviews.into_iter().take(WORK_MAX) {
        let mut parts = Vec::new();
        for phase in ["prefill", "decode"] {
            let here = |row: &&&SlotRow| row.answer_id.is_some() && row.phase == phase;
            match rows.iter().filter(here).count() {
                0 => {}
                number => parts.push(format!("{} in {phase}", count(number, "answer"))),
            }
        }
        if rows.iter().any(|row| row.answer_id.is_none()) {
            parts.push("the narrative".to_owned());
        }
        let what = parts.join(", ");
        let room = (look.columns - LABEL_COLUMNS).saturating_sub(width(&what) + 2);
        lines.push(labelled("working on", &format!("{}: {what}", fit(id, room)), look));
    }
    more(lines, number, WORK_MAX, "interview", look);
}

fn interviews(status: &StatusView) -> String {
    let counts = &status.interviews;
    [
        ("open", counts.open),
        ("scoring", counts.scoring),
        ("reporting", counts.reporting),
        ("complete", counts.complete),
        ("partial", counts.partial),
        ("cancelled", counts.cancelled),
    ]
    .iter()
    .filter(|(name, count)| *count > 0 || *name == "complete")
    .map(|(name, count)| format!("{} {name}", thousands(*count)))
    .collect::<Vec<_>>()
    .join(" · ")
}

fn labelled(label: &str, text: &str, look: Look) -> String {
    format!(
        "{}{}",
        look.dim(&pad(label, LABEL_COLUMNS)),
        fit(text, look.columns - LABEL_COLUMNS)
    )
}

fn more(lines: &mut Vec<String>, number: usize, shown: usize, what: &str, look: Look) {
    if number > shown {
        lines.push(labelled("", &format!("and {} more", count(number - shown, what)), look));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look {
        columns: 80,
        colour: false,
    };

    fn busy() -> StatusView {
        let rows: Vec<_> = (0..17)
            .map(|slot| {
                let phase = if slot < 3 { "prefill" } else { "decode" };
                serde_json::json!({"slot": slot, "interview_id": "iv-001", "answer_id": format!("a{}", slot + 1), "phase": phase, "tokens_done": 40})
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "uptime_s": 3725, "state": "ready",
            "model": {"name": "interviewd-demo", "hash": "ab".repeat(32), "precision": "int8", "context_tokens": 2304, "demo": true},
            "devices": [{"kind": "cpu", "index": 0, "name": "AMD EPYC 9B14 96-Core Processor of a very long name indeed", "memory_total_mib": 16384, "memory_free_mib": 9011, "budget_mib": 8000}],
            "pool": {"planned_actors": 1, "actors": [{"id": 0, "device": "cpu:0", "state": "ready", "slots": 20, "slots_busy": 17, "queue": 3,
                "steps": 1000, "tokens_per_s": 312.44, "restarts": 0, "slot_table": rows}]},
            "queue": {"interviews": 2, "answers": 12, "max": 4096, "oldest_wait_s": 3},
            "interviews": {"open": 0, "scoring": 2, "reporting": 0, "complete": 1300, "partial": 1, "cancelled": 0},
            "totals": {"answers_scored": 22101, "answers_unscored": 2, "reports": 1301, "tokens_in": 15_000_000, "tokens_out": 4_000_000},
            "store": {"path": "/var/lib/interviewd/store", "size_bytes": 1_300_000, "free_bytes": 13_000_000_000u64}, "connections": 4
        }))
        .unwrap()
    }

    #[test]
    fn a_status_is_one_screen_that_says_it_all() {
        let lines = render(&busy(), PLAIN);
        let text = lines.join("\n");
        for part in [
            "interviewd 0.1.0 · ready · up 1 h 2 min · 4 connections",
            "model       interviewd-demo (demo) · int8 · 2,304 tokens · abababababab",
            "8.8 GiB of 16.0 GiB free · budget 7.8 GiB",
            "pool        1 of 1 actors · 17 of 20 slots busy · 312.4 tokens/s",
            "██████████████▒▒▒░░░ 17/20 · next 3",
            "queue       12 of at most 4,096 answers · 2 interviews · oldest waits 3 s",
            "working on  iv-001: 3 answers in prefill, 14 answers in decode",
            "interviews  2 scoring · 1,300 complete · 1 partial",
            "store       1.2 MiB · 12.1 GiB free · /var/lib/interviewd/store",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(lines.iter().all(|line| width(line) <= 80), "{text}");
    }

    #[test]
    fn even_the_largest_daemon_fits_the_screen() {
        let mut status = busy();
        status.state = DaemonState::Degraded;
        status.reason = Some("the model folder is not there; ".repeat(40));
        let device = status.devices[0].clone();
        status.devices = vec![device; 8];
        let mut actor = status.pool.actors[0].clone();
        actor.last_error = Some("out of memory ".repeat(20));
        actor.restarts = 123_456;
        actor.slots = 256;
        actor.slots_busy = 200;
        for (index, row) in actor.slot_table.iter_mut().enumerate() {
            let id = format!("{index}{}", "x".repeat(120));
            row.interview_id = crate::domain::ids::InterviewId::parse(&id).unwrap();
        }
        status.pool.actors = vec![actor; 16];
        status.store.path = "/p".repeat(100);
        for columns in [80, 60] {
            let lines = render(&status, Look { columns, colour: false });
            let wide: Vec<_> = lines.iter().filter(|line| width(line) > columns).collect();
            assert!(wide.is_empty(), "{columns}: {wide:?}");
            assert!(
                columns < 80 || lines.len() <= 24,
                "{} lines\n{}",
                lines.len(),
                lines.join("\n")
            );
        }
    }

    #[test]
    fn a_reason_has_all_the_room_that_the_screen_leaves() {
        let mut status = busy();
        status.state = DaemonState::Degraded;
        status.reason = Some(format!("{}the end of it", "the model folder is not there; ".repeat(14)));
        let lines = render(&status, PLAIN);
        assert!(lines.join(" ").contains("the end of it"), "{lines:?}");
        assert!(lines.len() <= 24, "{lines:?}");
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let mut lines = Vec::new();
        more(&mut lines, 3, 2, "interview", PLAIN);
        more(&mut lines, 4, 2, "interview", PLAIN);
        more(&mut lines, 2, 2, "interview", PLAIN);
        let said: Vec<_> = lines.iter().map(|line| line.trim()).collect();
        assert_eq!(said, ["and 1 interview more", "and 2 interviews more"]);
    }

    #[test]
    fn an_empty_daemon_says_so() {
        let mut status = busy();
        status.state = DaemonState::Starting;
        status.model = None;
        status.devices.clear();
        status.pool.actors.clear();
        status.queue = Default::default();
        let text = render(&status, PLAIN).join("\n");
        assert!(
            text.contains("model       none is loaded") && text.contains("device      none"),
            "{text}"
        );
        assert!(
            text.contains("0 of 1 actors · 0 of 0 slots busy · 0.0 tokens/s"),
            "{text}"
        );
        assert!(!text.contains("oldest"), "{text}");
    }

    #[test]
    fn blocks_show_each_slot_or_their_shares() {
        let mut actor = busy().pool.actors.remove(0);
        assert_eq!(blocks(&actor), "██████████████▒▒▒░░░");
        actor.slots = 64;
        actor.slots_busy = 64;
        actor.slot_table.clear();
        assert_eq!(blocks(&actor), "█".repeat(32));
        actor.slots = 0;
        assert_eq!(blocks(&actor), "");
    }
}
