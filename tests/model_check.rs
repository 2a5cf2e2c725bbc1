//! `interviewd model check`: the demo model passes; every damaged folder gets a verdict of its own, and none of them success.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use serde_json::{Value, json};

use common::model_files::{copied_model, edit_manifest, forge};
use common::{World, eventually, repository};

/// The steps in their order, as programs read them.
const STEPS: [&str; 14] = [
    "manifest",
    "files",
    "tokenizer",
    "markers",
    "answers",
    "level",
    "prompts",
    "plan",
    "runtime",
    "graph",
    "memory",
    "query_tile",
    "logits",
    "scoring",
];

/// What a check came to.
#[derive(Debug)]
struct Checked {
    code: Option<i32>,
    shown: Value,
}

fn command(world: &World, folder: &Path, more: &[&str]) -> Command {
    let mut command = world.command(&["model", "check"]);
    command.arg(folder).args(more);
    command
}

fn ended(output: Output) -> Checked {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.is_empty(), "everything is said on standard output: {stderr}");
    let shown: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
    let text = shown.to_string();
    assert!(!text.contains("panicked"), "{text}");
    Checked {
        code: output.status.code(),
        shown,
    }
}

fn checked(world: &World, folder: &Path, more: &[&str]) -> Checked {
    ended(command(world, folder, &[more, &["--json"]].concat()).output().unwrap())
}

impl Checked {
    fn steps(&self) -> impl Iterator<Item = &Value> {
        self.shown["checks"].as_array().unwrap().iter()
    }

    fn step(&self, name: &str) -> &Value {
        let found = self.steps().find(|step| step["check"] == name);
        found.unwrap_or_else(|| panic!("{name} is not in {self:?}"))
    }

    fn with_status(&self, status: &str) -> Vec<&str> {
        let those = self.steps().filter(|step| step["status"] == status);
        those.map(|step| step["check"].as_str().unwrap()).collect()
    }

    /// Not usable, for one reason, which lies there and has these words.
    fn assert_error(&self, step: &str, fault: &str, words: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.shown["usable"], false, "{self:?}");
        assert_eq!(self.with_status("error"), [step], "{self:?}");
        let error = self.step(step);
        assert_eq!(error["fault"], fault, "{error}");
        let text = error["text"].as_str().unwrap();
        words
            .iter()
            .for_each(|word| assert!(text.contains(word), "{word} is not in: {text}"));
        let verdict = self.shown["verdict"].as_str().unwrap();
        assert!(verdict.starts_with("Not usable"), "{verdict}");
        assert_eq!(verdict.contains("here and now"), fault == "here", "{verdict}");
    }
}

/// The verdict on the demo model after a damage.
fn damaged(damage: impl FnOnce(&Path)) -> Checked {
    let world = World::demo();
    let model = copied_model(&world);
    damage(&model);
    checked(&world, &model, &[])
}

/// As [`damaged`], by other fields in model.json.
fn misdescribed(edit: impl FnOnce(&mut Value)) -> Checked {
    damaged(|model| edit_manifest(model, edit))
}

/// As [`damaged`], by another tokenizer, whose hash is right.
fn retokenized(edit: impl FnOnce(&mut Value)) -> Checked {
    damaged(|model| {
        let text = std::fs::read_to_string(model.join("tokenizer.json")).unwrap();
        let mut tokenizer = serde_json::from_str(&text).unwrap();
        edit(&mut tokenizer);
        forge(model, "tokenizer.json", tokenizer.to_string().as_bytes());
    })
}

/// Every file below a folder, with what would show that it was written.
fn files(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, u64)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.metadata().unwrap();
        files.insert(path.clone(), (metadata.modified().unwrap(), metadata.len()));
        if metadata.is_dir() {
            files.extend(self::files(&path));
        }
    }
    files
}

#[test]
fn the_demo_model_passes_and_nothing_is_changed() {
    let world = World::demo();
    let model = copied_model(&world);
    let before = files(world.folder.path());
    let checked = checked(&world, &model, &[]);
    assert_eq!(files(world.folder.path()), before);
    assert_eq!((checked.code, checked.shown["usable"].as_bool()), (Some(0), Some(true)));
    let steps: Vec<_> = checked.steps().map(|step| step["check"].as_str().unwrap()).collect();
    assert_eq!(steps, STEPS);
    assert_eq!(checked.with_status("ok"), STEPS, "{checked:?}");
    assert_eq!(checked.step("manifest")["facts"]["name"], "interviewd-demo");
    assert_eq!(checked.step("query_tile")["facts"]["query_tile_tokens"], 64);
    let memory = &checked.step("memory")["facts"];
    for fact in ["weights_bytes", "slot_bytes", "slots", "held_bytes"] {
        assert!(memory[fact].as_u64().unwrap() > 0, "{fact}: {memory}");
    }
    let scoring = &checked.step("scoring")["facts"];
    let written = scoring["output_tokens"].as_u64().unwrap();
    assert!(
        written > 0 && written <= scoring["output_tokens_max"].as_u64().unwrap(),
        "{scoring}"
    );
}

#[test]
fn people_get_a_line_for_each_step_and_a_sentence_at_the_end() {
    let world = World::demo();
    let output = command(&world, &repository().join("models/demo"), &[])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let begin: Vec<_> = text.lines().filter(|line| line.starts_with("ok ")).collect();
    assert_eq!(begin.len(), STEPS.len(), "{text}");
    let verdict = text.trim_end().lines().next_back().unwrap();
    assert!(
        verdict.starts_with("Usable: this model can score answers here, "),
        "{text}"
    );
    assert!(verdict.ends_with(" at once."), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn without_a_folder_the_one_of_the_configuration_is_meant() {
    let world = World::demo();
    world.configure("model.path = \"nowhere\"");
    let output = world.command(&["model", "check", "--json"]).output().unwrap();
    let checked = ended(output);
    assert_eq!(checked.shown["path"], "nowhere");
    checked.assert_error("manifest", "model", &["nowhere", "no such model folder"]);
    let wrong = world
        .command(&["model", "check", "--set", "pool.slots=1"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(78));
}

#[test]
fn a_folder_that_is_missing() {
    let missing = damaged(|model| std::fs::remove_dir_all(model).unwrap());
    missing.assert_error("manifest", "model", &["model", "no such model folder"]);
    assert_eq!(missing.with_status("skipped"), STEPS[1..]);
}

#[test]
fn a_folder_without_model_json() {
    let without = damaged(|model| std::fs::remove_file(model.join("model.json")).unwrap());
    without.assert_error("manifest", "model", &["has no model.json", "tools/export"]);
}

#[test]
fn a_model_json_that_is_no_json() {
    let cut = damaged(|model| {
        let path = model.join("model.json");
        let text = std::fs::read(&path).unwrap();
        std::fs::write(path, &text[..text.len() / 2]).unwrap();
    });
    cut.assert_error(
        "manifest",
        "model",
        &["model.json", "not JSON", "export the model again"],
    );
}

#[test]
fn a_model_json_of_a_newer_format() {
    let newer = misdescribed(|manifest| manifest["format_version"] = json!(9));
    newer.assert_error("manifest", "model", &["format_version is 9", "reads 1"]);
}

#[test]
fn fields_that_are_unknown_missing_or_of_the_wrong_kind_are_named_by_their_paths() {
    let unknown = misdescribed(|manifest| manifest["files"]["model.onnx"]["colour"] = json!(1));
    unknown.assert_error("manifest", "model", &["files.model.onnx", "`colour`", "does not know"]);
    let missing =
        misdescribed(|manifest| drop(manifest["special_tokens"]["user"].as_object_mut().unwrap().remove("id")));
    missing.assert_error("manifest", "model", &["special_tokens.user", "missing field `id`"]);
    let wrong = misdescribed(|manifest| manifest["layers"] = json!("six"));
    wrong.assert_error("manifest", "model", &["layers: invalid type"]);
}

#[test]
fn weights_that_are_missing_or_cut() {
    let missing = damaged(|model| std::fs::remove_file(model.join("model.onnx.data")).unwrap());
    missing.assert_error(
        "files",
        "model",
        &["model.onnx.data", "7754752 bytes", "nothing that can be read"],
    );
    assert!(missing.with_status("ok").contains(&"prompts"), "{missing:?}");
    assert_eq!(
        missing.with_status("skipped"),
        ["graph", "memory", "query_tile", "logits", "scoring"]
    );
    let cut = damaged(|model| {
        let weights = std::fs::File::options()
            .append(true)
            .open(model.join("model.onnx.data"));
        weights.unwrap().set_len(1_000).unwrap();
    });
    cut.assert_error("files", "model", &["model.onnx.data", "7754752 bytes", "1000 bytes"]);
}

#[test]
fn a_byte_that_was_flipped_in_the_weights() {
    let flipped = damaged(|model| {
        let path = model.join("model.onnx.data");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[1_000_000] ^= 1;
        std::fs::write(path, bytes).unwrap();
    });
    flipped.assert_error(
        "files",
        "model",
        &["model.onnx.data", "SHA-256", "copy the model folder again"],
    );
}

#[test]
fn several_files_that_are_not_as_listed_are_all_named() {
    let several = damaged(|model| {
        std::fs::remove_file(model.join("tokenizer.json")).unwrap();
        std::fs::write(model.join("model.onnx"), "short").unwrap();
    });
    several.assert_error(
        "files",
        "model",
        &["model.onnx", "Nor are these as listed: tokenizer.json"],
    );
    assert!(several.with_status("skipped").contains(&"tokenizer"), "{several:?}");
}

#[test]
fn a_tokenizer_of_another_vocabulary() {
    let other = retokenized(|tokenizer| {
        let more = json!({"id": 8_192, "content": "<|tool|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": false});
        tokenizer["added_tokens"].as_array_mut().unwrap().push(more);
    });
    other.assert_error("tokenizer", "model", &["8193 tokens", "the model only 8192", "export"]);
    // The graph is looked at all the same.
    assert!(other.with_status("ok").contains(&"logits"), "{other:?}");
    assert!(other.with_status("skipped").contains(&"scoring"), "{other:?}");
}

#[test]
fn markers_that_are_not_special_or_not_where_model_json_has_them() {
    let plain = retokenized(|tokenizer| tokenizer["added_tokens"][4]["special"] = json!(false));
    plain.assert_error("markers", "model", &["marker", "special token"]);
    let gone = retokenized(|tokenizer| drop(tokenizer["added_tokens"].as_array_mut().unwrap().remove(4)));
    gone.assert_error("markers", "model", &["marker", "special token"]);
    let elsewhere = misdescribed(|manifest| manifest["special_tokens"]["pad"]["id"] = json!(5));
    elsewhere.assert_error("markers", "model", &["\"[PAD]\"", "should be the one token 5"]);
}

#[test]
fn a_chat_template_that_leaves_a_message_out() {
    let deaf = damaged(|model| {
        forge(
            model,
            "chat_template.jinja",
            b"[|user|]{{ messages[1].content }}[|assistant|]",
        )
    });
    deaf.assert_error("markers", "model", &["chat template leaves out one of the messages"]);
}

#[test]
fn a_context_that_is_too_short_for_a_slot() {
    let short = misdescribed(|manifest| manifest["context_tokens"] = json!(1_024));
    short.assert_error(
        "prompts",
        "model",
        &["context of 1024 tokens", "a slot of 2176", "--context 2176"],
    );
}

#[test]
fn a_graph_of_another_shape_than_model_json_says() {
    let other = misdescribed(|manifest| manifest["kv_heads"] = json!(4));
    other.assert_error(
        "graph",
        "model",
        &["past_key_values.0.key", "[-1, 4, -1, 32]", "export the model again"],
    );
    let deeper = misdescribed(|manifest| manifest["layers"] = json!(7));
    deeper.assert_error("graph", "model", &["it has no past_key_values.6.key"]);
}

#[test]
fn a_graph_that_is_none_or_only_half_of_one() {
    let letter = damaged(|model| forge(model, "model.onnx", b"Dear sir or madam"));
    letter.assert_error("graph", "model", &["model.onnx", "cannot be loaded on cpu"]);
    let half = damaged(|model| {
        let graph = std::fs::read(model.join("model.onnx")).unwrap();
        forge(model, "model.onnx", &graph[..graph.len() / 2]);
    });
    half.assert_error("graph", "model", &["model.onnx", "cannot be loaded on cpu"]);
}

#[test]
fn weights_that_are_too_few_for_the_graph() {
    let few = damaged(|model| forge(model, "model.onnx.data", &[0; 1_000]));
    few.assert_error("graph", "model", &["model.onnx", "cannot be loaded on cpu"]);
}

#[test]
fn a_query_tile_that_does_not_hold_here() {
    for claimed in [128_u64, 100_000] {
        let wrong = misdescribed(|manifest| manifest["query_tile_tokens"] = json!(claimed));
        wrong.assert_error("query_tile", "model", &[&claimed.to_string(), "to 64"]);
    }
}

#[test]
fn weights_that_are_no_numbers() {
    let spoiled = damaged(|model| forge(model, "model.onnx.data", &vec![0xFF; 7_754_752]));
    spoiled.assert_error("logits", "model", &["not finite numbers", "export the model again"]);
    assert_eq!(spoiled.with_status("skipped"), ["scoring"]);
}

#[test]
fn a_model_that_is_fine_but_too_large_for_the_memory_here() {
    let world = World::demo();
    let demo = repository().join("models/demo");
    let large = checked(&world, &demo, &["--set", "pool.memory_budget_mib=1"]);
    large.assert_error("plan", "here", &["cannot hold the model", "memory_budget_mib", "MiB"]);
    let plan = world
        .command(&["plan", "--set", "pool.memory_budget_mib=1", "--set"])
        .arg(format!("model.path={}", demo.display()))
        .output()
        .unwrap();
    let said = String::from_utf8(plan.stderr).unwrap();
    assert_eq!(plan.status.code(), Some(1));
    let text = large.step("plan")["text"].as_str().unwrap();
    // What is free changes from one moment to the next.
    let without_figures = |text: &str| text.replace(|c: char| c.is_ascii_digit() || c == ',', "");
    assert!(
        without_figures(&said).contains(&without_figures(text)),
        "{said} does not say {text}"
    );
}

#[test]
fn an_onnx_runtime_that_is_not_there_is_no_fault_of_the_model() {
    let world = World::demo();
    let without = checked(
        &world,
        &repository().join("models/demo"),
        &["--set", "runtime.library=lib/libonnxruntime.so"],
    );
    without.assert_error("runtime", "here", &["runtime.library", "lib/libonnxruntime.so"]);
}

#[test]
fn a_simulated_model_is_warned_of() {
    let world = World::simulated(0);
    let pretended = checked(&world, &world.path("model"), &[]);
    assert_eq!(
        (pretended.code, pretended.shown["usable"].as_bool()),
        (Some(0), Some(true))
    );
    assert_eq!(pretended.with_status("warning"), ["runtime"], "{pretended:?}");
    assert!(pretended.with_status("ok").contains(&"scoring"), "{pretended:?}");
    assert!(
        pretended.shown["verdict"]
            .as_str()
            .unwrap()
            .contains("mind the warnings"),
        "{pretended:?}"
    );
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_crash_while_the_model_runs_is_an_error_of_that_step_and_never_success() {
    for (signal, word) in [("-ABRT", "signal: 6"), ("-KILL", "memory runs out")] {
        let world = World::simulated(600_000);
        let mut command = command(&world, &world.path("model"), &[]);
        let mut parent = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(parent.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        // The last step before the model runs, which it does for ten minutes at a time.
        lines.find(|line| line.contains("runtime")).unwrap();
        let child = children(parent.id())[0];
        eventually("the model runs", || {
            let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap();
            status.contains("State:\tS").then_some(())
        });
        let killed = Command::new("kill").args([signal, &child.to_string()]).status();
        assert!(killed.unwrap().success());
        let rest: Vec<_> = lines.collect();
        let text = rest.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        for word in ["error logits", word, "scoring: not looked at", "Not usable"] {
            assert!(text.contains(word), "{word} is not in: {text}");
        }
        assert_eq!(parent.wait().unwrap().code(), Some(1));
    }
}

#[test]
fn whoever_looks_ends_with_who_asked() {
    let world = World::simulated(600_000);
    let mut command = command(&world, &world.path("model"), &[]);
    let mut parent = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let child = eventually("it looks", || children(parent.id()).first().copied());
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("the process that looked has ended", || {
        let status = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        (status.is_empty() || status.contains(") Z ")).then_some(())
    });
}
