//! `retention`: how long contents and decisions are kept, and how much.

use std::time::Duration;

use super::reader::Item;
use super::unit;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Ids of deliveries are known for so long whatever is written, so nobody is led to believe otherwise.
const LEAST_DECISIONS: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Less than this would take away what was received a moment ago.
const LEAST_SIZE: u64 = 64 << 20;

/// How long things are kept, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Age of bodies, headers, records and orders.
    pub contents: Duration,
    /// Age of deliveries, decisions, digests, runs and effects; 90 days at least.
    pub decisions: Duration,
    /// Bytes in use, past which the oldest bodies and records go whatever their age.
    pub size: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            contents: DAY * 30,
            decisions: DAY * 365,
            size: 32 << 30,
        }
    }
}

pub(super) fn read(item: Item<'_>) -> Option<RetentionConfig> {
    let reader = item.map("`retention`")?;
    let usual = RetentionConfig::default();
    let age =
        |key: &'static str, usual| reader.or(key, usual, |item| item.quantity(unit::duration));
    let contents = age("contents", usual.contents);
    let decisions = reader.or("decisions", usual.decisions, |item| {
        item.quantity(|text| {
            let age = unit::duration(text)?;
            if age < LEAST_DECISIONS {
                return Err("decisions are kept for 90 days at least: a delivery is known by its id for so long".to_owned());
            }
            Ok(age)
        })
    });
    let size = reader.or("size", usual.size, |item| {
        item.quantity(|text| {
            let size = unit::bytes(text)?;
            if size < LEAST_SIZE {
                return Err("the store needs 64MiB at least".to_owned());
            }
            Ok(size)
        })
    });
    reader.finish();
    Some(RetentionConfig {
        contents: contents?,
        decisions: decisions?,
        size: size?,
    })
}
