//! What is typed, and what it is taken for.

use clap::CommandFactory;

use super::*;

fn parsed(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(line.split(' '))
}

#[test]
fn the_command_line_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn global_options_stand_before_or_behind_the_verb() {
    for line in [
        "interviewd --socket /s --set a.b=1 --set c.d=2 status --json",
        "interviewd status --json --set a.b=1 --socket /s --set c.d=2",
    ] {
        let args = parsed(line).unwrap();
        assert_eq!(args.global.socket, Some(PathBuf::from("/s")));
        assert_eq!(args.global.set, ["a.b=1", "c.d=2"]);
        assert!(matches!(args.verb, Verb::Status(Json { json: true })));
    }
}

#[test]
fn every_verb_of_the_contract_is_there() {
    for line in [
        "serve --config F --set pool.device=cpu --log-format json",
        "demo",
        "setup --cuda",
        "submit - --wait --json",
        "submit interview.json",
        "report iv-1 --format markdown",
        "status --json",
        "list --state partial --limit 5 --json",
        "watch",
        "watch iv-1 --json",
        "cancel iv-1",
        "retry iv-1",
        "delete iv-1",
        "plan --json",
        "model check",
        "model check DIR --thorough --json",
        "bench --random bench-0.43b",
        "bench --model M --device cuda --memory-budget 5.5GiB --threads 2 --answers 4 --runs 3 --json F --plot G",
        "export",
        "export -",
        "export F --socket S",
        "import F --dry-run --json",
        "doctor --json",
        "drain",
        "resume",
        "shutdown --timeout 5",
        "config check",
        "config reload --json",
        "help",
        "help config reload",
    ] {
        let refused = parsed(&format!("interviewd {line}")).err();
        let refused = refused.filter(|error| error.kind() != clap::error::ErrorKind::DisplayHelp);
        assert!(refused.is_none(), "{line}: {refused:?}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_can() {
    let error = parsed("interviewd list --state done").unwrap_err().to_string();
    assert!(
        error.contains("open, scoring, reporting, complete, partial, cancelled"),
        "{error}"
    );
    for line in [
        "list --limit 0",
        "list --limit 1001",
        "plan --card nan",
        "bench --model M --random bench-0.43b",
        "bench --random some-preset",
        "bench --answers 0",
        "bench --answers 18",
        "bench --memory-budget 6",
        "bench --memory-budget 0GiB",
        "report",
        "report a --format html",
        "import",
        "export a b",
        "",
    ] {
        assert!(parsed(&format!("interviewd {line}")).is_err(), "{line}");
    }
}

#[test]
fn the_long_help_documents_every_exit_code() {
    let help = Args::command().render_long_help().to_string();
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "10 ", "11 ", "75 ", "78 ", "130 "] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(code)), "{code}");
    }
}
