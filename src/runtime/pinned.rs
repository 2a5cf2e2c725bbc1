//! ONNX Runtime's library as it lies in the pinned wheels: what was unpacked once can be held against that at any time.

use std::env::consts::ARCH;
use std::fs::File;
use std::path::Path;

use super::library::{cache_dir, cached};
use super::wheels::Variant;
use super::{RuntimeError, sha256_hex};

/// By variant and machine, as far as they have been looked at.
const LIBRARIES: &[(Variant, &str, &str)] = &[
    (
        Variant::Cpu,
        "x86_64",
        "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
    ),
    (
        Variant::Cpu,
        "aarch64",
        "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
    ),
];

/// Whether the library is byte for byte the one that was pinned; `None` for one that `setup` did not fetch, or that is not known.
pub fn is_pinned(library: &Path) -> Result<Option<bool>, RuntimeError> {
    let Ok(cache) = cache_dir() else {
        return Ok(None);
    };
    let in_cache = |variant: Variant| cached(&cache, variant).and_then(|path| path.canonicalize().ok());
    let is_this =
        |variant: Variant| in_cache(variant).is_some_and(|path| library.canonicalize().is_ok_and(|it| it == path));
    let known = LIBRARIES
        .iter()
        .find(|(variant, machine, _)| *machine == ARCH && is_this(*variant));
    known.map(|(_, _, sha256)| Ok(hash(library)? == *sha256)).transpose()
}

fn hash(library: &Path) -> Result<String, RuntimeError> {
    let file = File::open(library).map_err(RuntimeError::file(library, "opened"))?;
    sha256_hex(file).map_err(RuntimeError::file(library, "read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_of_somebody_elses_is_not_judged() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("libonnxruntime.so");
        std::fs::write(&library, "x").expect("writes");
        assert_eq!(is_pinned(&library).expect("looks"), None);
    }
}
