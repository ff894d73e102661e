//! Memory and tables of one store, added up.

use penstock_model::record::Failure;
use wasmtime::ResourceLimiter;

use crate::stop::Stop;

/// Core instances that one component may have.
pub(crate) const INSTANCES: u32 = 64;
/// Linear memories that one component may have.
pub(crate) const MEMORIES: u32 = 16;
/// Tables that one component may have.
pub(crate) const TABLES: u32 = 64;

/// Bytes of a table's element: a pointer.
const ELEMENT: usize = size_of::<usize>();

/// What a store holds. Past the limit it answers an error, not a refusal: a refusal would only make `memory.grow` return -1.
#[derive(Debug)]
pub(crate) struct Held {
    limit: u64,
    now: u64,
    peak: u64,
    last: u64,
}

impl Held {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            now: 0,
            peak: 0,
            last: 0,
        }
    }

    /// The most bytes that were held at one time.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    fn grow(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let wanted = self.now.saturating_add(bytes);
        if wanted > self.limit {
            return Err(Stop::Failure(Failure::MemoryExceeded { limit: self.limit }).into());
        }
        self.now = wanted;
        self.last = bytes;
        self.peak = self.peak.max(wanted);
        Ok(true)
    }

    fn give_back(&mut self) {
        self.now = self.now.saturating_sub(self.last);
        self.last = 0;
    }
}

impl ResourceLimiter for Held {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current).saturating_mul(ELEMENT))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.give_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn memories(&self) -> usize {
        MEMORIES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_memories_and_tables_share_one_limit() {
        let mut held = Held::new(1000);
        assert!(held.memory_growing(0, 400, None).is_ok());
        assert!(held.memory_growing(0, 400, None).is_ok());
        assert!(held.table_growing(0, 25, None).is_ok());
        assert!(held.table_growing(25, 26, None).is_err());
        assert_eq!(held.peak(), 1000);
    }

    #[test]
    fn growth_that_failed_is_not_counted() {
        let mut held = Held::new(1000);
        assert!(held.memory_growing(0, 900, None).is_ok());
        held.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert!(held.memory_growing(0, 1000, None).is_ok());
    }
}
