//! Reads what people write for first-party plugins: settings, YAML and CEL, with
//! every mistake at its place.
//!
//! It knows no plugin and no event. A [`fault::Fault`] has a place in a text and
//! becomes a problem of a setting or a file once it is known which one holds it.

pub mod fault;
pub mod functions;
pub mod read;
pub mod yaml;
