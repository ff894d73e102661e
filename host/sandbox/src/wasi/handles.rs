//! How many handles to WASI's resources a guest holds, counted as the engine counts them.
//!
//! The engine refuses the handle that is one too many and does not say how many there are. A handle counts from when it is made until it is given back, and
//! once more while it is lent to a host call. Resources of a component's own never come to the host: they are not in this count.

use wasmtime::StoreContextMut;

use crate::ask::Caller;

/// Handles of one call.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    held: u32,
    peak: u32,
}

impl Handles {
    /// The most that were held at one time.
    pub(crate) fn peak(&self) -> u32 {
        self.peak
    }

    /// A host call was lent so many.
    fn lent(&mut self, count: usize) {
        let lent = u32::try_from(count).unwrap_or(u32::MAX);
        self.peak = self.peak.max(self.held.saturating_add(lent));
    }

    /// A host call that was lent so many makes one.
    fn made(&mut self, lent: usize) {
        self.held = self.held.saturating_add(1);
        self.lent(lent);
    }

    fn given_back(&mut self) {
        self.held = self.held.saturating_sub(1);
    }
}

/// A host call was lent so many handles.
pub(super) fn lent(cx: &mut StoreContextMut<'_, Caller>, count: usize) {
    cx.data_mut().wasi.handles.lent(count);
}

/// A host call that was lent so many handles makes one.
pub(super) fn made(cx: &mut StoreContextMut<'_, Caller>, lent: usize) {
    cx.data_mut().wasi.handles.made(lent);
}

/// The guest gave a handle back.
pub(super) fn given_back(cx: &mut StoreContextMut<'_, Caller>) {
    cx.data_mut().wasi.handles.given_back();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_and_what_was_lent_count_while_they_are_there() {
        let mut handles = Handles::default();
        handles.made(0);
        handles.made(1);
        assert_eq!(handles.peak(), 3, "two that are held, one of them lent");
        handles.given_back();
        handles.made(0);
        handles.lent(1);
        assert_eq!(handles.peak(), 3);
        handles.lent(2);
        assert_eq!(handles.peak(), 4);
    }
}
