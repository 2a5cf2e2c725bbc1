//! The store of a daemon that is stopped, for the verbs that open its folder themselves.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::geteuid;

use super::doctor::nearest;
use super::exit::Failure;
use crate::daemon::now;
use crate::store::{self, Store, StoreError};

/// Opens it, or makes it; a damaged one is left as it is.
pub fn open(path: &Path) -> Result<Store, Failure> {
    let owner = |path: &Path| fs::metadata(path).map(|folder| folder.uid());
    check_owner(path, owner(path), owner(nearest(path)), geteuid().as_raw())?;
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
    store::is_there(path).map_err(|error| failed(&error).and("ask as the daemon's own user (store.path)"))
}

pub fn failed(error: &StoreError) -> Failure {
    Failure::failed(Failure::chain("", error))
}

/// sled writes files of its own wherever it is opened: the daemon could not read those of another user. `parent`: the owner of the nearest folder that
/// is there. Root may write into everybody's, and a store that it makes there would be its own.
fn check_owner(
    path: &Path,
    owner: std::io::Result<u32>,
    parent: std::io::Result<u32>,
    user: u32,
) -> Result<(), Failure> {
    match owner {
        Err(error) if error.kind() == ErrorKind::NotFound => match parent {
            Ok(owner) if user == 0 && owner != 0 => Err(Failure::failed(format!(
                "the store at {} is not there yet, and would be root's in a folder of the user {owner}; do this as that user: \
                 sudo -u '#{owner}' interviewd …",
                path.display()
            ))),
            _ => Ok(()),
        },
        Ok(owner) if owner != user => Err(Failure::failed(format!(
            "the store at {} belongs to the user {owner}, and you are {user}; do this as that user: sudo -u '#{owner}' interviewd …",
            path.display()
        ))),
        Err(error) => Err(Failure::failed(format!(
            "{} (store.path) cannot be looked at: {error}",
            path.display()
        ))),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_another_user_is_left_to_that_user() {
        let path = Path::new("run/store");
        assert!(check_owner(path, Ok(7), Ok(0), 7).is_ok());
        let refused = check_owner(path, Ok(998), Ok(998), 0).unwrap_err().to_string();
        assert!(
            refused.contains("run/store belongs to the user 998") && refused.contains("sudo -u '#998'"),
            "{refused}"
        );
        assert!(check_owner(path, Err(ErrorKind::PermissionDenied.into()), Ok(7), 7).is_err());
    }

    #[test]
    fn root_makes_no_store_in_a_folder_of_another_user() {
        let path = Path::new("run/store");
        let made = |parent: u32, user: u32| check_owner(path, Err(ErrorKind::NotFound.into()), Ok(parent), user);
        assert!(made(0, 0).is_ok() && made(7, 7).is_ok() && made(0, 7).is_ok());
        let refused = made(998, 0).unwrap_err().to_string();
        assert!(
            refused.contains("run/store is not there yet") && refused.contains("sudo -u '#998'"),
            "{refused}"
        );
    }

    #[test]
    fn a_store_is_there_though_its_settings_are_lost_and_an_empty_folder_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        assert!(!is_there(&path).unwrap());
        fs::create_dir(&path).unwrap();
        fs::write(path.join("lock"), "").unwrap();
        assert!(!is_there(&path).unwrap());
        drop(open(&path).unwrap());
        for name in ["conf", "db"] {
            fs::remove_file(path.join(name)).unwrap();
            assert!(is_there(&path).unwrap(), "without {name}");
        }
    }
}
