//! Room on the disk: how much may be written before it is full, and the ballast that is given up when it is.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// What a store keeps free. Nothing of it by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Size of a file that only takes room, to be given up when the disk is full.
    pub ballast_bytes: u64,
    /// What new interviews must leave free. Results of what was accepted may use three quarters of it.
    pub floor_bytes: u64,
}

impl Reserve {
    /// Bytes that must be free, beside the ballast that may lie in the store's folder, for new interviews to be taken.
    pub fn needed_bytes(self, store: &Path) -> u64 {
        Ballast::new(store, self).needed_bytes()
    }
}

/// What an interview of the usual size takes.
const INTERVIEW_BYTES: u64 = 256 * 1024;

/// How many bytes may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub for_new: u64,
    /// For results of what was accepted, and for what takes something away.
    pub for_rest: u64,
}

/// Which of the two a write may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    New,
    Rest,
}

impl Room {
    pub const UNLIMITED: Self = Self {
        for_new: u64::MAX,
        for_rest: u64::MAX,
    };

    pub fn of(&self, purpose: Purpose) -> u64 {
        match purpose {
            Purpose::New => self.for_new,
            Purpose::Rest => self.for_rest,
        }
    }

    pub fn take(&mut self, bytes: u64) {
        self.for_new = self.for_new.saturating_sub(bytes);
        self.for_rest = self.for_rest.saturating_sub(bytes);
    }
}

/// The file that only takes room.
pub(super) struct Ballast {
    path: PathBuf,
    reserve: Reserve,
}

impl Ballast {
    pub fn new(store: &Path, reserve: Reserve) -> Self {
        Self {
            path: store.join("ballast"),
            reserve,
        }
    }

    pub fn floor_bytes(&self) -> u64 {
        self.reserve.floor_bytes
    }

    /// What must be free before new interviews are taken: the floor, and what the ballast still lacks.
    pub fn wanted_bytes(&self) -> u64 {
        let lacking = if self.is_there() { 0 } else { self.reserve.ballast_bytes };
        self.reserve.floor_bytes.saturating_add(lacking)
    }

    /// Whether so much leaves too little for what is new.
    pub fn is_short(&self, free: u64) -> bool {
        free < self.needed_bytes()
    }

    /// What must be free for what is new.
    pub fn needed_bytes(&self) -> u64 {
        self.wanted_bytes().saturating_add(INTERVIEW_BYTES).saturating_add(1)
    }

    /// What may be written while so much is free.
    pub fn room(&self, free: u64) -> Room {
        Room {
            for_new: free.saturating_sub(self.wanted_bytes()),
            for_rest: free.saturating_sub(self.reserve.floor_bytes / 4),
        }
    }

    pub fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.len() == self.reserve.ballast_bytes)
    }

    /// Whether it is to be made, and there is the room.
    pub fn is_due(&self, free: u64) -> bool {
        self.reserve.ballast_bytes > 0 && !self.is_there() && !self.is_short(free)
    }

    /// Gives its room to others. True if there was one.
    pub fn give_up(&self) -> io::Result<bool> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the room; nothing is left behind if there is too little.
    pub fn put_in_place(&self) -> io::Result<()> {
        let made = File::create(&self.path).and_then(|file| fill(file, self.reserve.ballast_bytes));
        if made.is_err() {
            let _ = self.give_up(); // the error that is told is the one that came first
        }
        made
    }
}

/// Has the file system reserve the bytes, or writes them where it cannot.
fn fill(file: File, bytes: u64) -> io::Result<()> {
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => write(file, bytes),
        other => Ok(other?),
    }
}

/// Not as zeros, which a file system might not keep.
fn write(mut file: File, bytes: u64) -> io::Result<()> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut block = [0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let next = left.min(block.len() as u64);
        file.write_all(&block[..next as usize])?;
        left -= next;
    }
    Ok(())
}

/// Whether an error says that there is no room, as opposed to a disk that fails.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballast(folder: &Path) -> Ballast {
        let reserve = Reserve {
            ballast_bytes: 1_000_000,
            floor_bytes: 4_000_000,
        };
        Ballast::new(folder, reserve)
    }

    #[test]
    fn a_ballast_takes_its_room_and_gives_it_back() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let ballast = ballast(folder.path());
        assert!(!ballast.is_there() && ballast.is_due(6_000_000) && !ballast.is_due(5_000_001));
        ballast.put_in_place().unwrap();
        let file = fs::metadata(folder.path().join("ballast")).unwrap();
        assert_eq!(file.len(), 1_000_000);
        assert!(
            file.blocks() * 512 >= 1_000_000,
            "it must not be sparse: {}",
            file.blocks()
        );
        assert!(ballast.is_there() && !ballast.is_due(u64::MAX));
        assert!(ballast.give_up().unwrap());
        assert!(!ballast.give_up().unwrap() && !ballast.is_there());
    }

    #[test]
    fn one_that_was_made_of_another_size_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ballast"), "small").unwrap();
        let ballast = ballast(folder.path());
        assert!(!ballast.is_there() && ballast.is_due(u64::MAX));
        ballast.put_in_place().unwrap();
        assert!(ballast.is_there());
    }

    #[test]
    fn what_is_new_leaves_the_floor_and_the_ballast_and_results_a_quarter_of_the_floor() {
        let folder = tempfile::tempdir().unwrap();
        let ballast = ballast(folder.path());
        let room = |free| {
            let room = ballast.room(free);
            (room.for_new, room.for_rest)
        };
        assert_eq!(room(6_000_000), (1_000_000, 5_000_000));
        assert_eq!(room(1_500_000), (0, 500_000));
        assert_eq!(room(0), (0, 0));
        ballast.put_in_place().unwrap();
        assert_eq!(ballast.room(6_000_000).for_new, 2_000_000);
    }

    #[test]
    fn what_must_be_free_is_the_floor_an_interview_and_the_ballast_where_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let ballast = ballast(folder.path());
        let needed = |ballast: &Ballast| ballast.reserve.needed_bytes(folder.path());
        assert_eq!(needed(&ballast), 4_000_000 + 1_000_000 + INTERVIEW_BYTES + 1);
        ballast.put_in_place().unwrap();
        assert_eq!(needed(&ballast), 4_000_000 + INTERVIEW_BYTES + 1);
        assert!(ballast.is_short(needed(&ballast) - 1) && !ballast.is_short(needed(&ballast)));
    }

    #[test]
    fn a_file_system_that_reserves_nothing_gets_the_bytes_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(File::create(&path).unwrap(), 100_001).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 100_001);
    }
}
