//! A bench for people: what it ran on, both tables, and what follows from them.

use super::output::Look;
use super::text::{bulleted, bytes, fit, pad, pad_left, thousands, wrap};
use crate::bench::Results;
use crate::bench::results::{Row, Same, ratio};

/// With the columns, 100 in all.
const NAME: usize = 22;
/// Of wall, speed-up, written tokens, tokens/s, ms a step, rows, inside the model, forced, memory, KV, same.
const COLUMNS: [usize; 11] = [9, 7, 8, 6, 8, 5, 6, 7, 8, 8, 6];

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
        "wall", "faster", "written", "tok/s", "ms/step", "rows", "model", "forced", "memory", "KV", "same",
    ];
    lines.push(look.dim(&laid_out("", head.map(str::to_owned))));
    lines.extend(rows.iter().map(|of| row(of, false)));
}

/// `apart`: it is not compared with the table's first row.
fn row(row: &Row, apart: bool) -> String {
    let figures = &row.median;
    laid_out(
        &row.name,
        [
            format!("{} s", short(figures.wall_s)),
            if apart {
                String::new()
            } else {
                format!("{:.2}×", figures.speedup)
            },
            format!("{:.0}", figures.written_tokens),
            format!("{:.0}", figures.tokens_per_s),
            short(figures.step_s * 1e3),
            format!("{:.1}", figures.rows_per_decode),
            percent(figures.model_share),
            percent(figures.forced_share),
            short_bytes(row.peak_bytes()),
            short_bytes(row.kv_bytes),
            row.same
                .as_ref()
                .map_or_else(String::new, |same| format!("{}/{}", same.equal, same.of)),
        ],
    )
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        whole @ 99.95.. => format!("{whole:.0}%"),
        part => format!("{part:.1}%"),
    }
}

/// At most six characters up to 99,999.
fn short(number: f64) -> String {
    match number {
        ..999.995 => format!("{number:.2}"),
        _ => format!("{number:.0}"),
    }
}

/// At most seven characters.
fn short_bytes(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64 / 1024.0, "KiB");
    for larger in ["MiB", "GiB", "TiB"] {
        if value >= 999.5 {
            (value, unit) = (value / 1024.0, larger);
        }
    }
    match value {
        ..9.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

fn laid_out(name: &str, cells: [String; 11]) -> String {
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
        "Score as you go: with an answer every {:.0} s, the report is there {:.2} s after the last one, {:.2} × (that answer alone {:.2} s + narrative {:.2} s), prompts and grammars included; same tokens: {}.",
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
        (Some(_), _) => "in use on the card, most so far",
        (None, true) => "the process's peak in this row",
        (None, false) => "the process's peak since its start",
    };
    let mut notes = vec![format!(
        "faster: by wall time. written: tokens. tok/s: of the written. rows: of a joint decode, on average. model: time inside it; masks run beside \
         it. memory: {memory}. same: answers with the same tokens as the row that computes alike. Prompts and grammars ({:.2} s) are made before; \
         with them in both, the product's last row would be {:.2}× faster than its first.",
        results.prompts_s, results.speedup_with_prompts
    )];
    notes.extend(
        [&results.fixed, &results.product]
            .into_iter()
            .filter_map(|rows| unequal(rows)),
    );
    notes.extend(above_budget(results));
    if results.runs > 1 {
        notes.push(format!("Medians of {} runs.", thousands(results.runs as u64)));
    }
    notes.extend(results.difference().map(|difference| fit(&difference, 400)));
    notes
}

/// A sentence where rows wrote more or less than the first, so that wall times are not of the same work.
fn unequal(rows: &[Row]) -> Option<String> {
    let (first, others) = rows.split_first()?;
    let written = |row: &Row| row.median.written_tokens;
    let differing = others.iter().filter(|row| written(row) != written(first));
    let named: Vec<_> = differing
        .map(|row| {
            let by_rate = ratio(row.median.tokens_per_s, first.median.tokens_per_s);
            format!("\"{}\" {:.0} (by tok/s {by_rate:.2}×)", row.name, written(row))
        })
        .collect();
    (!named.is_empty()).then(|| {
        format!(
            "Not the same work: \"{}\" wrote {:.0} tokens, {}; forced tokens that go as chunks and those that go one by one may lead to \
             answers of other lengths.",
            first.name,
            written(first),
            named.join(", ")
        )
    })
}

/// A sentence where rows took more memory than the plan may use.
fn above_budget(results: &Results) -> Option<String> {
    let compared = match results.machine.card {
        Some(_) => "what was in use on the card, less what was before the model was loaded",
        None => "the peak of the whole process, with what is no part of the plan",
    };
    let above = results.above_budget();
    let named: Vec<_> = above
        .map(|row| format!("\"{}\" ({})", row.name, bytes(row.peak_bytes())))
        .collect();
    let budget = bytes(results.plan.actors[0].budget_bytes);
    (!named.is_empty()).then(|| {
        format!(
            "Above the {budget} that the plan may use, comparing {compared}: {}.",
            named.join(", ")
        )
    })
}
