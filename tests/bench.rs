//! `interviewd bench` over the real binary, with the demo model on ONNX Runtime.

mod common;

use std::process::{Command, Output};

use serde_json::Value;

use common::binary;

fn bench(arguments: &[&str]) -> Output {
    Command::new(binary()).arg("bench").args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn two_answers_of_the_demo_model_make_two_tables_a_file_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let (json, plot) = (folder.path().join("bench.json"), folder.path().join("bench.svg"));
    let files = [json.to_str().unwrap(), plot.to_str().unwrap()];
    let output = bench(&[
        "--answers",
        "2",
        "--threads",
        "1",
        "--json",
        files[0],
        "--plot",
        files[1],
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let shown = String::from_utf8(output.stdout).unwrap();
    for words in [
        "Fixed shape: 2 ×",
        "Product:",
        "as serve: all at once",
        "Score as you go",
    ] {
        assert!(shown.contains(words), "{words} is not in: {shown}");
    }
    let rows = shown
        .lines()
        .filter(|line| line.trim_start().starts_with("wall") || line.contains("%"));
    assert_eq!(rows.clone().count(), 2 + 3 + 4 + 1, "{shown}");
    assert!(rows.clone().all(|line| line.chars().count() <= 100), "{shown}");

    let results: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&results["answers"], &results["threads"]), (&2.into(), &1.into()));
    assert_eq!(results["model"]["name"], "interviewd-demo");
    let (fixed, product) = (&results["fixed"], &results["product"]);
    assert_eq!(
        (fixed.as_array().unwrap().len(), product.as_array().unwrap().len()),
        (3, 4)
    );
    for row in fixed.as_array().unwrap().iter().chain(product.as_array().unwrap()) {
        let sample = &row["samples"][0];
        assert!(row["same"].is_null() || row["same"]["equal"] == 2, "{row}");
        assert!(sample["wall_s"].as_f64() >= sample["model_s"].as_f64(), "{row}");
        assert!(sample["memory_peak_bytes"].as_u64() > Some(10 << 20), "{row}");
    }
    assert_eq!(fixed[0]["samples"][0]["reused_tokens"], 0);
    assert!(fixed[2]["samples"][0]["reused_tokens"].as_u64() >= Some(500));

    let picture = std::fs::read_to_string(&plot).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("as serve: all at once"));
    assert!(!picture.contains("@font-face"));
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_anything_is_measured() {
    let output = bench(&["--json", "/nowhere/at/all/bench.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("/nowhere/at/all/bench.json cannot be written"),
        "{}",
        said(&output)
    );
    assert!(!said(&output).contains("loading"), "{}", said(&output));
}

#[test]
fn what_is_not_for_it_is_refused() {
    for (arguments, code, words) in [
        (["--config", "c.toml"], 2, "--config is not for bench"),
        (["--answers", "18"], 2, "1..=17"),
        (["--model", "no/such/folder"], 1, "no/such/folder"),
        (["--device", "cuda"], 1, "cuda"),
    ] {
        let output = bench(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
    }
}
