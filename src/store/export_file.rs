//! Files of exports: written whole or not at all, for their owner only, and read whether they are compressed or not.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::disk::{failed, sync};
use super::error::StoreError;
use super::export::{ExportWriter, Page, Summary};
use crate::crash_points::CrashPoint;
use crate::domain::time::Timestamp;

/// Names of files that are being written begin and end so; whoever writes one has it locked.
const PARTIAL: (&str, &str) = (".interviewd-", ".partial");

/// What a file that is compressed begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file that is being written. Dropped before [`ExportFile::finish`], it leaves nothing.
pub struct ExportFile {
    writer: ExportWriter<Sink>,
    path: PathBuf,
    partial: PathBuf,
}

enum Sink {
    Plain(BufWriter<NamedTempFile>),
    Gzip(Box<GzEncoder<BufWriter<NamedTempFile>>>),
}

impl ExportFile {
    /// Begins a file that will lie at `path`, in place of one that is there by then. A name that ends in `.gz` is compressed.
    pub fn create(path: &Path, at: Timestamp) -> Result<Self, StoreError> {
        match fs::symlink_metadata(path) {
            // A device or a pipe must not be replaced by a file.
            Ok(there) if !there.is_file() => {
                let problem = io::Error::other("there is something that is not a file");
                return Err(failed("write", path, problem));
            }
            _ => {}
        }
        // If they cannot be removed, they are in nobody's way.
        let _ = sweep(folder(path));
        let file = begun(folder(path)).map_err(|source| failed("write", path, source))?;
        let partial = file.path().to_owned();
        let file = BufWriter::new(file);
        let sink = match path.extension() {
            Some(extension) if extension == "gz" => Sink::Gzip(Box::new(GzEncoder::new(file, Compression::fast()))),
            _ => Sink::Plain(file),
        };
        Ok(Self {
            writer: ExportWriter::begin(sink, at).map_err(|source| failed("write", path, source))?,
            path: path.to_owned(),
            partial,
        })
    }

    /// Where it is until it is finished, for whoever may have to end the process in a hurry.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    pub fn page(&mut self, page: Page) -> Result<(), StoreError> {
        let written = self.writer.page(page);
        written.map_err(|source| failed("write", &self.path, source))
    }

    /// Makes the file durable, then visible.
    pub fn finish(self) -> Result<Summary, StoreError> {
        let path = self.path;
        let whole = self.writer.end().and_then(|(sink, summary)| {
            let file = sink.into_file()?;
            file.as_file().sync_all()?;
            CrashPoint::BackupSynced.reached();
            file.persist(&path).map_err(|error| error.error)?;
            sync(folder(&path))?;
            Ok(summary)
        });
        whole.map_err(|source| failed("write", &path, source))
    }
}

/// A file that no sweep takes for a killed process's.
fn begun(folder: &Path) -> io::Result<NamedTempFile> {
    loop {
        let mut builder = tempfile::Builder::new();
        let file = builder.prefix(PARTIAL.0).suffix(PARTIAL.1).tempfile_in(folder)?;
        // Where nothing can be locked, nothing is swept.
        let locked = flock(file.as_file(), FlockOperation::NonBlockingLockExclusive);
        if locked != Err(Errno::WOULDBLOCK) && file.path().exists() {
            return Ok(file);
        }
    }
}

/// Removes from a folder what processes that were killed have left of files that they were writing.
pub fn sweep(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        // Opening a pipe would wait for whoever writes into it.
        if !name.starts_with(PARTIAL.0)
            || !name.ends_with(PARTIAL.1)
            || !entry.file_type().is_ok_and(|kind| kind.is_file())
        {
            continue;
        }
        // It may be gone by now, or another user's.
        let file = File::open(&path).map(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file));
        if let Ok(Ok(_locked)) = file {
            match fs::remove_file(&path) {
                // Whoever wrote it has ended since we opened it, or another sweep was quicker.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

impl Sink {
    fn into_file(self) -> io::Result<NamedTempFile> {
        let buffered = match self {
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder.finish()?,
        };
        buffered.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }
}

/// The lines of an export, whatever its file is called.
pub fn open(path: &Path) -> Result<Box<dyn BufRead>, StoreError> {
    let file = File::open(path).map_err(|source| failed("read", path, source))?;
    lines(file, path)
}

/// The file of an export that is read more than once: the same one each time, whatever becomes of its name.
pub struct Reread {
    file: File,
    path: PathBuf,
}

impl Reread {
    /// An error for a pipe and the like, which can be read only once.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let unreadable = |source| failed("read", path, source);
        // Opening a pipe would wait for whoever writes into it.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            let problem = io::Error::other(
                "it is no file, and it is read twice: first to check every line, then to take it in; save it as a file first",
            );
            return Err(unreadable(problem));
        }
        Ok(Self {
            file: File::open(path).map_err(unreadable)?,
            path: path.to_owned(),
        })
    }

    /// Its lines from the beginning on.
    pub fn lines(&mut self) -> Result<Box<dyn BufRead>, StoreError> {
        let again = self.file.rewind().and_then(|()| self.file.try_clone());
        lines(again.map_err(|source| failed("read", &self.path, source))?, &self.path)
    }
}

fn lines(file: File, path: &Path) -> Result<Box<dyn BufRead>, StoreError> {
    let unreadable = |source| failed("read", path, source);
    let mut file = BufReader::new(file);
    let begin = file.fill_buf().map_err(unreadable)?;
    Ok(match begin.starts_with(&GZIP) {
        true => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        false => Box::new(file),
    })
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path) -> Summary {
        ExportFile::create(path, Timestamp::from_millis(0))
            .unwrap()
            .finish()
            .unwrap()
    }

    fn text(path: &Path) -> String {
        let mut text = String::new();
        open(path).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_file_is_its_owners_alone_and_reads_the_same_whether_it_is_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, small) = (folder.path().join("a.jsonl"), folder.path().join("a.jsonl.gz"));
        for path in [&plain, &small] {
            assert_eq!(write(path), Summary::default());
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(fs::read(&small).unwrap().starts_with(&GZIP));
        assert_eq!(text(&plain), text(&small));
        assert_eq!(text(&plain).lines().count(), 2);
        // What is there is replaced as a whole.
        write(&plain);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_not_finished_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs::write(&path, "old").unwrap();
        drop(ExportFile::create(&path, Timestamp::from_millis(0)).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_kill_has_left_goes_with_the_next_one_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let left = folder.path().join(".interviewd-x1.partial");
        fs::write(&left, "half of it").unwrap();
        let first = ExportFile::create(&path, Timestamp::from_millis(0)).unwrap();
        assert!(!left.exists());
        let second = ExportFile::create(&path, Timestamp::from_millis(0)).unwrap();
        assert!(first.partial().exists());
        first.finish().unwrap();
        second.finish().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_written_lies_under_a_name_of_its_own_until_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl.gz");
        let file = ExportFile::create(&path, Timestamp::from_millis(0)).unwrap();
        let partial = file.partial().to_owned();
        assert!(partial.exists() && !path.exists());
        file.finish().unwrap();
        assert!(!partial.exists() && path.exists());
    }

    #[test]
    fn a_file_that_is_read_again_is_the_same_and_a_pipe_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl.gz");
        write(&path);
        let whole = text(&path);
        let mut again = Reread::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        for _ in 0..2 {
            let mut read = String::new();
            again.lines().unwrap().read_to_string(&mut read).unwrap();
            assert_eq!(read, whole);
        }
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/null")] {
            let StoreError::Io { source, .. } = Reread::open(path).err().unwrap() else {
                panic!("{} was refused otherwise", path.display());
            };
            assert!(source.to_string().contains("save it as a file first"), "{source}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for path in [
            Path::new("/dev/null"),
            folder.path(),
            &link,
            Path::new("/nowhere/at/all"),
        ] {
            let error = ExportFile::create(path, Timestamp::from_millis(0)).err().unwrap();
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }
}
