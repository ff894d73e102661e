//! How wasmtime is set up: the same for compiling and for running, deterministic, and without what no plugin needs.

use penstock_model::id::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, Memory, MemoryType, PoolingAllocationConfig, Store,
    WasmBacktraceDetails,
};

use crate::limiter;

/// Bytes of stack that a guest has. The engine's: no plugin sets it.
const STACK: usize = 512 * 1024;
/// Bytes of stack of a call: the guest's and, above it, the host functions'.
const CALL_STACK: usize = 2 * 1024 * 1024;

/// Linear memories that a component in the pool may have; one with more runs on demand.
const POOL_MEMORIES: u32 = 4;
/// Tables that a component in the pool may have.
const POOL_TABLES: u32 = 16;
/// Elements that a table in the pool may have.
const POOL_ELEMENTS: usize = 20_000;
/// Core instances that a component in the pool may have.
const POOL_INSTANCES: u32 = 32;
/// Bytes of a memory that stay mapped between two calls and are cleared by hand.
const KEEP: usize = 256 * 1024;
/// The same of a table.
const KEEP_TABLE: usize = 32 * 1024;
/// The same of a call's stack.
const KEEP_STACK: usize = 64 * 1024;

/// How much address space a linear memory reserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reservation {
    /// 4 GiB and a guard: no bounds checks in the code.
    Wide,
    /// Only what is used: for a process whose address space is limited.
    Narrow,
}

/// What code is compiled for and what it runs in on demand. `largest` is the most memory that any plugin may have.
pub(crate) fn on_demand(reservation: Reservation) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(STACK)
        .async_stack_size(CALL_STACK)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_threads(false)
        .wasm_shared_everything_threads(false)
        .shared_memory(false)
        .wasm_memory64(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_stack_switching(false)
        .gc_support(false)
        .wasm_multi_memory(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(256 * 1024 * 1024);
    match reservation {
        Reservation::Wide => {}
        Reservation::Narrow => {
            config
                .memory_reservation(0)
                .memory_guard_size(64 * 1024)
                .memory_reservation_for_growth(1024 * 1024)
                .memory_may_move(true);
        }
    }
    config
}

/// The same with a pool of `slots` calls, each of whose memories may have `memory` bytes.
fn pooled(slots: u32, memory: u64) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(POOL_INSTANCES))
        .total_memories(slots.saturating_mul(POOL_MEMORIES))
        .total_tables(slots.saturating_mul(POOL_TABLES))
        .total_stacks(slots)
        .max_core_instances_per_component(POOL_INSTANCES.min(limiter::INSTANCES))
        .max_memories_per_component(POOL_MEMORIES.min(limiter::MEMORIES))
        .max_tables_per_component(POOL_TABLES.min(limiter::TABLES))
        .table_elements(POOL_ELEMENTS)
        .max_memory_size(usize::try_from(memory).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(KEEP)
        .table_keep_resident(KEEP_TABLE)
        .async_stack_keep_resident(KEEP_STACK)
        .max_unused_warm_slots(slots);
    let mut config = on_demand(Reservation::Wide);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// The best engine that this process has the address space for: pooled, else on demand, else on demand with narrow memories.
pub(crate) fn probe(slots: u32, memory: u64, may_pool: bool) -> wasmtime::Result<Found> {
    if may_pool {
        match Engine::new(&pooled(slots, memory)) {
            Ok(engine) => {
                return Ok(Found {
                    engine,
                    reservation: Reservation::Wide,
                    pooled: true,
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no address space for a pool of plugin memories: they are made for each call");
            }
        }
    }
    let wide = Engine::new(&on_demand(Reservation::Wide))?;
    let mut store = Store::new(&wide, ());
    let (engine, reservation) = match Memory::new(&mut store, MemoryType::new(1, None)) {
        Ok(_) => (wide, Reservation::Wide),
        Err(error) => {
            tracing::warn!(%error, "little address space: plugin memories are checked and moved, which is slower");
            let narrow = Engine::new(&on_demand(Reservation::Narrow))?;
            (narrow, Reservation::Narrow)
        }
    };
    Ok(Found {
        engine,
        reservation,
        pooled: false,
    })
}

/// What [`probe`] found.
pub(crate) struct Found {
    pub(crate) engine: Engine,
    pub(crate) reservation: Reservation,
    pub(crate) pooled: bool,
}

/// What compiled code must agree with to run in this engine: wasmtime's version, settings, processor.
pub(crate) fn compatibility(engine: &Engine) -> Digest {
    struct Sha(Sha256);
    impl std::hash::Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Sha(Sha256::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
    Digest::of(&hasher.0.finalize())
}
