//! Loading ONNX Runtime: once in a process, from one file, and never by a panic.

mod support;

use interviewd::engine::model::BankShape;
use interviewd::engine::onnx::{OnnxError, OnnxModel, OnnxOptions};

/// One test, since what a process has loaded decides what comes next.
#[test]
fn a_library_that_is_missing_bad_or_another_is_an_error_that_says_what_to_do() {
    let good = support::options(&[BankShape { slots: 1, context: 16 }]);
    let folder = tempfile::tempdir().expect("a folder");
    let load_from = |library: std::path::PathBuf| {
        OnnxModel::load(OnnxOptions {
            library,
            ..good.clone()
        })
        .map(drop)
    };

    let missing = load_from(folder.path().join("libonnxruntime.so")).expect_err("there is no such file");
    assert!(matches!(missing, OnnxError::Library { .. }), "{missing}");
    assert!(missing.to_string().contains("interviewd setup"), "{missing}");

    let text = folder.path().join("text.so");
    std::fs::write(&text, "not a library").expect("writes");
    let bad = load_from(text.clone()).expect_err("it is a text");
    assert!(matches!(bad, OnnxError::Library { .. }), "{bad}");

    let other = load_from("/proc/self/exe".into()).expect_err("it is a program");
    assert!(matches!(other, OnnxError::Library { .. }), "{other}");

    load_from(good.library.clone()).expect("loads after the failures");
    let version = OnnxModel::load_runtime(&good.library, false).expect("is loaded already");
    assert!(version.starts_with("1."), "{version}");
    load_from(good.library.clone()).expect("loads again");

    let second = load_from(text).expect_err("one library is loaded already");
    assert!(matches!(second, OnnxError::OtherLibrary { .. }), "{second}");
    assert!(second.to_string().contains("restart"), "{second}");
}
