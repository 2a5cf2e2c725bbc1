//! ONNX Runtime's library and environment: loaded once, from one path, for the life of the process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::error::OnnxError;
use super::memory::library_version;

/// The CUDA libraries that the provider asks for by these names, each after what it needs itself. Those that lie beside ONNX Runtime are
/// loaded from there; the system is asked for the others.
const CUDA_LIBRARIES: [&str; 4] = [
    "libcudart.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
];

struct Loaded {
    path: PathBuf,
    version: String,
    /// `ort` allows one in a process and ends it with its last owner: this is that owner.
    environment: Environment,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// The environment of the library at `path`. Without a library `ort` panics at the first call, so nothing of it is called before this.
pub(super) fn environment(path: &Path, cuda: bool) -> Result<Environment, OnnxError> {
    let path = path.canonicalize().map_err(unloadable(path))?;
    let mut loaded = lock();
    if let Some(other) = loaded.as_ref().filter(|loaded| loaded.path != path) {
        return Err(OnnxError::OtherLibrary {
            loaded: other.path.clone(),
            wanted: path,
        });
    }
    if cuda {
        preload_cuda(&path)?;
    }
    if let Some(loaded) = &*loaded {
        return Ok(loaded.environment.clone());
    }
    let version = library_version(&path).map_err(unloadable(&path))?;
    let builder = ort::init_from(&path).map_err(unloadable(&path))?;
    let environment = builder
        .with_name("interviewd")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(unloadable(&path))?;
    environment.set_log_level(LogLevel::Warning);
    *loaded = Some(Loaded {
        path,
        version,
        environment: environment.clone(),
    });
    Ok(environment)
}

/// The version of the library in use, for example `1.31.1`; nothing before the first model was loaded.
pub(super) fn version() -> Option<String> {
    lock().as_ref().map(|loaded| loaded.version.clone())
}

fn lock() -> MutexGuard<'static, Option<Loaded>> {
    // It is written in one assignment: a panic elsewhere leaves it whole.
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unloadable<E: Into<Box<dyn std::error::Error + Send + Sync>>>(path: &Path) -> impl FnOnce(E) -> OnnxError {
    let path = path.to_owned();
    move |error| OnnxError::Library {
        path,
        source: error.into(),
    }
}

fn preload_cuda(library: &Path) -> Result<(), OnnxError> {
    for name in CUDA_LIBRARIES {
        let beside = library.with_file_name(name);
        if beside.is_file() {
            ort::util::preload_dylib(&beside).map_err(|error| OnnxError::CudaRuntime(error.to_string()))?;
        }
    }
    Ok(())
}

fn log(level: LogLevel, _category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "onnxruntime", location, "{message}"),
        LogLevel::Warning => tracing::warn!(target: "onnxruntime", location, "{message}"),
        LogLevel::Verbose | LogLevel::Info => {}
    }
}
