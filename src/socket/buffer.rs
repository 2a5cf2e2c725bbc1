//! Room for lines: short ones share the allocator's memory, each longer one has pages of its own, which the system has back with its last byte.

/// The longest that shares: what the allocator keeps of these is little, even of all connections together.
pub const SHARED_BYTES_MAX: usize = 16 << 10;
/// From this size on the daemon's allocator takes pages for one buffer alone. Those that nothing was written to take no memory.
const OWN_PAGES_BYTES_MIN: usize = 256 << 10;

/// An empty buffer with room for so many bytes.
pub fn with_room(bytes: usize) -> Vec<u8> {
    match bytes <= SHARED_BYTES_MAX {
        true => Vec::with_capacity(bytes),
        false => Vec::with_capacity(bytes.max(OWN_PAGES_BYTES_MIN)),
    }
}

/// A buffer with these bytes and room for so many more.
pub fn holding(bytes: &[u8], more: usize) -> Vec<u8> {
    let mut buffer = with_room(bytes.len() + more);
    buffer.extend_from_slice(bytes);
    buffer
}

/// How much memory the bytes of a buffer take.
pub fn taken_bytes(buffer: &Vec<u8>) -> usize {
    const PAGE_BYTES: usize = 4 << 10;
    match buffer.capacity() <= SHARED_BYTES_MAX {
        true => buffer.len(),
        // The allocator's own mark stands in the first page.
        false => (size_of::<[usize; 2]>() + buffer.len()).next_multiple_of(PAGE_BYTES),
    }
}
