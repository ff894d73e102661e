//! Parts of a command: each is named when it begins and timed when it ends.

use std::time::Instant;

use anyhow::{Context, Result};

/// Does one part and says how long it took.
///
/// # Errors
/// Those of the part, with its name.
#[expect(
    clippy::print_stderr,
    reason = "progress is for people, beside the answer"
)]
pub fn part<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("\n── {name}");
    let begun = Instant::now();
    let done = work().with_context(|| format!("the part `{name}` failed"))?;
    eprintln!("── {name}: done in {:.0?}", begun.elapsed());
    Ok(done)
}
