//! Developer commands of this repository, as a library: tests build guests by it.

pub mod cache;
pub mod ci;
pub mod control_plane;
pub mod demo;
pub mod fuzz;
pub mod guests;
mod languages;
pub mod measure;
pub mod part;
pub mod test;
pub mod tools;
