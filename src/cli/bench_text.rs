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
         `faster` of the product's last row would be {:.2}× with them in both.",
        results.prompts_s, results.speedup_with_prompts
    )];
    notes.extend(
        [&results.fixed, &results.product]
            .into_iter()
            .filter_map(|rows| unequal(rows)),
    );
    let above: Vec<_> = results.above_budget().collect();
    let budget = results.plan.actors[0].budget_bytes;
    notes.extend(above_budget(&above, budget, results.machine.card.is_some()));
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
fn above_budget(above: &[&Row], budget: u64, on_card: bool) -> Option<String> {
    let compared = match on_card {
        true => "what was in use on the card, less what was before the model was loaded",
        false => "the peak of the whole process, with what is no part of the plan",
    };
    let named = above
        .iter()
        .map(|row| format!("\"{}\" ({})", row.name, bytes(row.peak_bytes())));
    let named = named.collect::<Vec<_>>().join(", ");
    let budget = bytes(budget);
    (!above.is_empty()).then(|| format!("Above the {budget} that the plan may use, comparing {compared}: {named}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::Figures;

    fn of(name: &str, written_tokens: f64, tokens_per_s: f64) -> Row {
        Row {
            name: name.to_owned(),
            slots: 1,
            kv_bytes: 1_023 << 20,
            median: Figures {
                wall_s: 1_234.2,
                speedup: 12.3,
                written_tokens,
                tokens_per_s,
                step_s: 0.0124,
                rows_per_decode: 16.9,
                model_share: 0.9999,
                forced_share: 0.5,
                memory_peak_bytes: (3u64 << 30) as f64,
                card_bytes: None,
            },
            same: Some(Same {
                with: String::new(),
                equal: 17,
                of: 17,
                first_difference: None,
            }),
            samples: Vec::new(),
        }
    }

    #[test]
    fn cells_of_large_figures_stay_apart_and_in_100_columns() {
        let line = row(&of("at once, none forced", 3_400.0, 12_345.0), false);
        let cells = line.split_whitespace().skip(4).collect::<Vec<_>>().join(" ");
        let expected = "1234 s 12.30× 3400 12345 12.40 16.9 100% 50.0% 3.0 GiB 1.0 GiB 17/17";
        assert_eq!(cells, expected);
        assert_eq!(line.chars().count(), 100);
    }

    #[test]
    fn rows_that_wrote_other_lengths_are_named_with_their_gain_by_rate() {
        let rows = [of("a", 100.0, 10.0), of("b", 100.0, 20.0), of("c", 90.0, 30.0)];
        assert_eq!(unequal(&rows[..2]), None);
        let sentence = unequal(&rows).unwrap();
        assert!(
            sentence.contains("\"a\" wrote 100 tokens, \"c\" 90 (by tok/s 3.00×);"),
            "{sentence}"
        );
    }

    #[test]
    fn rows_above_the_budget_are_named_with_what_is_compared() {
        assert_eq!(above_budget(&[], 1 << 30, true), None);
        let sentence = above_budget(&[&of("a", 1.0, 1.0)], 1 << 30, false).unwrap();
        assert!(
            sentence.contains("Above the 1.0 GiB") && sentence.contains("whole process"),
            "{sentence}"
        );
        assert!(sentence.ends_with("\"a\" (3.0 GiB)."), "{sentence}");
    }
}
