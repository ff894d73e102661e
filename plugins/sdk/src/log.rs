//! Messages for the operator, and the macros that write them.
//!
//! Bytes are limited by the host; what is over is counted and dropped.

pub use crate::contract::penstock::plugin::log::{Level, write};

/// Writes a message with fields. The macros call it.
#[doc(hidden)]
pub fn message(level: Level, text: &str, fields: &[(&str, String)]) {
    let fields: Vec<(String, String)> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    write(level, text, &fields);
}

/// Logs what panics say before the instance ends, so that a trap can be read.
///
/// Call it first in `decide` and `validate`. It is not done for everyone: a
/// plugin that never logs should not have to import the log.
pub fn panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |at| {
            format!("{}:{}:{}", at.file(), at.line(), at.column())
        });
        let text = panic
            .payload_as_str()
            .unwrap_or("a panic without a message");
        message(Level::Error, text, &[("place", place)]);
    }));
}

/// Writes at a level: `log!(Level::Info, "text {x}"; name = value, …)`.
#[macro_export]
macro_rules! log {
    ($level:expr, $text:literal $(, $arg:expr)* $(; $($name:ident = $value:expr),+ $(,)?)?) => {
        $crate::log::message(
            $level,
            &::std::format!($text $(, $arg)*),
            &[$($((::std::stringify!($name), ::std::string::ToString::to_string(&$value))),+)?],
        )
    };
}

/// Writes a message of level debug: `debug!("text {x}"; name = value, …)`.
#[macro_export]
macro_rules! debug { ($($rest:tt)*) => { $crate::log!($crate::log::Level::Debug, $($rest)*) } }

/// Writes a message of level info: `info!("text {x}"; name = value, …)`.
#[macro_export]
macro_rules! info { ($($rest:tt)*) => { $crate::log!($crate::log::Level::Info, $($rest)*) } }

/// Writes a message of level warn: `warn!("text {x}"; name = value, …)`.
#[macro_export]
macro_rules! warn { ($($rest:tt)*) => { $crate::log!($crate::log::Level::Warn, $($rest)*) } }

/// Writes a message of level error: `error!("text {x}"; name = value, …)`.
#[macro_export]
macro_rules! error { ($($rest:tt)*) => { $crate::log!($crate::log::Level::Error, $($rest)*) } }
