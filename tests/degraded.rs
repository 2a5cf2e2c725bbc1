//! Without a model the daemon is up and says exactly why; what it accepts is held, and `config.reload` sets it to work.

mod common;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use common::model_files::{copied_model, forge, hash_of};
use common::{Client, Daemon, World, eventually, interview};

/// A world whose `config.toml` says which model, device and runtime there are.
fn configurable(world: World) -> World {
    let world = world.unset("model.path").unset("pool.device");
    configure(&world, "");
    world
}

/// `config.toml` with more lines of `section.key = value`.
fn configure(world: &World, more: &str) {
    world.configure(&format!("model.path = \"model\"\n{more}\n"));
}

fn until_degraded(client: &mut Client) -> String {
    let status = eventually("the daemon is degraded", || {
        let status = client.call("status", json!({})).unwrap();
        assert_ne!(status["state"], "ready", "{status}");
        (status["state"] == "degraded").then_some(status)
    });
    status["reason"].as_str().unwrap().to_owned()
}

/// Degraded for a reason that has all of these words; an interview is accepted and held; after `repair` and a reload it gets its report.
fn assert_held_until_repaired(world: &World, words: &[&str], repair: impl FnOnce()) {
    let daemon = world.start();
    let mut client = daemon.connect();
    let reason = until_degraded(&mut client);
    words
        .iter()
        .for_each(|word| assert!(reason.contains(word), "{word} is not in: {reason}"));
    let accepted = client
        .call(
            "interview.submit",
            json!({"interview": interview("held", &["저는 백엔드 개발자입니다.", "30% 개선했습니다."])}),
        )
        .unwrap();
    assert_eq!(
        (&accepted["state"], &accepted["created"]),
        (&json!("scoring"), &json!(true)),
        "{accepted}"
    );
    assert_eq!(
        client
            .call("report.get", json!({"interview_id": "held"}))
            .unwrap_err()
            .kind(),
        "not_ready"
    );
    let status = client.call("status", json!({})).unwrap();
    assert_eq!(
        (&status["interviews"]["scoring"], &status["state"]),
        (&json!(1), &json!("degraded")),
        "{status}"
    );
    repair();
    client.call("config.reload", json!({})).unwrap();
    let report = client.wait_for_report("held");
    assert_eq!(
        (&report["status"], report["answers"].as_array().unwrap().len()),
        (&json!("complete"), 2)
    );
    let status = client.call("status", json!({})).unwrap();
    let hash = hash_of(&std::fs::read(world.path("model/model.json")).unwrap());
    assert_eq!(
        (&status["model"]["hash"], &report["provenance"]["model"]["hash"]),
        (&json!(hash), &json!(hash))
    );
    assert_eq!(
        (&status["state"], &status["reason"]),
        (&json!("ready"), &Value::Null),
        "{status}"
    );
}

#[test]
fn a_missing_model_folder() {
    let world = configurable(World::simulated(0));
    std::fs::rename(world.path("model"), world.path("elsewhere")).unwrap();
    assert_held_until_repaired(&world, &["model", "no such model folder"], || {
        std::fs::rename(world.path("elsewhere"), world.path("model")).unwrap();
    });
}

#[test]
fn a_model_path_that_is_corrected_in_the_file() {
    let world = configurable(World::simulated(0));
    world.configure("model.path = \"nowhere\"");
    assert_held_until_repaired(&world, &["nowhere"], || configure(&world, ""));
}

#[test]
fn truncated_weights() {
    let world = configurable(World::demo());
    let weights = copied_model(&world).join("model.onnx.data");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let sizes = [whole.len().to_string(), (whole.len() / 2).to_string()];
    let words = ["model.onnx.data", &sizes[0], &sizes[1]];
    assert_held_until_repaired(&world, &words, || std::fs::write(&weights, &whole).unwrap());
}

#[test]
fn weights_of_another_hash() {
    let world = configurable(World::demo());
    let weights = copied_model(&world).join("model.onnx.data");
    let whole = std::fs::read(&weights).unwrap();
    let mut flipped = whole.clone();
    flipped[1_000_000] ^= 1;
    std::fs::write(&weights, &flipped).unwrap();
    let words = ["model.onnx.data", "SHA-256"];
    assert_held_until_repaired(&world, &words, || std::fs::write(&weights, &whole).unwrap());
}

#[test]
fn a_tokenizer_that_is_none() {
    let world = configurable(World::demo());
    forge(
        &copied_model(&world),
        "tokenizer.json",
        b"{\"version\": \"1.0\", \"model\": {}}",
    );
    assert_held_until_repaired(&world, &["tokenizer"], || drop(copied_model(&world)));
}

#[test]
fn a_tokenizer_of_another_model() {
    let world = configurable(World::demo());
    let model = copied_model(&world);
    let own = std::fs::read_to_string(model.join("tokenizer.json")).unwrap();
    let other = own.replace("[|endofturn|]", "<|im_end|>");
    assert_ne!(own, other);
    forge(&model, "tokenizer.json", other.as_bytes());
    assert_held_until_repaired(&world, &["marker of the chat template"], || drop(copied_model(&world)));
}

#[test]
fn a_tokenizer_that_was_exchanged() {
    let world = configurable(World::demo());
    let tokenizer = copied_model(&world).join("tokenizer.json");
    let own = std::fs::read(&tokenizer).unwrap();
    let mut other = own.clone();
    let place = other.windows(4).position(|bytes| bytes == b"true").unwrap();
    other[place..place + 4].copy_from_slice(b"TRUE");
    std::fs::write(&tokenizer, &other).unwrap();
    let words = ["tokenizer.json", "SHA-256"];
    assert_held_until_repaired(&world, &words, || std::fs::write(&tokenizer, &own).unwrap());
}

#[test]
fn a_chat_template_that_is_none() {
    let world = configurable(World::demo());
    forge(&copied_model(&world), "chat_template.jinja", b"{% for message in %}");
    assert_held_until_repaired(&world, &["template"], || drop(copied_model(&world)));
}

#[test]
fn a_manifest_that_is_none() {
    let world = configurable(World::demo());
    std::fs::write(copied_model(&world).join("model.json"), "{\"format_version\": 1").unwrap();
    assert_held_until_repaired(&world, &["model.json"], || drop(copied_model(&world)));
}

#[test]
fn a_graph_that_is_none() {
    let world = configurable(World::demo());
    forge(&copied_model(&world), "model.onnx", b"this is not a graph");
    assert_held_until_repaired(&world, &["model.onnx"], || drop(copied_model(&world)));
}

#[test]
fn weights_that_the_graph_cannot_use() {
    let world = configurable(World::demo());
    forge(&copied_model(&world), "model.onnx.data", &[0; 1_000]);
    assert_held_until_repaired(&world, &["model.onnx"], || drop(copied_model(&world)));
}

#[test]
fn too_little_memory() {
    let world = configurable(World::demo());
    copied_model(&world);
    configure(&world, "pool.memory_budget_mib = 1");
    assert_held_until_repaired(&world, &["MiB", "memory_budget_mib"], || configure(&world, ""));
}

#[test]
fn memory_that_is_all_set_aside_for_others() {
    let world = configurable(World::demo());
    copied_model(&world);
    configure(&world, "pool.memory_reserve_mib = 16777216");
    assert_held_until_repaired(&world, &["MiB", "memory_reserve_mib"], || configure(&world, ""));
}

#[test]
fn more_slots_than_memory_holds() {
    let world = configurable(World::demo());
    copied_model(&world);
    configure(&world, "pool.slots_per_actor = 256\npool.memory_budget_mib = 500");
    let words = ["pool.slots_per_actor = 256", "does not fit", "at most"];
    assert_held_until_repaired(&world, &words, || configure(&world, ""));
}

#[test]
fn no_card_for_cuda() {
    if Path::new("/dev/nvidia0").exists() {
        eprintln!("not tested: there is a card");
        return;
    }
    let world = configurable(World::demo());
    copied_model(&world);
    configure(&world, "pool.device = \"cuda\"");
    assert_held_until_repaired(&world, &["cuda"], || configure(&world, "pool.device = \"cpu\""));
}

#[test]
fn an_onnx_runtime_that_is_not_there() {
    let world = configurable(World::demo());
    copied_model(&world);
    configure(&world, "runtime.library = \"lib/libonnxruntime.so\"");
    let words = ["runtime.library", "lib/libonnxruntime.so"];
    assert_held_until_repaired(&world, &words, || configure(&world, ""));
}

#[test]
fn an_onnx_runtime_that_is_a_letter() {
    let world = configurable(World::demo());
    copied_model(&world);
    std::fs::write(world.path("letter.so"), "Dear sir or madam").unwrap();
    configure(&world, "runtime.library = \"letter.so\"");
    assert_held_until_repaired(&world, &["letter.so"], || configure(&world, ""));
}

#[test]
fn a_disk_that_does_not_answer() {
    let world = World::simulated(0).set("runtime.step_timeout_s=1");
    let file = world.path("model/simulated.json");
    let text = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    // Whoever reads it waits until somebody writes it.
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let daemon = world.start();
    let mut client = daemon.connect();
    let reason = until_degraded(&mut client);
    assert!(
        reason.contains("for more than 2 s (twice runtime.step_timeout_s)") && reason.contains("may not answer"),
        "{reason}"
    );
    let held = interview("held", &["저는 백엔드 개발자입니다."]);
    client.call("interview.submit", json!({"interview": held})).unwrap();
    std::fs::write(&file, text).unwrap();
    assert_eq!(client.wait_for_report("held")["status"], "complete");
    let status = client.call("status", json!({})).unwrap();
    assert_eq!((&status["state"], &status["reason"]), (&json!("ready"), &Value::Null));
}

#[test]
fn what_is_held_is_still_there_after_a_restart_and_a_kill() {
    let world = configurable(World::simulated(0));
    world.configure("model.path = \"nowhere\"");
    let daemon = world.start();
    let mut client = daemon.connect();
    until_degraded(&mut client);
    client
        .call(
            "interview.submit",
            json!({"interview": interview("held", &["저는 백엔드 개발자입니다."])}),
        )
        .unwrap();
    daemon.signal("-TERM");
    assert!(daemon.wait().success());
    let daemon = world.start();
    until_degraded(&mut daemon.connect());
    daemon.kill();
    configure(&world, "");
    let report = world.start_ready().connect().wait_for_report("held");
    assert_eq!(report["status"], "complete");
}

fn actor_slots(client: &mut Client) -> Vec<u64> {
    let status = client.call("status", json!({})).unwrap();
    let actors = status["pool"]["actors"].as_array().unwrap();
    let here = actors.iter().filter(|actor| actor["state"] == "ready");
    here.map(|actor| actor["slots"].as_u64().unwrap()).collect()
}

fn reload(daemon: &Daemon) -> Value {
    daemon.connect().call("config.reload", json!({})).unwrap()
}

#[test]
fn a_reload_changes_the_limit_of_the_queue_and_a_bad_file_changes_nothing() {
    let world = configurable(World::simulated(0));
    let held = |max: u32| world.configure(&format!("model.path = \"nowhere\"\nqueue.max_queued_answers = {max}"));
    held(4);
    let daemon = world.start();
    let mut client = daemon.connect();
    let mut submit = |id: &str, answers: usize| {
        let texts = vec!["저는 백엔드 개발자입니다."; answers];
        client.call("interview.submit", json!({"interview": interview(id, &texts)}))
    };
    submit("fills", 3).unwrap();
    let busy = submit("too-much", 2).unwrap_err();
    assert_eq!(busy.kind(), "busy");
    assert!(busy.0["data"]["retry_after_ms"].as_u64().unwrap() > 0, "{busy:?}");
    held(5);
    let reloaded = reload(&daemon);
    assert_eq!(
        reloaded,
        json!({"changed": ["queue.max_queued_answers"], "needs_restart": []})
    );
    submit("too-much", 2).unwrap();
    assert_eq!(submit("one-more", 1).unwrap_err().kind(), "busy");

    world.configure("queue.max_queued_answers = 0");
    let mut client = daemon.connect();
    let refused = client.call("config.reload", json!({})).unwrap_err();
    assert_eq!(refused.kind(), "invalid_params");
    assert!(refused.message().contains("queue.max_queued_answers"), "{refused:?}");
    let status = client.call("status", json!({})).unwrap();
    assert_eq!(status["queue"]["max"], 5, "{status}");
}

#[test]
fn a_reload_gives_the_pool_another_size_and_running_answers_are_not_lost() {
    let world = configurable(World::simulated(10)).set("pool.actors=1");
    configure(&world, "pool.slots_per_actor = 2");
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    assert_eq!(actor_slots(&mut client), [2]);
    let texts = ["저는 백엔드 개발자입니다."; 6];
    client
        .call("interview.submit", json!({"interview": interview("iv-1", &texts)}))
        .unwrap();
    configure(&world, "pool.slots_per_actor = 5");
    assert_eq!(reload(&daemon)["changed"], json!(["pool.slots_per_actor"]));
    eventually("there are five slots", || {
        (actor_slots(&mut client) == [5]).then_some(())
    });
    let report = client.wait_for_report("iv-1");
    assert_eq!(report["status"], "complete");
    for answer in report["answers"].as_array().unwrap() {
        assert_eq!(answer["timing"]["attempts"], 1, "nothing was begun twice: {answer}");
    }
    configure(&world, "pool.slots_per_actor = 1");
    reload(&daemon);
    eventually("there is one slot", || (actor_slots(&mut client) == [1]).then_some(()));
    client.report(interview("iv-2", &texts[..2]));
}

#[test]
fn a_reload_says_what_waits_for_a_restart() {
    let world = configurable(World::simulated(0));
    let daemon = world.start_ready();
    configure(&world, "log.level = \"warn\"\ndaemon.drain_s = 3");
    assert_eq!(
        reload(&daemon),
        json!({"changed": ["daemon.drain_s"], "needs_restart": ["log.level"]})
    );
}

#[test]
fn a_model_that_goes_bad_while_another_runs_is_told_and_the_old_one_goes_on() {
    let world = configurable(World::simulated(0));
    let daemon = world.start_ready();
    let mut client = daemon.connect();
    world.configure("model.path = \"nowhere\"");
    reload(&daemon);
    let status = eventually("the daemon is degraded", || {
        let status = client.call("status", json!({})).unwrap();
        (status["state"] == "degraded").then_some(status)
    });
    assert!(status["reason"].as_str().unwrap().contains("nowhere"), "{status}");
    client.call("pool.resize", json!({"slots_per_actor": 3})).unwrap();
    let status = client.call("status", json!({})).unwrap();
    assert!(
        status["reason"].as_str().unwrap_or_default().contains("nowhere"),
        "another plan is no other model: {status}"
    );
    assert_eq!(
        client.report(interview("iv-1", &["저는 백엔드 개발자입니다."]))["status"],
        "complete"
    );
    configure(&world, "");
    reload(&daemon);
    eventually("the daemon is ready", || {
        (client.call("status", json!({})).unwrap()["state"] == "ready").then_some(())
    });
}
