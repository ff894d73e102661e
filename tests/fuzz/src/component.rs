//! Bytes that are said to be a component: loading says what is wrong, and what loads can be asked for its schema within its limits.

use std::sync::LazyLock;
use std::time::Duration;

use penstock_model::grant::Grants;
use penstock_model::limits::Limits;
use penstock_sandbox::{Allocation, Engine, EngineSettings};

/// More than a seed has; a larger one only takes longer to compile.
const MOST: usize = 64 * 1024;

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let engine = Engine::new(EngineSettings {
        threads: 1,
        slots: 2,
        allocation: Allocation::OnDemand,
        ..EngineSettings::default()
    });
    engine.unwrap()
});

/// Runs it.
pub fn run(data: &[u8]) {
    if data.len() > MOST {
        return;
    }
    let engine = &*ENGINE;
    let limits = Limits {
        cpu: Duration::from_millis(20),
        deadline: Duration::from_millis(500),
        memory: 4 << 20,
        ..Limits::default()
    };
    match engine.load("fuzz".into(), data, limits, Grants::default()) {
        Ok(plugin) => {
            // On the guests' own threads: no thread is changed.
            let threads = engine.threads();
            let _ = threads.block_on(plugin.schema());
            let _ = threads.block_on(plugin.validate("{}"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
