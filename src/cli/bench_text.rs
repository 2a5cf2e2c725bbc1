//! A bench for people: what it ran on, both tables, and what follows from them.

use super::output::Look;
use super::text::{bulleted, bytes, fit, pad, pad_left, thousands, wrap};
use crate::bench::Results;
use crate::bench::results::{Row, Same};

const NAME: usize = 26;
/// Of wall, speed-up, tokens/s, ms a step, rows, inside the model, forced, memory, KV, same.
const COLUMNS: [usize; 10] = [9, 7, 7, 8, 6, 7, 7, 10, 10, 9];

/// Lays results out, a line an element.
pub fn render(results: &Results, look: Look) -> Vec<String> {
    let mut lines = header(results, look);
    lines.push(String::new());
    let shape = format!(
        "Fixed shape: {} × [500 shared + 200 own + 200 written tokens]",
        results.answers
    );
    table(&mut lines, &shape, &results.fixed, look);
    for left_out in &results.left_out {
        lines.extend(wrap(left_out, look.columns).iter().map(|line| look.dim(line)));
    }
    lines.push(String::new());
    let product = format!("Product: the bundled interview, {} answers", results.answers);
    table(&mut lines, &product, &results.product, look);
    lines.push(row(&results.narrative, true));
    lines.push(String::new());
    lines.extend(going(results, look));
    lines.extend(
        notes(results)
            .iter()
            .flat_map(|note| wrap(note, look.columns))
            .map(|line| look.dim(&line)),
    );
    lines
}

fn header(results: &Results, look: Look) -> Vec<String> {
    let (machine, model) = (&results.machine, &results.model);
    let mut lines = vec![
        format!("interviewd {} · ONNX Runtime {}", results.version, results.onnxruntime),
        format!(
            "machine  {} · {} cores · {} · {}",
            machine.cpu,
            machine.cores,
            machine.instruction_set,
            bytes(machine.memory_bytes)
        ),
    ];
    if let Some(card) = &machine.card {
        let driver = machine.driver.as_deref().unwrap_or("unknown");
        lines.push(format!("card     {card} · driver {driver}"));
    }
    let parameters = model.parameters as f64 / 1e6;
    lines.push(format!(
        "model    {} · {} · {parameters:.1} million parameters · weights {} · loaded in {:.2} s",
        model.name,
        model.precision,
        bytes(model.weights_bytes),
        results.load_s
    ));
    let slots = results.plan.actors[0].slots;
    let plan = format!(
        "{} threads · {slots} slots. {}",
        results.threads, results.plan.explanation
    );
    lines.extend(bulleted("plan     ", &plan, 0, look.columns));
    lines
}

fn table(lines: &mut Vec<String>, title: &str, rows: &[Row], look: Look) {
    lines.push(look.bold(title));
    let head = [
        "wall", "faster", "tok/s", "ms/step", "rows", "model", "forced", "memory", "KV", "same",
    ];
    lines.push(look.dim(&laid_out("", head.map(str::to_owned))));
    lines.extend(rows.iter().map(|of| row(of, false)));
}

/// `apart`: it is not compared with the table's first row.
fn row(row: &Row, apart: bool) -> String {
    let figures = &row.median;
    let percent = |share: f64| format!("{:.1}%", share * 100.0);
    laid_out(
        &row.name,
        [
            format!("{:.2} s", figures.wall_s),
            if apart {
                String::new()
            } else {
                format!("{:.2}×", figures.speedup)
            },
            format!("{:.0}", figures.tokens_per_s),
            format!("{:.2}", figures.step_s * 1e3),
            format!("{:.1}", figures.rows_per_decode),
            percent(figures.model_share),
            percent(figures.forced_share),
            bytes(figures.card_bytes.unwrap_or(figures.memory_peak_bytes) as u64),
            bytes(row.kv_bytes),
            row.same.as_ref().map_or_else(String::new, same),
        ],
    )
}

fn laid_out(name: &str, cells: [String; 10]) -> String {
    let cells = cells.iter().zip(COLUMNS).map(|(cell, columns)| pad_left(cell, columns));
    let line = pad(name, NAME) + &cells.collect::<String>();
    line.trim_end().to_owned()
}

fn same(same: &Same) -> String {
    format!("{} of {}", same.equal, same.of)
}

fn going(results: &Results, look: Look) -> Vec<String> {
    let going = &results.as_it_goes;
    let text = format!(
        "Score as you go: with an answer every {:.0} s, the report is there {:.2} s after the last one, {:.2} × (that answer alone {:.2} s + narrative {:.2} s); same tokens: {}.",
        going.interval_s,
        going.finish_to_report_s,
        going.ratio,
        going.alone_s,
        going.narrative_s,
        same(&going.same),
    );
    wrap(&text, look.columns)
}

fn notes(results: &Results) -> Vec<String> {
    let memory = match (&results.machine.card, results.memory_peak_is_per_row) {
        (Some(_), _) => "in use on the card",
        (None, true) => "the process's peak in this row",
        (None, false) => "the process's peak since its start",
    };
    let mut notes = vec![format!(
        "tok/s: written tokens. rows: of a joint decode, on average. model: time inside it. memory: {memory}. same: answers with the same tokens as the \
         row that computes alike. Prompts and grammars ({:.2} s) are made before.",
        results.prompts_s
    )];
    if results.runs > 1 {
        notes.push(format!("Medians of {} runs.", thousands(results.runs as u64)));
    }
    notes.extend(results.difference().map(|difference| fit(&difference, 400)));
    notes
}
