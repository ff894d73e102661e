//! Files of the event's repository, read at the event's commit.

use crate::contract::penstock::plugin::gitlab_read::{self, Source};
use crate::{LookupError, PluginError, Problem};

/// The text of one file at the event's commit.
///
/// # Errors
/// [`PluginError::Source`] where the file is missing, too large or not UTF-8: its
/// author can mend that. [`PluginError::Other`] where reading was denied.
pub fn text(path: &str) -> Result<String, PluginError> {
    let asked = [path.to_owned()];
    let answer = gitlab_read::files(&Source::Event, &asked)
        .map_err(|error| PluginError::lookup(path, &error))?
        .into_iter()
        .next()
        .ok_or_else(|| PluginError::Other(format!("{path}: the host gave no answer")))?;
    match answer {
        Ok(file) => String::from_utf8(file.content).map_err(|error| {
            PluginError::source(Problem::new(path, format!("is not UTF-8: {error}")))
        }),
        Err(error @ (LookupError::NotFound | LookupError::TooLarge(_))) => {
            Err(PluginError::source(Problem::new(path, error.describe())))
        }
        Err(error) => Err(PluginError::lookup(path, &error)),
    }
}
