//! A plan for people: devices, actors with what they hold, and the planner's own words.

use super::output::Look;
use super::plan::Shown;
use super::text::{bytes, fit, indented, pad, pad_left, thousands, wrap};
use crate::hardware::devices::{Device, DeviceKind};
use crate::hardware::plan::{ActorPlan, Plan};

/// Lays a plan out, a line an element, none wider than `look.columns`. Why there is none is not part of it: it is the verb's failure.
pub fn render(shown: &Shown, look: Look) -> Vec<String> {
    let model = &shown.model;
    let named = |json: serde_json::Result<String>| json.unwrap_or_default().trim_matches('"').to_owned();
    let text = format!(
        "model    {} · {}, {} KV · weights {} · exported for {}",
        model.name,
        named(serde_json::to_string(&model.precision)),
        named(serde_json::to_string(&model.kv_type)),
        bytes(model.weights_bytes),
        kind(model.target)
    );
    let mut lines = vec![
        fit(&text, look.columns),
        fit(&format!("         {}", model.path), look.columns),
    ];
    lines.extend(
        shown
            .devices
            .iter()
            .map(|device| device_line(device, shown.cards_assumed, look)),
    );
    let told = shown.plan.as_ref().map(|plan| plan.explanation.as_str());
    let told = told.or(shown.problem.as_deref()).unwrap_or_default();
    for note in shown.notes.iter().filter(|note| !told.contains(note.as_str())) {
        lines.extend(indented(note, 9, look.columns).iter().map(|line| look.dim(line)));
    }
    if let Some(plan) = &shown.plan {
        lines.push(String::new());
        planned(&mut lines, plan, look);
    }
    lines
}

fn kind(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Cuda => "cuda",
        DeviceKind::Cpu => "cpu",
    }
}

fn device_line(device: &Device, cards_assumed: bool, look: Look) -> String {
    let free = bytes(device.memory_free);
    let memory = match device.kind {
        DeviceKind::Cuda if cards_assumed => format!("{free} assumed free (size − 300 MiB)"),
        _ => format!("{free} of {} free", bytes(device.memory_total)),
    };
    let name = format!("{}:{} {}", kind(device.kind), device.index, device.name);
    let room = look.columns.saturating_sub(9 + 3 + memory.len());
    format!("device   {} · {memory}", fit(&name, room))
}

fn planned(lines: &mut Vec<String>, plan: &Plan, look: Look) {
    let header = ["device", "slots", "tokens", "weights", "slots' KV", "workspace", "left"];
    lines.push(look.bold(&row(header.map(str::to_owned))));
    for actor in &plan.actors {
        lines.push(row(cells(plan.device, actor)));
    }
    lines.push(String::new());
    lines.extend(wrap(&plan.explanation, look.columns));
}

fn cells(device: DeviceKind, actor: &ActorPlan) -> [String; 7] {
    let used = actor.weights_bytes + actor.kv_bytes + actor.workspace_bytes;
    [
        format!("{}:{}", kind(device), actor.device_index),
        actor.slots.to_string(),
        thousands(u64::from(actor.slot_tokens)),
        bytes(actor.weights_bytes),
        bytes(actor.kv_bytes),
        bytes(actor.workspace_bytes),
        bytes(actor.budget_bytes.saturating_sub(used)),
    ]
}

fn row(cells: [String; 7]) -> String {
    let [device, numbers @ ..] = cells;
    let numbers: Vec<_> = numbers
        .iter()
        .zip([6, 7, 10, 10, 10, 10])
        .map(|(cell, columns)| pad_left(cell, columns))
        .collect();
    format!("{}{}", pad(&device, 8), numbers.join(""))
}

#[cfg(test)]
mod tests {
    use super::super::plan::ShownModel;
    use super::super::text::width;
    use super::*;
    use crate::hardware::footprint::{KvType, Precision};
    use crate::hardware::plan::SlotLimit;

    fn shown() -> Shown {
        let device = Device {
            kind: DeviceKind::Cuda,
            index: 0,
            name: "NVIDIA GeForce GTX 1660 Ti with a name that does not end where the line does".to_owned(),
            memory_total: 6 << 30,
            memory_free: 5 << 30,
            compute_capability: Some((7, 5)),
            uuid: None,
        };
        let actor = ActorPlan {
            device_index: 0,
            device_name: device.name.clone(),
            slots: 9,
            slot_tokens: 1_024,
            narrative_slots: 1,
            narrative_tokens: 2_176,
            narrative_takes: 0,
            weights_bytes: 4 << 30,
            kv_bytes: 512 << 20,
            workspace_bytes: 256 << 20,
            budget_bytes: 5 << 30,
            slot_bytes: 64 << 20,
            narrative_bytes: 128 << 20,
            reserve_bytes: 128 << 20,
            limited_by: SlotLimit::Memory,
        };
        Shown {
            model: ShownModel {
                name: "exaone".to_owned(),
                path: "/models/exaone".to_owned(),
                precision: Precision::Int4,
                kv_type: KvType::Float16,
                target: DeviceKind::Cuda,
                weights_bytes: 4 << 30,
            },
            devices: vec![device],
            cards_assumed: false,
            notes: vec![
                "the driver is old".to_owned(),
                "the second card is too small".to_owned(),
            ],
            plan: Some(Plan {
                device: DeviceKind::Cuda,
                actors: vec![actor],
                explanation: "Nine slots fit, since the driver is old.".to_owned(),
            }),
            problem: None,
        }
    }

    #[test]
    fn a_plan_shows_where_the_memory_goes() {
        let lines = render(
            &shown(),
            Look {
                columns: 80,
                colour: false,
            },
        );
        let text = lines.join("\n");
        for part in [
            "model    exaone · int4, float16 KV · weights 4.0 GiB · exported for cuda",
            "device   slots tokens   weights slots' KV workspace      left",
            "cuda:0       9  1,024   4.0 GiB 512.0 MiB 256.0 MiB 256.0 MiB",
            "Nine slots fit, since the driver is old.",
            "the second card is too small",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert_eq!(text.matches("the driver is old").count(), 1, "said once: {text}");
        assert!(lines.iter().all(|line| width(line) <= 80), "{text}");
    }

    #[test]
    fn without_a_plan_the_devices_are_shown_and_the_reason_is_left_to_the_failure() {
        let mut shown = shown();
        shown.plan = None;
        shown.problem = Some("the card is too small".to_owned());
        shown.cards_assumed = true;
        let text = render(
            &shown,
            Look {
                columns: 80,
                colour: false,
            },
        )
        .join("\n");
        assert!(text.contains("5.0 GiB assumed free (size − 300 MiB)"), "{text}");
        assert!(
            !text.contains("the card is too small") && !text.contains("workspace"),
            "{text}"
        );
    }
}
