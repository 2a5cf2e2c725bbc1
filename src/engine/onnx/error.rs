//! Why a model cannot be loaded, and what a failed run means to the engine.

use std::error::Error;
use std::path::PathBuf;

use super::super::model::ModelError;

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    #[error(
        "ONNX Runtime cannot be loaded from {path}: {source}; run `interviewd setup`, or set runtime.library to another file",
        path = .path.display()
    )]
    Library {
        path: PathBuf,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error(
        "this process runs ONNX Runtime from {loaded}; using {wanted} instead needs a restart of the daemon",
        loaded = .loaded.display(), wanted = .wanted.display()
    )]
    OtherLibrary { loaded: PathBuf, wanted: PathBuf },
    #[error("{graph} cannot be loaded on {device}: {source}{}", session_remedy(.device), graph = .graph.display())]
    Session {
        graph: PathBuf,
        device: String,
        source: ort::Error,
    },
    #[error(
        "{graph} is not the graph that its model.json describes: {reason}; export the model again",
        graph = .graph.display()
    )]
    Graph { graph: PathBuf, reason: String },
    #[error("the CUDA runtime cannot be used: {0}; run `interviewd setup --cuda`, or set pool.device to \"cpu\"")]
    CudaRuntime(String),
    #[error("no memory for the slots: {0}; set pool.slots_per_actor to fewer")]
    Slots(#[source] ModelError),
    #[error(
        "model.json says that {claimed} tokens are a query tile, but on this processor a chunk of {changes_at} tokens already computes other \
         bits: a report would depend on how its prompts were cut. Export the model on this machine, or set query_tile_tokens in its \
         model.json to {holds}"
    )]
    QueryTile {
        claimed: usize,
        /// Shortest chunk, or end of the second of two, that computes other bits than the whole.
        changes_at: usize,
        /// The tile that these measurements allow.
        holds: usize,
    },
    #[error("the query tile could not be measured: {0}")]
    Probe(#[source] ModelError),
}

/// What else than the graph may be wrong, and what then helps.
fn session_remedy(device: &str) -> &'static str {
    match device.starts_with("cuda") {
        true => "; if a CUDA library is missing, run `interviewd setup --cuda`",
        false => "",
    }
}

/// What ONNX Runtime and its CUDA libraries write when memory is used up; there is no error code for it.
const OUT_OF_MEMORY: [&str; 6] = [
    "failed to allocate memory",
    "out of memory",
    "available memory of",
    "bad_alloc",
    "alloc_failed",
    "cuda failure 2:",
];

/// What a run's error means to the engine.
pub(super) fn model_error(device: &str, error: &ort::Error) -> ModelError {
    classify(device, error.message())
}

fn classify(device: &str, message: &str) -> ModelError {
    let text = message.to_lowercase();
    if text.contains("terminate flag") {
        ModelError::Terminated
    } else if OUT_OF_MEMORY.iter().any(|sign| text.contains(sign)) {
        ModelError::OutOfMemory {
            device: device.to_owned(),
            reason: message.to_owned(),
        }
    } else {
        ModelError::Failed(message.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_cannot_load_the_graph_points_to_setup() {
        assert!(session_remedy("cuda:0").contains("`interviewd setup --cuda`"));
        assert_eq!(session_remedy("cpu"), "");
    }

    #[test]
    fn a_runs_error_tells_the_engine_what_can_be_done() {
        let terminated = "Exiting due to terminate flag being set to true.";
        assert_eq!(classify("cpu", terminated), ModelError::Terminated);
        for message in [
            "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 4096",
            "Available memory of 0 is smaller than requested bytes of 256",
            "CUDA failure 2: out of memory ; GPU=0",
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
            "std::bad_alloc",
        ] {
            assert!(
                matches!(classify("cuda:0", message), ModelError::OutOfMemory { .. }),
                "{message}"
            );
        }
        let other = "Non-zero status code returned while running Gather node";
        assert_eq!(classify("cpu", other), ModelError::Failed(other.to_owned()));
    }
}
