//! Parses the command line and calls one verb of the library.

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("setup") {
        return;
    }
    args.remove(0);
    let sets = args.into_iter().filter(|a| a != "--set").collect();
    let source = interviewd::config::Source::of_process(None, sets);
    let loaded = interviewd::config::load(&source).unwrap();
    interviewd::telemetry::init(interviewd::telemetry::LogFormat::Text, &loaded.config.log.level, false).unwrap();
    let start = interviewd::daemon::Start {
        loaded,
        source,
        ready: Box::new(|path| println!("ready socket={}", path.display())),
    };
    if let Err(error) = interviewd::daemon::run(start) {
        eprintln!("interviewd: {error}");
        std::process::exit(1);
    }
}
