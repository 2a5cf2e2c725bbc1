//! Test: the tables of docs/planning.md are what the planner says.

use std::fmt::Write;

use super::devices::{CARD_TAKEN_ASSUMED, Device, DeviceKind};
use super::explain::grouped;
use super::footprint::{MIB, ModelFootprint};
use super::plan::plan;
use super::samples::{GIB, card, cpu, exaone_1_2b, exaone_2_4b, exaone_7_8b, exaone_7_8b_coarse, input, rounded};
use super::wanted::PoolWanted;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/planning.md");
const BEGIN: &str = "<!-- planner: begin -->\n";
const END: &str = "<!-- planner: end -->\n";

/// Rows whose explanation is printed as well.
const QUOTED: [(&str, &str); 5] = [
    ("6 GiB card", "7.8B"),
    ("6 GiB card", "7.8B, int8 KV, blocks of 128"),
    ("8 GiB card", "7.8B"),
    ("a 24 and a 6 GiB card", "7.8B"),
    ("no card, 32 GiB RAM", "2.4B"),
];

fn sized(index: u32, gib: u64) -> Device {
    card(
        index,
        &format!("{gib} GiB card"),
        gib * GIB,
        gib * GIB - CARD_TAKEN_ASSUMED,
    )
}

fn machines() -> Vec<(String, Vec<Device>)> {
    let mut machines: Vec<_> = [6, 8, 12, 24, 80]
        .map(|gib| (format!("{gib} GiB card"), vec![sized(0, gib)]))
        .into();
    machines.push(("two 12 GiB cards".to_owned(), vec![sized(0, 12), sized(1, 12)]));
    machines.push(("a 24 and a 6 GiB card".to_owned(), vec![sized(0, 24), sized(1, 6)]));
    machines.push(("no card, 32 GiB RAM".to_owned(), Vec::new()));
    machines
}

fn row(machine: &str, cards: &[Device], name: &str, model: &ModelFootprint, sentences: &mut String) -> String {
    let ram = cpu(32 * GIB, 28 * GIB);
    match plan(&input(cards, &ram, model, PoolWanted::default())) {
        Ok(plan) => {
            if QUOTED.contains(&(machine, name)) {
                writeln!(sentences, "- {machine}, {name}: {}", plan.explanation).unwrap();
            }
            let each = |text: &dyn Fn(&super::plan::ActorPlan) -> String| {
                let mut texts: Vec<String> = plan.actors.iter().map(text).collect();
                texts.dedup();
                texts.join(" + ")
            };
            let mib = |bytes: u64| grouped(bytes / MIB);
            format!(
                "| {machine} | {name} | {} | {} | {} | {} | {} | {} | {} |",
                plan.device,
                plan.actors.len(),
                each(&|actor| actor.slots.to_string()),
                each(&|actor| mib(actor.weights_bytes)),
                each(&|actor| mib(actor.workspace_bytes)),
                each(&|actor| mib(actor.kv_bytes)),
                each(&|actor| mib(actor.budget_bytes)),
            )
        }
        Err(error) => {
            writeln!(sentences, "- {machine}, {name}: {error}.").unwrap();
            format!("| {machine} | {name} | – | – | – | – | – | – | – |")
        }
    }
}

/// Where memory is short, what makes more of it as well.
fn models(target: DeviceKind, cards: &[Device]) -> Vec<(&'static str, ModelFootprint)> {
    let mut models = vec![("7.8B", exaone_7_8b(target))];
    if matches!(cards, [card] if card.memory_total <= 8 * GIB) {
        models.push(("7.8B, int8 KV", rounded(exaone_7_8b(target))));
        models.push(("7.8B, int8 KV, blocks of 128", rounded(exaone_7_8b_coarse())));
    }
    models.extend([("2.4B", exaone_2_4b(target)), ("4.0 1.2B", exaone_1_2b(target))]);
    models
}

fn rendered() -> String {
    let mut table =
        "| machine | EXAONE | device | actors | slots each | weights | workspace | slots' memory | may use |\n\
                     |---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    let mut sentences = String::new();
    for (machine, cards) in machines() {
        let target = match cards.is_empty() {
            true => DeviceKind::Cpu,
            false => DeviceKind::Cuda,
        };
        for (name, model) in models(target, &cards) {
            table += &row(&machine, &cards, name, &model, &mut sentences);
            table.push('\n');
        }
    }
    format!("{table}\nSome rows in the planner's own words:\n\n{sentences}")
}

#[test]
fn the_tables_of_the_documentation_are_what_the_planner_says() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the begin marker stands in docs/planning.md");
    let (written, after) = rest.split_once(END).expect("the end marker stands in docs/planning.md");
    let rendered = rendered();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(FILE, format!("{before}{BEGIN}{rendered}{END}{after}")).unwrap();
    } else {
        assert_eq!(
            written, rendered,
            "docs/planning.md is out of date: run `UPDATE_DOCS=1 cargo test --lib plan_table` and read the difference"
        );
    }
}
