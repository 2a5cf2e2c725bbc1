//! What the daemon runs on besides itself: ONNX Runtime's library, model folders, the demo model inside this binary and random models made by the
//! exporter inside it.

pub mod demo_model;
mod error;
mod exporter;
mod library;
mod made_once;
mod manifest;
mod model_folder;
mod pinned;
mod provision;
mod python;
mod random_model;
mod unpack;
mod wheels;

pub use error::RuntimeError;
pub use library::{Search, cache_dir, find};
pub use manifest::{
    Architecture, FileEntry, KvType, Manifest, ManifestFault, ModelFiles, Precision, Quality, SpecialToken,
    SpecialTokens, Target,
};
pub use model_folder::{Check, MANIFEST_FILE, ModelFolder};
pub use pinned::is_pinned;
pub use provision::provision;
pub use random_model::{RANDOM_PRESETS, random_model};
pub use wheels::{ONNX_RUNTIME_VERSION, Variant, by_hand_lines};

use std::io::Read;

use sha2::{Digest, Sha256};

/// SHA-256 of what `reader` still holds, in lower-case hexadecimal.
pub fn sha256_hex(mut reader: impl Read) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match reader.read(&mut chunk)? {
            0 => break,
            bytes => digest.update(&chunk[..bytes]),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
