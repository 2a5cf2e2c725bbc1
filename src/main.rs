//! Parses the command line and calls one verb of the library.

fn main() {}
