//! The check of the house is itself checked: on snippets that break a rule, and on those that only look like it.

use super::{LINES_MAX, violations};

/// What is said of one file, its `//!` line supplied.
fn said(path: &str, code: &str) -> Vec<String> {
    violations(&[(path, &format!("//! Says what it is for.\n{code}"))])
}

fn caught(path: &str, code: &str, words: &str) {
    let said = said(path, code);
    assert!(
        said.iter().any(|line| line.contains(words)),
        "{path}: {code}\nshould say {words:?}, says {said:?}"
    );
}

fn fine(path: &str, code: &str) {
    assert_eq!(said(path, code), Vec::<String>::new(), "{path}: {code}");
}

#[test]
fn a_room_that_is_not_its_own_is_caught_however_it_is_written() {
    let words = "domain may not use engine";
    caught("domain/fold.rs", "use crate::engine::job::Job;", words);
    caught("domain/fold.rs", "fn f(job: &crate::engine::job::Job) {}", words);
    caught(
        "domain/fold.rs",
        "use crate::{domain::ids, engine::{job, model}};",
        words,
    );
    caught("domain/fold.rs", "use super::super::engine;", words);
    caught("domain/mod.rs", "use super::engine::job;", words);
    caught("domain.rs", "pub use super::{engine as e};", words);
    caught("domain/a/b.rs", "type T = super::super::super::engine::T;", words);
    caught(
        "domain/fold.rs",
        "mod inner { use super::super::super::engine::job; }",
        words,
    );
    caught(
        "domain/fold.rs",
        "fn f<T: Into<crate::engine::T>>() where Vec<T>: AsRef<crate::engine::U> {}",
        words,
    );
    caught(
        "domain/fold.rs",
        "impl X for <T as crate::engine::Model>::Out {}",
        words,
    );
    caught(
        "domain/fold.rs",
        "macro_rules! m { () => { $crate::engine::f() } }",
        words,
    );
    caught("domain/fold.rs", "pub(in crate::engine) fn f() {}", words);
    caught(
        "domain/fold.rs",
        "#[cfg(test)] mod tests { use crate::engine::job; }",
        words,
    );
    caught("domain/fold.rs", "use self::super::super::engine;", words);
}

#[test]
fn the_line_of_a_violation_is_named() {
    let said = said(
        "store/mod.rs",
        "/* one\ntwo */\nconst S: &str = \"a\nb\";\n\nuse crate::actors;",
    );
    assert_eq!(said, ["src/store/mod.rs:7: store may not use actors (`crate::actors`)"]);
}

#[test]
fn the_table_goes_one_way() {
    fine(
        "scoring/prompt.rs",
        "use crate::{domain::rubric::Rubric, engine::TokenId};",
    );
    fine(
        "actors/gpu.rs",
        "use crate::{domain, engine, scoring, store, telemetry};",
    );
    fine("scoring/plan.rs", "use crate::engine::model::Shape;");
    caught(
        "hardware/plan.rs",
        "use crate::engine::model::Shape;",
        "hardware may not use engine",
    );
    fine(
        "daemon.rs",
        "use crate::{actors, config, hardware, runtime, socket, store};",
    );
    fine("daemon/parts.rs", "use crate::config::Config;");
    fine("cli/serve.rs", "use crate::daemon; use crate::config::load;");
    fine("main.rs", "use interviewd::cli; fn main() { cli::run(); }");
    caught("engine/job.rs", "use crate::scoring;", "engine may not use scoring");
    caught("runtime/find.rs", "use crate::config;", "runtime may not use config");
    caught("store/mod.rs", "use crate::config::Config;", "store may not use config");
    caught(
        "actors/pool.rs",
        "use crate::hardware::plan;",
        "actors may not use hardware",
    );
    caught(
        "actors/pool.rs",
        "use crate::socket::call;",
        "actors may not use socket",
    );
    caught("socket/server.rs", "use crate::actors;", "socket may not use actors");
    caught("daemon.rs", "use crate::cli;", "daemon may not use cli");
    caught(
        "main.rs",
        "fn main() { interviewd::store::open(); }",
        "main may not use store",
    );
    caught("cli/serve.rs", "use interviewd::daemon;", "calls itself `crate`");
}

#[test]
fn the_whole_house_is_no_room() {
    caught("domain/ids.rs", "use crate::*;", "whole house");
    caught("domain/mod.rs", "use super::*;", "whole house");
    caught("domain/ids.rs", "use crate as house;", "whole house");
    caught("domain/ids.rs", "use crate::{self as house};", "whole house");
    fine("domain/ids.rs", "mod tests { use super::*; }");
    fine(
        "domain/ids.rs",
        "use super::*; pub(crate) fn f() {} pub(super) fn g() {}",
    );
}

#[test]
fn a_room_that_the_table_does_not_know_must_be_entered() {
    caught("web/mod.rs", "", "web is no room");
    caught("helpers.rs", "", "helpers is no room");
}

#[test]
fn what_is_only_said_is_not_used() {
    fine(
        "domain/ids.rs",
        "/// See [`crate::engine`].\n// crate::engine\n/* /* crate::engine */ crate::store */ fn f() {}",
    );
    fine(
        "domain/ids.rs",
        r##"const A: &str = "\"crate::engine"; const B: &str = r#"use " crate::engine; unwrap()"#;"##,
    );
    fine(
        "domain/ids.rs",
        r#"const A: &[u8] = b"sled::x"; const C: char = '"'; const D: char = '\''; fn f<'a>(x: &'a str) {}"#,
    );
    fine(
        "domain/ids.rs",
        "fn f() { let r#type = engine::local(); crate::VERSION; }",
    );
    fine(
        "domain/ids.rs",
        "fn f<'a>(x: &'a u8) -> impl Fn() + use<'a> { a::<u8>::engine::b() }",
    );
}

#[test]
fn a_foreign_crate_stays_in_its_room() {
    caught("domain/ids.rs", "use sled::Db;", "the crate sled belongs to store");
    caught(
        "scoring/mod.rs",
        "fn f() -> ::ort::Result<()> {}",
        "the crate ort belongs to engine/onnx",
    );
    caught(
        "engine/slots.rs",
        "use {std::fmt, ort::session::Session};",
        "the crate ort",
    );
    caught("engine/onnxlike.rs", "use ort;", "the crate ort");
    caught(
        "engine/choice.rs",
        "#[derive(clap::Parser)] struct A;",
        "the crate clap",
    );
    caught("socket/server.rs", "extern crate actix;", "the crate actix");
    caught("hardware/mod.rs", "use zip as z;", "the crate zip");
    fine("engine/onnx.rs", "use ort::session::Session;");
    fine("engine/onnx/session.rs", "use ort::session::Session;");
    fine("runtime/find.rs", "use {zip::ZipArchive, tempfile::TempDir};");
    fine(
        "hardware/mod.rs",
        "use nvml_wrapper::Nvml; fn f() { std::iter::zip(a, b); a.iter().zip(b); sysinfo::System::new(); }",
    );
    fine(
        "store/mod.rs",
        "use sled::Db;\n#[cfg(test)]\nmod tests { use tempfile::TempDir; }",
    );
    fine("domain/ids.rs", "use super::ort::Local; use crate::domain::{sled::X};");
}

#[test]
fn time_is_an_argument_below_the_actors() {
    caught("engine/step.rs", "fn f() { Instant::now(); }", "time is an argument");
    caught(
        "store/mod.rs",
        "fn f() { std::time::SystemTime::now(); }",
        "time is an argument",
    );
    caught(
        "domain/ids.rs",
        "fn f() { let now = Instant::now; jiff::Timestamp::now(); }",
        "time is an argument",
    );
    caught(
        "domain/ids.rs",
        "fn f() { uuid::Uuid::now_v7(); }",
        "time is an argument",
    );
    fine("engine/simulated.rs", "fn f() { std::time::Instant::now(); }");
    fine("actors/gpu.rs", "fn f() { Instant::now(); }");
    fine(
        "engine/step.rs",
        "fn f(now: Instant) {}\n#[cfg(test)]\nmod tests { fn g() { Instant::now(); } }",
    );
}

#[test]
fn habits_are_held_to() {
    caught(
        "store/mod.rs",
        "fn f() { x.unwrap(); }",
        "`unwrap()` stands in tests only",
    );
    caught("store/mod.rs", "fn f() { todo!() }", "unfinished");
    caught("store/mod.rs", "fn f() { unimplemented!(\"later\") }", "unfinished");
    caught("cli/mod.rs", "fn f() { dbg!(1); }", "unfinished");
    caught("store/mod.rs", "fn f() { println!(); }", "only cli and main print");
    caught("engine/onnx.rs", "#[allow(dead_code)] fn f() {}", "dead code");
    caught(
        "engine/slots.rs",
        "fn f() { unsafe { g() } }",
        "`unsafe` stands in one file",
    );
    fine(
        "cli/status.rs",
        "fn f() { println!(\"{}\", 1); x.unwrap_or(2); x.unwrap_or_default(); }",
    );
    fine("engine/onnx/memory.rs", "fn f() { unsafe { g() } }");
    let two = [
        ("engine/onnx/a.rs", "//! A.\nunsafe fn f() {}"),
        ("engine/onnx/b.rs", "//! B.\nunsafe fn f() {}"),
    ];
    assert_eq!(
        violations(&two),
        ["src: one file may hold `unsafe`, these do: engine/onnx/a, engine/onnx/b"]
    );
}

#[test]
fn what_only_tests_see_may_unwrap_and_nothing_after_it() {
    let test = "#[cfg(test)]\nmod tests {\n  fn f() { x.unwrap(); if a { b } }\n}\n";
    fine("store/mod.rs", test);
    caught(
        "store/mod.rs",
        &format!("{test}fn g() {{ x.unwrap(); }}"),
        ":6: `unwrap()`",
    );
    caught(
        "store/mod.rs",
        "#[cfg(test)]\nuse a::b;\nfn g() { x.unwrap(); }",
        ":4: `unwrap()`",
    );
    caught(
        "store/mod.rs",
        "struct S { #[cfg(test)] probe: [u8; 3] }\nfn g() { x.unwrap(); }",
        "`unwrap()`",
    );
    caught(
        "store/mod.rs",
        "#[cfg(not(test))]\nfn g() { x.unwrap(); }",
        "`unwrap()`",
    );
    fine(
        "store/mod.rs",
        "#[cfg(all(test, unix))]\nfn g(a: [u8; 2]) -> [u8; 2] { x.unwrap() }",
    );
    fine("store/mod.rs", "#[test]\n#[ignore = \"slow\"]\nfn g() { x.unwrap() }");
}

#[test]
fn a_file_of_tests_is_known_by_where_it_is_declared() {
    let uses = "//! Of tests.\nfn f() { x.unwrap(); }";
    let declared = ("store/db.rs", "//! Db.\n#[cfg(test)]\nmod tests;\n");
    assert!(violations(&[declared, ("store/db/tests.rs", uses)]).is_empty());
    assert!(violations(&[declared, ("store/db/tests/crash.rs", uses)]).is_empty());
    assert_eq!(
        violations(&[declared, ("store/tests.rs", uses)]).len(),
        1,
        "another module of that name"
    );
    assert_eq!(
        violations(&[("store/db.rs", "//! Db.\nmod tests;\n"), ("store/db/tests.rs", uses)]).len(),
        1
    );
    assert!(violations(&[("store/probe.rs", "//! Probe.\n#![cfg(test)]\nfn f() { x.unwrap(); }")]).is_empty());
}

#[test]
fn a_file_says_what_it_is_for_and_can_be_read_in_a_sitting() {
    assert!(violations(&[("store/mod.rs", "use a::b;\n")])[0].contains("src/store/mod.rs:1: a file begins with"));
    caught("store/mod.rs", &"// more\n".repeat(LINES_MAX), "split it by topic");
    fine("store/mod.rs", &"// more\n".repeat(LINES_MAX - 1));
}

#[test]
fn files_that_are_no_rust_do_not_hang_the_check() {
    for text in [
        "use",
        "use {",
        "use a::{b",
        "use ;",
        "use =",
        "'",
        "r#",
        "r#\"",
        "/*",
        "\"\\",
        "mod a {",
        "}}}",
        "#[cfg(test)]",
        "b'",
    ] {
        said("store/mod.rs", text);
    }
}
