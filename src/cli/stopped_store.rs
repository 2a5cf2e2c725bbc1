//! The store of a daemon that is stopped, for the verbs that open its folder themselves.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::geteuid;

use super::exit::Failure;
use crate::daemon::now;
use crate::store::{Store, StoreError};

/// Opens it; a damaged one is left as it is.
pub fn open(path: &Path) -> Result<Store, Failure> {
    check_owner(path, fs::metadata(path).map(|folder| folder.uid()), geteuid().as_raw())?;
    Store::open_as_it_is(path, now()).map_err(|error| match error {
        StoreError::Locked { .. } => Failure::failed(format!(
            "the store at {} is in use by a daemon; `interviewd shutdown` stops it",
            path.display()
        )),
        StoreError::Damaged { .. } => failed(&error).and(
            "`interviewd serve` moves it aside and begins an empty one; stop it then, and import the newest backup",
        ),
        error => failed(&error),
    })
}

/// Whether there is one.
pub fn is_there(path: &Path) -> Result<bool, Failure> {
    let there = path.join("conf").try_exists();
    there.map_err(|error| Failure::failed(format!("{} (store.path) cannot be looked at: {error}", path.display())))
}

pub fn failed(error: &StoreError) -> Failure {
    Failure::failed(Failure::chain("", error))
}

/// sled writes files of its own wherever it is opened: the daemon could not read those of another user.
fn check_owner(path: &Path, owner: std::io::Result<u32>, user: u32) -> Result<(), Failure> {
    match owner {
        Ok(owner) if owner != user => Err(Failure::failed(format!(
            "the store at {} belongs to the user {owner}, and you are {user}; do this as that user: sudo -u '#{owner}' interviewd …",
            path.display()
        ))),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Failure::failed(format!(
            "{} (store.path) cannot be looked at: {error}",
            path.display()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_another_user_is_left_to_that_user() {
        let path = Path::new("run/store");
        assert!(check_owner(path, Ok(7), 7).is_ok());
        assert!(check_owner(path, Err(ErrorKind::NotFound.into()), 7).is_ok());
        let refused = check_owner(path, Ok(998), 0).unwrap_err().to_string();
        assert!(
            refused.contains("run/store belongs to the user 998") && refused.contains("sudo -u '#998'"),
            "{refused}"
        );
        assert!(check_owner(path, Err(ErrorKind::PermissionDenied.into()), 7).is_err());
    }
}
