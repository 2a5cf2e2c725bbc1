//! What tests of the real model share: ONNX Runtime, fetched once, and the demo model's options.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use interviewd::engine::model::BankShape;
use interviewd::engine::onnx::{Geometry, OnnxOptions, Provider};
use interviewd::runtime::{Check, ModelFolder, Search, Variant, find, provision};

/// ONNX Runtime's library: where the environment says, or from the cache, into which it is downloaded when it is not there.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let found = find(&Search::default());
        found
            .or_else(|_| provision(Variant::Cpu, &mut |line| eprintln!("{line}")))
            .expect("ONNX Runtime is provisioned")
    })
}

/// The demo model on the processor.
pub fn options(banks: &[BankShape]) -> OnnxOptions {
    options_of("models/demo", banks)
}

/// A model of the repository on the processor.
pub fn options_of(folder: &str, banks: &[BankShape]) -> OnnxOptions {
    let folder = ModelFolder::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), Check::Sizes).expect("is whole");
    let manifest = &folder.manifest;
    OnnxOptions {
        library: library().to_owned(),
        graph: folder.graph(),
        provider: Provider::Cpu { threads: 2 },
        banks: banks.to_vec(),
        geometry: Geometry {
            layers: manifest.layers,
            kv_heads: manifest.kv_heads,
            head_dim: manifest.head_dim,
            vocabulary: manifest.vocab_size,
            query_tile: manifest.query_tile_tokens,
        },
        overlaid: false,
        rows_max: usize::MAX,
        check_query_tile: false,
    }
}
