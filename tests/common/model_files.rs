//! Model folders that can be spoiled.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{World, repository};

/// The demo model, copied into the world's folder `model`.
pub fn copied_model(world: &World) -> PathBuf {
    let model = world.path("model");
    let _ = std::fs::remove_dir_all(&model);
    std::fs::create_dir(&model).unwrap();
    for file in std::fs::read_dir(repository().join("models/demo")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    model
}

/// Puts other bytes in a file's place, and its size and hash into model.json, so that nothing but the content is wrong.
pub fn forge(model: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(model.join(name), bytes).unwrap();
    edit_manifest(model, |manifest| {
        manifest["files"][name] = json!({"bytes": bytes.len(), "sha256": hash_of(bytes)});
        if name == "model.onnx.data" {
            manifest["weights_bytes"] = json!(bytes.len());
        }
    });
}

/// Changes what model.json says.
pub fn edit_manifest(model: &Path, edit: impl FnOnce(&mut Value)) {
    let path = model.join("model.json");
    let mut manifest: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    edit(&mut manifest);
    std::fs::write(path, manifest.to_string()).unwrap();
}

pub fn hash_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
