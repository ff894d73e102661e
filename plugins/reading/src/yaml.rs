//! YAML as JSON values, with the place of a mistake.

use serde_json::Value;

use crate::fault::Fault;

/// Reads one document.
///
/// # Errors
/// What is wrong and where, in words of a person.
pub fn parse(text: &str) -> Result<Value, Fault> {
    serde_saphyr::from_str(text).map_err(|error| {
        let number = |it: u64| u32::try_from(it).unwrap_or(u32::MAX);
        let place = error
            .location()
            .map(|at| (number(at.line()), number(at.column())));
        let message = error.without_snippet().to_string();
        let message = message.split(" at line ").next().unwrap_or(&message);
        Fault {
            place,
            message: format!("is not YAML: {message}"),
        }
    })
}
