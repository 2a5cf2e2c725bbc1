//! Fetches ONNX Runtime into the cache: pinned wheels through pip, checked, unpacked and moved in as a whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::RuntimeError;
use super::library::{cache_dir, cached, variant_dir};
use super::made_once::{Folder, made_once};
use super::python::{interpreter, last_lines};
use super::unpack::{unpack, verify};
use super::wheels::{Variant, Wheel, by_hand, wheels};

/// Makes sure the library is in the cache and gives its path. Returns at once when it is there. Several processes may do it at the same
/// time: one downloads, the others wait for it. `progress` gets lines for people.
pub fn provision(variant: Variant, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, RuntimeError> {
    let fetch = |wheel: &Wheel, folder: &Path| download(variant, wheel, folder);
    provision_with(&cache_dir()?, variant, wheels(variant)?, &fetch, progress)
}

/// Puts a wheel into a folder and gives the file's path.
type Fetch<'a> = &'a dyn Fn(&Wheel, &Path) -> Result<PathBuf, RuntimeError>;

fn provision_with(
    cache: &Path,
    variant: Variant,
    wheels: &[Wheel],
    fetch: Fetch<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<PathBuf, RuntimeError> {
    let target = variant_dir(cache, variant);
    let folder = Folder {
        path: &target,
        whole: &|| cached(cache, variant).is_some(),
        doing: "fetching ONNX Runtime",
    };
    made_once(&folder, progress, |partial, progress| {
        let libraries = partial.join("libraries");
        fs::create_dir(&libraries).map_err(RuntimeError::file(&libraries, "created"))?;
        for wheel in wheels {
            progress(&format!(
                "downloading {} {} ({} MB)",
                wheel.package, wheel.version, wheel.megabytes
            ));
            let file = fetch(wheel, partial)?;
            progress(&format!("checking and unpacking {}", wheel.package));
            verify(&file, wheel)?;
            unpack(&file, wheel, &libraries)?;
            fs::remove_file(&file).map_err(RuntimeError::file(&file, "removed"))?;
        }
        Ok(libraries)
    })?;
    cached(cache, variant).ok_or(RuntimeError::File {
        path: target,
        doing: "filled: the wheel has no library of the expected name",
        source: std::io::ErrorKind::NotFound.into(),
    })
}

fn download(variant: Variant, wheel: &Wheel, folder: &Path) -> Result<PathBuf, RuntimeError> {
    let failed = |reason: String| RuntimeError::Download {
        package: format!("{} {}", wheel.package, wheel.version),
        reason,
        by_hand: by_hand(variant),
    };
    let python = interpreter();
    let output = python
        .command()
        .args(wheel.download_arguments(&folder.to_string_lossy()))
        // Python looks for modules in the folder it is started in: this one is empty and ours.
        .current_dir(folder)
        .args(["--quiet", "--no-cache-dir", "--timeout", "20", "--retries", "2"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("{python} could not be run ({error})")))?;
    if !output.status.success() {
        return Err(failed(format!("pip said: {}", last_lines(&output.stderr, "ERROR:"))));
    }
    let wheels = fs::read_dir(folder)
        .map_err(RuntimeError::file(folder, "read"))?
        .flatten()
        .map(|entry| entry.path());
    let mut wheels = wheels.filter(|path| path.extension().is_some_and(|extension| extension == "whl"));
    wheels
        .next()
        .ok_or_else(|| failed("pip ended well but left no wheel".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::sha256_hex;
    use super::*;

    /// A wheel with one library, and its hash.
    fn small_wheel() -> (Vec<u8>, Wheel) {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        archive
            .start_file("onnxruntime/capi/libonnxruntime.so.1.31.1", options)
            .expect("starts");
        archive.write_all(b"the library").expect("writes");
        let bytes = archive.finish().expect("finishes").into_inner();
        let sha256 = String::leak(sha256_hex(bytes.as_slice()).expect("reads from memory"));
        let wheel = Wheel {
            package: "onnxruntime",
            version: "1.31.1",
            platform: "any",
            sha256,
            megabytes: 1,
            libraries: &["onnxruntime/capi/libonnxruntime.so.1.31.1"],
        };
        (bytes, wheel)
    }

    fn put(bytes: &[u8], folder: &Path) -> Result<PathBuf, RuntimeError> {
        let path = folder.join("a.whl");
        fs::write(&path, bytes).map_err(RuntimeError::file(&path, "written"))?;
        Ok(path)
    }

    #[test]
    fn many_at_once_download_once_and_all_get_the_same_library() {
        let cache = tempfile::tempdir().expect("a folder");
        let (bytes, wheel) = small_wheel();
        let downloads = AtomicUsize::new(0);
        let fetch = |_: &Wheel, folder: &Path| {
            downloads.fetch_add(1, Ordering::Relaxed);
            put(&bytes, folder)
        };
        let provision = || provision_with(cache.path(), Variant::Cpu, &[wheel], &fetch, &mut |_| ());
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| provision().expect("provisions")))
                .collect();
            for one in all {
                let library = one.join().expect("no panic");
                assert_eq!(fs::read(library).expect("is there"), b"the library");
            }
        });
        assert_eq!(downloads.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_file_with_another_hash_is_refused_with_both_hashes_and_nothing_stays() {
        let cache = tempfile::tempdir().expect("a folder");
        let (mut bytes, wheel) = small_wheel();
        bytes.push(0);
        let fetch = |_: &Wheel, folder: &Path| put(&bytes, folder);
        let failed = provision_with(cache.path(), Variant::Cpu, &[wheel], &fetch, &mut |_| ());
        let text = failed.expect_err("the hash is wrong").to_string();
        assert!(
            text.contains(wheel.sha256) && text.contains(&sha256_hex(bytes.as_slice()).expect("reads")),
            "{text}"
        );
        let target = variant_dir(cache.path(), Variant::Cpu);
        let left: Vec<_> = fs::read_dir(target.parent().expect("it has one"))
            .expect("reads")
            .flatten()
            .collect();
        assert!(left.iter().all(|entry| entry.file_name() == "cpu.lock"), "{left:?}");
    }

    #[test]
    fn what_a_killed_process_left_is_cleared_away() {
        let cache = tempfile::tempdir().expect("a folder");
        let target = variant_dir(cache.path(), Variant::Cpu);
        let leftover = target.with_file_name(".partial-cpu-abc");
        fs::create_dir_all(&leftover).expect("creates");
        fs::create_dir_all(&target).expect("creates");
        fs::write(target.join("other"), b"half").expect("writes");
        let (bytes, wheel) = small_wheel();
        let fetch = |_: &Wheel, folder: &Path| put(&bytes, folder);
        provision_with(cache.path(), Variant::Cpu, &[wheel], &fetch, &mut |_| ()).expect("provisions");
        assert!(!leftover.exists() && !target.join("other").exists());
    }
}
