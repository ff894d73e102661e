//! A cache file that is ours by its MAC and not this engine's by what is in it.

use std::path::Path;

use super::*;
use crate::cache::CacheKey;
use crate::compile::ChildSettings;

/// A component that keeps the contract of a trigger and does nothing.
fn trigger() -> Vec<u8> {
    penstock_written_guests::empty(
        "export penstock:plugin/settings@0.1.0; export penstock:plugin/trigger@0.1.0;",
    )
}

fn engine(dir: &Path, compiler: Compiler) -> Engine {
    Engine::new(EngineSettings {
        slots: 2,
        allocation: Allocation::OnDemand,
        compiler,
        cache: Some(CacheSettings {
            dir: dir.to_owned(),
            key: CacheKey::new([1; 32]),
        }),
        ..EngineSettings::default()
    })
    .unwrap()
}

#[test]
fn code_of_ours_that_is_not_for_this_wasmtime_is_compiled_again() {
    let home = tempfile::tempdir().unwrap();
    let wasm = trigger();
    let load =
        |engine: &Engine| engine.load("p".into(), &wasm, Limits::default(), Grants::default());
    let none = || Compiler::Child(ChildSettings::new("/nowhere/compile", []));
    let ours = engine(home.path(), Compiler::InProcess);
    load(&ours).unwrap();
    load(&engine(home.path(), none())).unwrap();
    let cache = ours.0.cache.as_ref().unwrap();
    let (digest, compatibility) = (Digest::of(&wasm), ours.0.first.compatibility);
    let good = cache.read(digest, compatibility).unwrap();
    // Another release of the host, with other settings of its engine.
    let mut settings = wasmtime::Config::new();
    settings.wasm_component_model(true);
    let other = wasmtime::Engine::new(&settings).unwrap();
    let other = other.precompile_component(&wasm).unwrap();
    for other in [other, b"no code at all".to_vec(), Vec::new()] {
        cache.write(digest, compatibility, &other);
        assert!(cache.read(digest, compatibility).is_some(), "its MAC holds");
        assert!(load(&engine(home.path(), none())).is_err(), "it is not run");
        load(&engine(home.path(), Compiler::InProcess)).unwrap();
        assert_eq!(
            cache.read(digest, compatibility).as_ref(),
            Some(&good),
            "it is written again"
        );
    }
}
