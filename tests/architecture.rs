//! The house keeps its order: reads `src/` and fails where a file uses a room, a crate or a habit that is not its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "architecture/source.rs"]
mod source;

use source::{Token, UsedPath, stands_at};

/// Who may use whom: a room, and the rooms whose names may stand in it. A new room needs a line here.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("engine", &[]),
    ("runtime", &[]),
    ("telemetry", &[]),
    ("crash_points", &[]),
    ("scoring", &["domain", "engine"]),
    ("store", &["domain", "crash_points"]),
    ("socket", &["domain"]),
    ("hardware", &[]),
    (
        "actors",
        &["domain", "engine", "scoring", "store", "telemetry", "crash_points"],
    ),
    (
        "config",
        &[
            "domain",
            "engine",
            "runtime",
            "telemetry",
            "scoring",
            "store",
            "socket",
            "hardware",
            "actors",
        ],
    ),
    (
        "daemon",
        &[
            "domain",
            "engine",
            "runtime",
            "telemetry",
            "crash_points",
            "scoring",
            "store",
            "socket",
            "hardware",
            "actors",
            "config",
        ],
    ),
    (
        "bench",
        &[
            "domain",
            "engine",
            "runtime",
            "telemetry",
            "scoring",
            "store",
            "socket",
            "hardware",
            "actors",
            "config",
            "daemon",
        ],
    ),
    (
        "cli",
        &[
            "domain",
            "engine",
            "runtime",
            "telemetry",
            "scoring",
            "store",
            "socket",
            "hardware",
            "actors",
            "config",
            "daemon",
            "bench",
        ],
    ),
    ("main", &["cli", "daemon", "config", "telemetry"]),
];

/// One foreign crate, one room. A place is a room, or a file or folder of one without `.rs`.
const CRATES: &[(&str, &[&str])] = &[
    ("actix", &["actors", "daemon"]),
    ("clap", &["cli", "main"]),
    ("crc32fast", &["store"]),
    ("flate2", &["store"]),
    ("indicatif", &["cli", "main"]),
    ("libc", &["engine/onnx"]),
    ("libloading", &["engine/onnx"]),
    ("listenfd", &["socket"]),
    ("llguidance", &["scoring"]),
    ("minijinja", &["scoring"]),
    ("nvml_wrapper", &["hardware"]),
    ("ort", &["engine/onnx"]),
    ("plotters", &["bench"]),
    ("rayon", &["engine"]),
    ("sled", &["store"]),
    ("sysinfo", &["hardware"]),
    ("tempfile", &["cli", "runtime", "store"]),
    ("tokenizers", &["scoring"]),
    ("toktrie", &["scoring"]),
    ("toktrie_hf_tokenizers", &["scoring"]),
    ("unicode_width", &["cli"]),
    ("zip", &["runtime"]),
];

/// Crates that belong to no room.
const GENERAL: &[&str] = &[
    "indexmap",
    "jiff",
    "rustix",
    "serde",
    "serde_json",
    "serde_path_to_error",
    "sha2",
    "thiserror",
    "tokio",
    "toml",
    "tracing",
    "tracing_subscriber",
    "unicode_normalization",
    "uuid",
];

/// Rooms in which time is an argument.
const TIMELESS: &[&str] = &["domain", "engine", "scoring", "store", "hardware"];

const CLOCKS: &[(&str, &str)] = &[
    ("Instant", "now"),
    ("SystemTime", "now"),
    ("Timestamp", "now"),
    ("Zoned", "now"),
    ("Uuid", "now_v7"),
];

/// The one file that may hold `unsafe` lies here.
const UNSAFE_PLACE: &str = "engine/onnx";

/// What one can read in a sitting is 500; this leaves room for tests.
const LINES_MAX: usize = 700;

/// A file of `src/`.
struct File {
    /// Relative to `src/`, without `.rs`: `engine/onnx/session`.
    path: String,
    text: String,
    tokens: Vec<Token>,
    /// Modules from the crate's root down to the file's own.
    module: Vec<String>,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        let path = path.trim_end_matches(".rs");
        let is_root = matches!(path, "lib" | "main");
        let module = path
            .split('/')
            .filter(|part| *part != "mod" && !is_root)
            .map(str::to_owned)
            .collect();
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tokens: source::tokens(text),
            module,
        }
    }

    fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// Whether the file is this place or lies in it.
    fn is_in(&self, place: &str) -> bool {
        self.path
            .strip_prefix(place)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn at(&self, line: usize, problem: impl std::fmt::Display) -> String {
        format!("src/{}.rs:{line}: {problem}", self.path)
    }
}

/// Everything that is wrong with these files, given by their paths below `src/`.
fn violations(sources: &[(&str, &str)]) -> Vec<String> {
    let mut files: Vec<File> = sources.iter().map(|(path, text)| File::new(path, text)).collect();
    let test_modules: Vec<Vec<String>> = files
        .iter()
        .flat_map(|file| {
            source::test_modules(&file.tokens)
                .into_iter()
                .map(|name| [&file.module[..], &[name]].concat())
        })
        .collect();
    for file in &mut files {
        if test_modules.iter().any(|module| file.module.starts_with(module)) {
            file.tokens.iter_mut().for_each(|token| token.in_test = true);
        }
    }
    let mut found = Vec::new();
    for file in &files {
        check_form(file, &mut found);
        check_words(file, &mut found);
        for path in source::used_paths(&file.tokens, &file.module) {
            found.extend(check_room(file, &path));
            found.extend(check_crate(file, &path));
            found.extend(check_clock(file, &path));
        }
    }
    let unsafe_files: Vec<_> = files
        .iter()
        .filter(|file| has_unsafe(file))
        .map(|file| file.path.as_str())
        .collect();
    if unsafe_files.len() > 1 {
        found.push(format!(
            "src: one file may hold `unsafe`, these do: {}",
            unsafe_files.join(", ")
        ));
    }
    found
}

fn has_unsafe(file: &File) -> bool {
    file.tokens.iter().any(|token| token.text == "unsafe")
}

fn check_form(file: &File, found: &mut Vec<String>) {
    if !file.text.starts_with("//! ") {
        found.push(file.at(1, "a file begins with a `//!` sentence that says what it is for"));
    }
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        found.push(file.at(
            lines,
            format_args!("has more than {LINES_MAX} lines: split it by topic"),
        ));
    }
    if file.path != "lib" && !ROOMS.iter().any(|(room, _)| *room == file.room()) {
        found.push(file.at(
            1,
            format_args!(
                "{} is no room of tests/architecture.rs: say there who it may use",
                file.room()
            ),
        ));
    }
}

/// Words that stand only in certain places.
fn check_words(file: &File, found: &mut Vec<String>) {
    let may_print = matches!(file.room(), "cli" | "main");
    for (i, token) in file.tokens.iter().enumerate() {
        let problem = match token.text.as_str() {
            "unsafe" if !file.is_in(UNSAFE_PLACE) => "`unsafe` stands in one file of engine/onnx only",
            "dead_code" => "dead code is deleted, not allowed",
            _ if token.in_test => continue,
            "unwrap" if stands_at(&file.tokens, i + 1, &["(", ")"]) => {
                "`unwrap()` stands in tests only: return an error, or `expect` an invariant"
            }
            "todo" | "unimplemented" | "dbg" if stands_at(&file.tokens, i + 1, &["!"]) => "this is unfinished",
            "println" | "print" | "eprintln" | "eprint" if !may_print && stands_at(&file.tokens, i + 1, &["!"]) => {
                "only cli and main print: log by `tracing`"
            }
            _ => continue,
        };
        found.push(file.at(token.line, format_args!("{problem} (`{}`)", token.text)));
    }
}

fn check_room(file: &File, path: &UsedPath) -> Option<String> {
    let room = file.room();
    // Only main stands outside of the library and calls it by its name.
    let target = match path.segments[0].as_str() {
        "interviewd" if room == "main" => path.segments[1..].to_vec(),
        "interviewd" => return Some(file.at(path.line, "the library calls itself `crate`")),
        _ => path.in_house()?,
    };
    let (_, allowed) = ROOMS.iter().find(|(name, _)| *name == room)?;
    let Some(target) = target.first().filter(|name| *name != "*") else {
        return Some(file.at(path.line, "reaches for the whole house: name the room"));
    };
    let is_room = ROOMS.iter().any(|(name, _)| name == target);
    if !is_room || target == room || allowed.contains(&target.as_str()) {
        return None;
    }
    Some(file.at(
        path.line,
        format_args!("{room} may not use {target} (`{}`)", path.segments.join("::")),
    ))
}

fn check_crate(file: &File, path: &UsedPath) -> Option<String> {
    let (name, places) = CRATES.iter().find(|(name, _)| *name == path.segments[0])?;
    if path.in_test || places.iter().any(|place| file.is_in(place)) {
        return None;
    }
    Some(file.at(
        path.line,
        format_args!("the crate {name} belongs to {}", places.join(" and ")),
    ))
}

fn check_clock(file: &File, path: &UsedPath) -> Option<String> {
    let reads_a_clock = path
        .segments
        .windows(2)
        .any(|pair| CLOCKS.contains(&(pair[0].as_str(), pair[1].as_str())));
    let may = path.in_test || !TIMELESS.contains(&file.room()) || file.is_in("engine/simulated");
    if !reads_a_clock || may {
        return None;
    }
    Some(file.at(
        path.line,
        format_args!("time is an argument here (`{}`)", path.segments.join("::")),
    ))
}

/// Every `.rs` file below a folder, as path and text.
fn read(folder: &Path, below: &str, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for entry in entries {
        let name = format!(
            "{below}{}",
            entry.file_name().unwrap().to_str().expect("a name in UTF-8")
        );
        if entry.is_dir() {
            read(&entry, &format!("{name}/"), files);
        } else if name.ends_with(".rs") {
            files.push((name, fs::read_to_string(&entry).unwrap()));
        }
    }
}

#[test]
fn the_house_keeps_its_order() {
    let mut files = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    assert!(files.len() > 10, "src/ was not found");
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let found = violations(&files);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_dependency_is_general_or_has_its_rooms() {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    let dependencies: BTreeSet<_> = manifest["dependencies"]
        .as_table()
        .unwrap()
        .keys()
        .map(|name| name.replace('-', "_"))
        .collect();
    let placed = |name: &str| GENERAL.contains(&name) || CRATES.iter().any(|(placed, _)| *placed == name);
    let homeless: Vec<_> = dependencies.iter().filter(|name| !placed(name)).collect();
    assert!(
        homeless.is_empty(),
        "say in tests/architecture.rs where they belong: {homeless:?}"
    );
}

#[path = "architecture/self_tests.rs"]
mod self_tests;
