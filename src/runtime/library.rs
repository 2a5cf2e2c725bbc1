//! Finds ONNX Runtime's library: as configured, in the environment, or in the cache that `setup` fills.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::RuntimeError;
use super::wheels::{LIBRARY_FILE, ONNX_RUNTIME_VERSION, Variant, by_hand};

/// Set by people who already have the library; `ort` honours the same name.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";
const CACHE_VARIABLE: &str = "INTERVIEWD_CACHE";

/// What to look for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// `runtime.library` of the configuration.
    pub configured: Option<PathBuf>,
    /// Whether it must be able to use an NVIDIA card.
    pub cuda: bool,
}

/// The library's absolute path. A configured path, or else one in the environment, is the only one looked at: when it is wrong, that is an
/// error.
pub fn find(search: &Search) -> Result<PathBuf, RuntimeError> {
    let variable = env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty());
    match named(search, variable) {
        Some((origin, path)) => existing(origin, path),
        None => find_cached(&cache_dir()?, search.cuda),
    }
}

/// Where downloads are kept: `INTERVIEWD_CACHE`, or `interviewd` in `XDG_CACHE_HOME`, or in `.cache` of the home folder.
pub fn cache_dir() -> Result<PathBuf, RuntimeError> {
    cache_from(|name| env::var_os(name))
}

/// The folder of one variant of the pinned version.
pub(super) fn variant_dir(cache: &Path, variant: Variant) -> PathBuf {
    cache
        .join("onnxruntime")
        .join(ONNX_RUNTIME_VERSION)
        .join(variant.name())
}

/// The library in a variant's folder, if it is there.
pub(super) fn cached(cache: &Path, variant: Variant) -> Option<PathBuf> {
    let path = variant_dir(cache, variant).join(LIBRARY_FILE);
    path.is_file().then_some(path)
}

fn named(search: &Search, variable: Option<OsString>) -> Option<(&'static str, PathBuf)> {
    let configured = search.configured.clone().map(|path| ("runtime.library", path));
    configured.or_else(|| variable.map(|path| (LIBRARY_VARIABLE, path.into())))
}

fn existing(origin: &'static str, path: PathBuf) -> Result<PathBuf, RuntimeError> {
    match path.canonicalize() {
        Ok(absolute) if absolute.is_file() => Ok(absolute),
        _ => Err(RuntimeError::LibraryMissing { origin, path }),
    }
}

fn find_cached(cache: &Path, cuda: bool) -> Result<PathBuf, RuntimeError> {
    // The library made for CUDA computes on the processor too.
    let usable: &[Variant] = if cuda {
        &[Variant::Cuda]
    } else {
        &[Variant::Cpu, Variant::Cuda]
    };
    let found = usable.iter().find_map(|variant| cached(cache, *variant));
    found.ok_or_else(|| RuntimeError::NotFound {
        version: ONNX_RUNTIME_VERSION,
        cache: cache.to_owned(),
        command: usable[0].setup_command(),
        by_hand: by_hand(usable[0]),
    })
}

fn cache_from(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, RuntimeError> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(CACHE_VARIABLE)
        .or_else(|| absolute("XDG_CACHE_HOME").map(|path| path.join("interviewd")))
        .or_else(|| absolute("HOME").map(|path| path.join(".cache").join("interviewd")))
        .ok_or(RuntimeError::NoCacheFolder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_library(cache: &Path, variant: Variant) -> PathBuf {
        let path = variant_dir(cache, variant).join(LIBRARY_FILE);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("creates");
        std::fs::write(&path, b"library").expect("writes");
        path
    }

    #[test]
    fn a_configured_path_that_is_not_there_is_an_error_that_names_it() {
        let search = Search {
            configured: Some("/nowhere/libonnxruntime.so".into()),
            cuda: false,
        };
        let text = find(&search).expect_err("there is no such file").to_string();
        assert!(
            text.contains("runtime.library") && text.contains("/nowhere/libonnxruntime.so"),
            "{text}"
        );
    }

    #[test]
    fn the_configured_path_goes_before_the_environment() {
        let search = Search {
            configured: Some("a".into()),
            cuda: false,
        };
        let variable = Some(OsString::from("b"));
        assert_eq!(named(&search, variable.clone()), Some(("runtime.library", "a".into())));
        assert_eq!(
            named(&Search::default(), variable),
            Some(("ORT_DYLIB_PATH", "b".into()))
        );
        assert_eq!(named(&Search::default(), None), None);
    }

    #[test]
    fn the_cuda_library_serves_the_processor_but_not_the_other_way_round() {
        let cache = tempfile::tempdir().expect("a folder");
        let cuda = place_library(cache.path(), Variant::Cuda);
        assert_eq!(find_cached(cache.path(), true).expect("found"), cuda);
        assert_eq!(find_cached(cache.path(), false).expect("found"), cuda);
        let cpu = place_library(cache.path(), Variant::Cpu);
        assert_eq!(find_cached(cache.path(), false).expect("found"), cpu);
        std::fs::remove_file(cuda).expect("removes");
        assert!(find_cached(cache.path(), true).is_err());
    }

    #[test]
    fn what_is_not_found_is_answered_with_the_command_that_fetches_it() {
        let cache = tempfile::tempdir().expect("a folder");
        let text = find_cached(cache.path(), true).expect_err("empty").to_string();
        assert!(
            text.contains("interviewd setup --cuda") && text.contains("onnxruntime-gpu=="),
            "{text}"
        );
        let text = find_cached(cache.path(), false).expect_err("empty").to_string();
        assert!(
            text.contains("`interviewd setup`") && text.contains("runtime.library"),
            "{text}"
        );
    }

    #[test]
    fn the_cache_follows_the_first_variable_that_holds_an_absolute_path() {
        let of = |set: &[(&str, &str)]| {
            cache_from(|name| {
                set.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| OsString::from(value))
            })
            .ok()
        };
        assert_eq!(of(&[("HOME", "/h"), ("INTERVIEWD_CACHE", "/c")]), Some("/c".into()));
        assert_eq!(
            of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]),
            Some("/x/interviewd".into())
        );
        assert_eq!(
            of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "x")]),
            Some("/h/.cache/interviewd".into())
        );
        assert_eq!(of(&[]), None);
    }
}
