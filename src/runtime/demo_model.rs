//! The demo model and its interview, carried inside the binary so that a first run needs nothing else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::RuntimeError;
use super::model_folder::MANIFEST_FILE;

/// An interview in Korean, as `interview.submit` takes it.
pub const INTERVIEW: &str = include_str!("../../models/demo/interview.json");

pub(super) const MANIFEST: &[u8] = include_bytes!("../../models/demo/model.json");

/// `model.json` comes last: a folder that has it is whole.
const FILES: [(&str, &[u8]); 5] = [
    ("model.onnx", include_bytes!("../../models/demo/model.onnx")),
    ("model.onnx.data", include_bytes!("../../models/demo/model.onnx.data")),
    ("tokenizer.json", include_bytes!("../../models/demo/tokenizer.json")),
    (
        "chat_template.jinja",
        include_bytes!("../../models/demo/chat_template.jinja"),
    ),
    (MANIFEST_FILE, MANIFEST),
];

/// Writes the demo model folder to `to`, which is made if it is not there. May be repeated, also by several processes at once.
pub fn unpack(to: &Path) -> Result<(), RuntimeError> {
    fs::create_dir_all(to).map_err(RuntimeError::file(to, "created"))?;
    for (name, contents) in FILES {
        let path = to.join(name);
        if fs::read(&path).is_ok_and(|there| there == contents) {
            continue;
        }
        let mut file = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o644)) // a temporary file's own would hide it from everybody else
            .tempfile_in(to)
            .map_err(RuntimeError::file(to, "written to"))?;
        file.write_all(contents).map_err(RuntimeError::file(&path, "written"))?;
        file.persist(&path)
            .map_err(|error| RuntimeError::file(&path, "written")(error.error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_again_mends_what_was_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let to = folder.path().join("a").join("model");
        unpack(&to).expect("unpacks");
        fs::write(to.join("tokenizer.json"), b"{}").expect("writes");
        unpack(&to).expect("unpacks");
        for (name, contents) in FILES {
            assert!(fs::read(to.join(name)).expect("reads") == contents, "{name}");
        }
        assert_eq!(fs::read_dir(&to).expect("reads").count(), FILES.len());
    }

    #[test]
    fn the_interview_is_an_object_with_answers() {
        let interview: serde_json::Value = serde_json::from_str(INTERVIEW).expect("is JSON");
        assert!(
            interview["answers"]
                .as_array()
                .is_some_and(|answers| !answers.is_empty())
        );
    }
}
