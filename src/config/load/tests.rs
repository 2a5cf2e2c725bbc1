//! Layers, origins and errors of a configuration, each on files of its own.

use std::error::Error;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use tempfile::TempDir;

use super::*;
use crate::config::difference::needs_restart;
use crate::config::words::{AutoOr, Device};

/// A folder with a `config.toml`, and nothing else to read from.
struct House {
    folder: TempDir,
    source: Source,
}

impl House {
    fn empty() -> Self {
        let folder = TempDir::new().unwrap();
        let source = Source {
            config: None,
            environment: Vec::new(),
            directory: folder.path().to_owned(),
            system_file: folder.path().join("etc.toml"),
            sets: Vec::new(),
        };
        Self { folder, source }
    }

    fn with(text: impl AsRef<[u8]>) -> Self {
        Self::empty().file("config.toml", text)
    }

    fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.source.environment.push((name.into(), value.into()));
        self
    }

    fn set(mut self, text: &str) -> Self {
        self.source.sets.push(text.to_owned());
        self
    }

    fn config(mut self, path: &str) -> Self {
        self.source.config = Some(path.into());
        self
    }

    fn load(&self) -> Loaded {
        load(&self.source).unwrap()
    }

    /// The error and its cause, with the folder's name taken out.
    fn error(&self) -> String {
        let error = load(&self.source).expect_err("must be refused");
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{error}{cause}").replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[test]
fn without_a_file_everything_is_at_its_default() {
    let loaded = House::empty().variable("PATH", "/bin").load();
    assert_eq!((loaded.config.clone(), loaded.file.clone()), (Config::default(), None));
    assert_eq!(loaded.origin("pool.device"), &Origin::Default);
}

#[test]
fn a_stronger_layer_overrides_key_by_key() {
    let house = House::with("[pool]\nactors = 2\nslots_per_actor = 3\nmemory_budget_mib = 4\n")
        .variable("INTERVIEWD__POOL__SLOTS_PER_ACTOR", "5")
        .variable("INTERVIEWD__POOL__MEMORY_BUDGET_MIB", "6")
        .set("pool.memory_budget_mib=7")
        .set("pool.memory_budget_mib=8");
    let loaded = house.load();
    let pool = &loaded.config.pool;
    assert_eq!(
        (pool.actors, pool.slots_per_actor, pool.memory_budget_mib),
        (AutoOr::Value(2), AutoOr::Value(5), AutoOr::Value(8))
    );
    assert_eq!(loaded.file, Some(house.folder.path().join("config.toml")));
    assert!(loaded.origin("pool.actors").to_string().ends_with("config.toml:2"));
    assert_eq!(
        loaded.origin("pool.slots_per_actor").to_string(),
        "INTERVIEWD__POOL__SLOTS_PER_ACTOR"
    );
    assert_eq!(
        loaded.origin("pool.memory_budget_mib").to_string(),
        "--set pool.memory_budget_mib=8"
    );
}

#[test]
fn the_first_file_that_is_named_or_found_is_the_only_one() {
    let drain = |house: &House| house.load().config.daemon.drain_s;
    let house = House::empty().file("etc.toml", "daemon.drain_s = 1");
    assert_eq!(drain(&house), 1);
    let house = house.file("config.toml", "daemon.drain_s = 2");
    assert_eq!(drain(&house), 2);
    let house = house
        .file("variable.toml", "daemon.drain_s = 3")
        .variable("INTERVIEWD_CONFIG", "variable.toml");
    assert_eq!(drain(&house), 3);
    let house = house.file("named.toml", "").config("named.toml");
    assert_eq!(drain(&house), 30, "files are not merged with one another");
    let unset = House::with("daemon.drain_s = 2").variable("INTERVIEWD_CONFIG", "");
    assert_eq!(drain(&unset), 2);
}

#[test]
fn a_named_file_must_be_there() {
    assert_eq!(
        House::with("").config("none.toml").error(),
        "there is no file none.toml, which --config names: correct the path or leave it out"
    );
    assert!(
        House::with("")
            .variable("INTERVIEWD_CONFIG", "none.toml")
            .error()
            .contains("which INTERVIEWD_CONFIG names")
    );
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = House::empty().config(".").error();
    assert!(
        folder.contains("cannot be read") && folder.contains("directory"),
        "{folder}"
    );
    assert!(
        House::with(b"[pool]\n# \xff\n")
            .error()
            .contains("config.toml is not UTF-8")
    );
    let broken = House::with("[pool]\nactors = \n").error();
    assert!(
        broken.contains("config.toml is not TOML") && broken.contains("line 2"),
        "{broken}"
    );
    assert!(
        House::with("[pool]\nactors = 1\nactors = 2\n")
            .error()
            .contains("duplicate")
    );
    assert!(
        House::with(vec![b'#'; (1 << 20) + 1])
            .error()
            .contains("more than 1048576 bytes")
    );
    assert!(
        House::with("[".repeat(100_000)).error().contains("is not TOML"),
        "nor is anything deep"
    );
}

#[test]
fn a_value_outside_a_file_needs_no_quotes() {
    let config = House::empty()
        .set("model.path=/x/y z")
        .set("pool.device=cpu")
        .set("pool.actors=auto")
        .set(" socket.admin_uids = [1000, 1001] ")
        .set("socket.mode=0600")
        .set("socket.own_uid_is_admin=false")
        .set("scoring.rubric=\"a=b.toml\"")
        .set("log.level=info,ort=warn")
        .set("runtime.library=")
        .load()
        .config;
    assert_eq!(config.model.path.to_str(), Some("/x/y z"));
    assert_eq!((config.pool.device, config.pool.actors), (Device::Cpu, AutoOr::Auto));
    assert_eq!(config.socket.admin_uids, [1000, 1001]);
    assert_eq!(config.socket.mode.bits(), 0o600);
    assert!(!config.socket.own_uid_is_admin);
    assert_eq!(config.scoring.rubric, Some("a=b.toml".into()));
    assert_eq!(config.log.level, "info,ort=warn");
    assert_eq!(config.runtime.library, None);
}

#[test]
fn a_text_that_looks_like_another_type_stays_a_text() {
    for text in ["123", "true", "2026-01-31", "inf", "[x]", "1 # 2"] {
        let config = House::empty().set(&format!("model.path={text}")).load().config;
        assert_eq!(config.model.path.to_str(), Some(text));
        let config = House::empty().variable("INTERVIEWD__MODEL__PATH", text).load().config;
        assert_eq!(config.model.path.to_str(), Some(text));
    }
    assert_eq!(
        House::empty().set("socket.mode=660").load().config.socket.mode.bits(),
        0o660
    );
}

#[test]
fn an_unknown_key_is_an_error_wherever_it_stands() {
    assert_eq!(
        House::with("\n[pool]\ndevice = \"cpu\"\nslots = 3\n").error(),
        "config.toml:4: pool.slots is no key of the configuration; its keys are pool.device, pool.actors, \
         pool.slots_per_actor, pool.memory_budget_mib, pool.memory_reserve_mib"
    );
    assert_eq!(
        House::with("device = \"cpu\"").error(),
        "config.toml:1: device is no key of the configuration; did you mean pool.device?"
    );
    assert_eq!(
        House::with("[daemon]\n\n[pol]\ndevice = \"cpu\"").error(),
        "config.toml:3: pol.device is no key of the configuration; did you mean pool.device?"
    );
    assert_eq!(
        House::empty().variable("INTERVIEWD__POOL__DEVISE", "cpu").error(),
        "INTERVIEWD__POOL__DEVISE: pool.devise is no key of the configuration; did you mean INTERVIEWD__POOL__DEVICE?"
    );
    assert_eq!(
        House::empty().set("daemon.drain=1").error(),
        "--set daemon.drain=1: daemon.drain is no key of the configuration; did you mean daemon.drain_s?"
    );
    assert!(
        House::with("[cluster]")
            .error()
            .contains("the sections are daemon, socket")
    );
    assert!(
        House::with("[pool.device]\nx = 1")
            .error()
            .contains("config.toml:1: pool.device cannot be read")
    );
}

#[test]
fn a_section_is_not_a_key() {
    assert_eq!(
        House::with("queue = 3").error(),
        "config.toml:1: queue is a section; its keys are queue.max_queued_answers"
    );
    assert!(
        House::empty()
            .set("queue=3")
            .error()
            .ends_with("its keys are queue.max_queued_answers")
    );
    assert!(
        House::empty()
            .variable("INTERVIEWD__QUEUE", "3")
            .error()
            .contains("is a section")
    );
    assert!(
        House::empty()
            .set("pool.device")
            .error()
            .contains("write it as section.key=value")
    );
}

#[test]
fn only_variables_of_keys_are_looked_at() {
    let house = House::empty()
        .variable("INTERVIEWD_CACHE", "x")
        .variable("INTERVIEWD_SOMETHING", "y")
        .variable("XINTERVIEWD__POOL__DEVISE", "cpu");
    assert_eq!(house.load().config, Config::default());
    assert!(
        House::empty()
            .variable("INTERVIEWD__pool__device", "cpu")
            .error()
            .ends_with("did you mean INTERVIEWD__POOL__DEVICE?")
    );
    let bytes = OsString::from_vec(vec![b'/', 0xff]);
    assert_eq!(
        House::empty().variable("INTERVIEWD__MODEL__PATH", bytes).error(),
        "the environment variable INTERVIEWD__MODEL__PATH is not UTF-8"
    );
}

#[test]
fn a_value_of_the_wrong_type_names_its_place_and_the_default() {
    assert_eq!(
        House::with("[scoring]\nmax_attempts = \"three\"").error(),
        "config.toml:2: scoring.max_attempts cannot be read: invalid type: string \"three\", expected u32 (the default is 3)"
    );
    let device = House::empty().set("pool.device=tpu").error();
    assert!(
        device.starts_with("--set pool.device=tpu: pool.device cannot be read: unknown variant `tpu`"),
        "{device}"
    );
    let uids = House::with("[socket]\nadmin_uids = [1, -2]").error();
    assert!(
        uids.starts_with("config.toml:2: socket.admin_uids[1] cannot be read"),
        "{uids}"
    );
    assert!(
        House::with("socket.mode = 0o660")
            .error()
            .contains("octal digits in quotes, as in \"0660\"")
    );
    assert!(
        House::with("socket.mode = \"0060\"")
            .error()
            .contains("does not let the socket's owner")
    );
    assert!(
        House::empty()
            .set("daemon.drain_s=")
            .error()
            .contains("daemon.drain_s cannot be read")
    );
    assert!(
        House::with("daemon.drain_s = 99999999999999999999")
            .error()
            .contains("config.toml")
    );
}

#[test]
fn a_value_out_of_range_names_its_place() {
    assert_eq!(
        House::with("")
            .variable("INTERVIEWD__POOL__SLOTS_PER_ACTOR", "0")
            .error(),
        "INTERVIEWD__POOL__SLOTS_PER_ACTOR: pool.slots_per_actor is 0, but must be \"auto\" or from 1 to 256"
    );
    assert!(
        House::with("\n\nsocket.line_bytes_max = 100_000_000")
            .error()
            .starts_with("config.toml:3: socket.buffered_bytes_max is 50331648, but must be at least three times socket.line_bytes_max"),
        "the line that somebody wrote is to blame, not the default"
    );
}

#[test]
fn a_description_is_toml_and_says_where_each_value_was_written() {
    let house = House::with("[model]\npath = \"a \\\"b\\\"\"")
        .set("socket.admin_uids=[1, 2]")
        .set("scoring.rubric=a\nb");
    let loaded = house.load();
    let text = loaded.describe();
    assert!(text.contains("drain_s = 30  # default\n"), "{text}");
    assert!(text.contains("config.toml:2\n"), "{text}");
    assert!(
        text.contains("admin_uids = [1, 2]  # --set socket.admin_uids=[1, 2]\n"),
        "{text}"
    );
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), loaded.config);
}

#[test]
fn the_process_gives_only_its_own_variables() {
    let source = Source::of_process(None, vec!["pool.actors=1".into()]);
    assert!(
        source
            .environment
            .iter()
            .all(|(name, _)| name.to_string_lossy().starts_with("INTERVIEWD_"))
    );
}

/// The top-level file, which is documentation as much as configuration.
const SHIPPED: &str = include_str!("../../../config.toml");

#[test]
fn the_shipped_file_says_exactly_the_defaults() {
    let house = House::with(SHIPPED);
    assert_eq!(house.load().config, Config::default());
}

#[test]
fn the_shipped_file_lists_and_explains_every_key() {
    let written: Table = SHIPPED.parse().unwrap();
    let lines: Vec<&str> = SHIPPED.lines().collect();
    for key in keys::keys() {
        let (section, name) = keys::split(key);
        assert!(written[section].get(name).is_some(), "{key} is not in config.toml");
        let header = lines
            .iter()
            .position(|line| *line == format!("[{section}]"))
            .expect(section);
        let place = (header..lines.len())
            .find(|i| lines[*i].starts_with(&format!("{name} = ")))
            .expect(key);
        let comment: Vec<_> = (0..place)
            .rev()
            .map(|i| lines[i])
            .take_while(|line| line.starts_with('#'))
            .collect();
        let comment = comment.into_iter().rev().collect::<Vec<_>>().join(" ");
        assert!(
            comment.to_lowercase().contains("default"),
            "{key} does not say its default"
        );
        assert!(comment.len() > 60, "{key} does not say what it trades");
        let is_live = comment.split_whitespace().any(|word| word == "live");
        assert_eq!(is_live, !needs_restart(key), "{key} and what it says of a reload");
    }
}
