//! Developer commands of this repository, as a library: tests build guests by it.

pub mod guests;
