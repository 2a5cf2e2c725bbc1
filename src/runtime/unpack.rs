//! Takes a wheel's libraries out of it, after its hash was checked.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::wheels::Wheel;
use super::{RuntimeError, sha256_hex};

/// Refuses a file whose SHA-256 is not the pinned one.
pub(super) fn verify(file: &Path, wheel: &Wheel) -> Result<(), RuntimeError> {
    let opened = File::open(file).map_err(RuntimeError::file(file, "opened"))?;
    let found = sha256_hex(opened).map_err(RuntimeError::file(file, "read"))?;
    if found != wheel.sha256 {
        return Err(RuntimeError::WheelHash {
            file: file.display().to_string(),
            expected: wheel.sha256,
            found,
        });
    }
    Ok(())
}

/// Writes the wheel's libraries, without the folders they have inside it, to `folder`; they are on the disk when it returns.
pub(super) fn unpack(file: &Path, wheel: &Wheel, folder: &Path) -> Result<(), RuntimeError> {
    let opened = File::open(file).map_err(RuntimeError::file(file, "opened"))?;
    let broken = |error: ZipError| RuntimeError::Wheel {
        file: file.display().to_string(),
        reason: error.to_string(),
    };
    let mut archive = ZipArchive::new(BufReader::new(opened)).map_err(broken)?;
    for library in wheel.libraries {
        let name = library.rsplit('/').next().unwrap_or(library);
        let target = folder.join(name);
        let mut entry = archive.by_name(library).map_err(broken)?;
        let mut written = File::create(&target).map_err(RuntimeError::file(&target, "created"))?;
        // The copy fails both on a full disk and on a checksum in the archive that does not hold.
        io::copy(&mut entry, &mut written).map_err(RuntimeError::file(&target, "unpacked"))?;
        written.sync_all().map_err(RuntimeError::file(&target, "written"))?;
    }
    Ok(())
}
