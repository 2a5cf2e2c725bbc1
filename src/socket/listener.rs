//! The socket's file: taken by one daemon at a time, never open to more people than its mode says, gone when the daemon stops. A socket that was
//! handed over is another's: it is served and left where it is.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags, fchmod};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::activation::Passed;
use super::options::Options;

/// What fits into a socket address, without the closing NUL.
pub const PATH_BYTES_MAX: usize = 107;
/// Connections that the system keeps waiting to be accepted.
const BACKLOG: u32 = 1_024;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error(
        "the socket's path {} has {length} bytes, the system allows {PATH_BYTES_MAX}: choose a shorter socket.path",
        path.display()
    )]
    PathTooLong { path: PathBuf, length: usize },
    #[error("a daemon is already running at {}: stop it first, or choose another socket.path", path.display())]
    AlreadyRunning { path: PathBuf },
    #[error("{} is there and is no socket: move it away, or choose another socket.path", path.display())]
    NotASocket { path: PathBuf },
    #[error("the socket that the service manager hands over {problem}")]
    Passed { problem: String },
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A socket that clients can connect to already; they are answered once the server runs.
#[derive(Debug)]
pub struct Bound {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// `None`: it is the service manager's.
    pub(super) file: Option<SocketFile>,
    pub(super) own_uid: u32,
    connections: Connections,
}

/// How many connections are open.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<AtomicUsize>);

/// Counts as a connection until it is dropped.
#[derive(Debug)]
pub(super) struct Connected(Arc<AtomicUsize>);

/// The file that was made, removed when dropped unless another one has taken its place; and the lock that keeps other daemons off.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    _lock: File,
}

/// Makes the socket. Needs a tokio runtime with I/O.
pub async fn bind(options: &Options) -> Result<Bound, SocketError> {
    let path = options.path.as_path();
    let failed = |doing| {
        move |source| SocketError::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    };
    let length = path.as_os_str().as_bytes().len();
    if length > PATH_BYTES_MAX {
        let path = path.to_owned();
        return Err(SocketError::PathTooLong { path, length });
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(failed("create the folder of the socket"))?;
    }
    let lock = lock(path)?;
    remove_stale(path).await?;
    let socket = made(path, options.mode).map_err(failed("create the socket"))?;
    let there = fs::symlink_metadata(path).map_err(failed("look at"))?;
    let file = SocketFile {
        path: path.to_owned(),
        inode: (there.dev(), there.ino()),
        _lock: lock,
    };
    // What the process's umask took away. Nobody can connect before `listen`, so nobody can before the mode is set.
    let mode = fs::Permissions::from_mode(options.mode);
    fs::set_permissions(path, mode).map_err(failed("set the mode of"))?;
    let listener = socket.listen(BACKLOG).map_err(failed("listen at"))?;
    let own_uid = own_uid().map_err(failed("find out the daemon's own user for"))?;
    Ok(Bound {
        listener,
        path: path.to_owned(),
        file: Some(file),
        own_uid,
        connections: Connections::default(),
    })
}

/// Takes over a socket that others listen at for the daemon. Needs a tokio runtime with I/O.
pub async fn adopt(passed: Passed, options: &Options) -> Result<Bound, SocketError> {
    let wanted = options.path.as_path();
    let failed = |doing| {
        move |source| SocketError::Io {
            doing,
            path: wanted.to_owned(),
            source,
        }
    };
    let own_uid = own_uid().map_err(failed("find out the daemon's own user for"))?;
    let (listener, path) = passed.checked(options.mode, own_uid)?;
    if path != wanted {
        let (handed_over, configured) = (path.display(), wanted.display());
        tracing::warn!(%handed_over, %configured, "serving the socket that was handed over; commands look for the one of socket.path");
    }
    listener.set_nonblocking(true).map_err(failed("listen at"))?;
    Ok(Bound {
        listener: UnixListener::from_std(listener).map_err(failed("listen at"))?,
        path,
        file: None,
        own_uid,
        connections: Connections::default(),
    })
}

/// A socket whose file has at no moment more permissions than `mode`: the system makes the file with those of the socket itself.
fn made(path: &Path, mode: u32) -> io::Result<UnixSocket> {
    let socket = UnixSocket::new_stream()?;
    fchmod(&socket, Mode::from_bits_truncate(mode))?;
    socket.bind(path)?;
    Ok(socket)
}

/// Two daemons that start at once could each find the other's socket stale; the lock lets only one look.
fn lock(path: &Path) -> Result<File, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let failed = |source| SocketError::Io {
        doing: "lock",
        path: lock_path.clone(),
        source,
    };
    let mut open = File::options();
    // Whoever can write to the folder must not have another file locked instead.
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    open.create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags);
    let file = open.open(&lock_path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SocketError::AlreadyRunning { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Removes what a daemon left behind that could not clean up.
async fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |doing| {
        move |source| SocketError::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "removing the socket of a daemon that is gone");
            fs::remove_file(path).map_err(failed("remove the stale socket"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Its queue is full: somebody holds it.
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err(SocketError::AlreadyRunning { path: path.to_owned() })
        }
        Err(error) => Err(failed("find out who listens at")(error)),
        Ok(_) => Err(SocketError::AlreadyRunning { path: path.to_owned() }),
    }
}

/// As a peer would see it.
fn own_uid() -> io::Result<u32> {
    let (one, _other) = UnixStream::pair()?;
    Ok(one.peer_cred()?.uid())
}

impl Bound {
    /// To be asked at any time, also before and after the server runs.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Connections {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more, unless there are `max` already.
    pub(super) fn enter(&self, max: usize) -> Option<Connected> {
        let more = |count| (count < max).then_some(count + 1);
        let entered = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.ok().map(|_| Connected(Arc::clone(&self.0)))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SocketFile {
    /// Removes the file if it is still this one; may be repeated.
    pub(super) fn remove(&self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.inode);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket cannot be removed");
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_no_permission_too_many_from_the_first_moment_on() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o660, 0o700] {
            let path = folder.path().join(format!("{mode:o}"));
            let _socket = made(&path, mode).unwrap();
            let there = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(there & !mode, 0, "{there:o} of {mode:o}");
        }
    }
}
