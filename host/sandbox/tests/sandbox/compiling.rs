//! Compiling in a child, and compiled code on disk.

use std::path::Path;
use std::time::{Duration, Instant};

use penstock_model::limits::Limits;
use penstock_sandbox::{
    Allocation, CacheKey, CacheSettings, ChildSettings, CompileError, Compiler, Engine,
    EngineError, EngineSettings, LoadError, Plugin,
};

use crate::stage::{Told, grants, guest, input, reasons, usual};

fn child() -> ChildSettings {
    ChildSettings::new(env!("CARGO_BIN_EXE_penstock-compile"), [])
}

fn engine(compiler: Compiler, cache: Option<CacheSettings>) -> Engine {
    Engine::new(EngineSettings {
        slots: 2,
        allocation: Allocation::OnDemand,
        compiler,
        cache,
        ..EngineSettings::default()
    })
    .unwrap()
}

fn load(engine: &Engine, wasm: &[u8]) -> Result<Plugin, LoadError> {
    engine.load("p".into(), wasm, Limits::default(), grants())
}

async fn works(plugin: &Plugin) {
    let record = plugin.decide(input("{}"), Told::new(usual)).await.unwrap();
    assert!(reasons(&record).len() <= 1);
}

#[tokio::test]
async fn a_child_compiles_what_runs_in_the_pool_too() {
    let engine = Engine::new(EngineSettings {
        slots: 2,
        compiler: Compiler::Child(child()),
        ..EngineSettings::default()
    })
    .unwrap();
    works(&load(&engine, &guest("minimal")).unwrap_or_else(|error| panic!("{error}"))).await;
}

#[test]
fn a_child_is_limited_in_time_memory_and_output() {
    let failed = |settings: ChildSettings| match load(
        &engine(Compiler::Child(settings), None),
        &guest("misbehave"),
    ) {
        Err(LoadError::Compile(error)) => error,
        other => panic!("{other:?}"),
    };
    let error = failed(ChildSettings {
        time: Duration::ZERO,
        ..child()
    });
    assert!(matches!(error, CompileError::TooSlow { .. }), "{error}");
    let error = failed(ChildSettings {
        memory: 40 << 20,
        ..child()
    });
    assert!(
        matches!(
            error,
            CompileError::Died { .. } | CompileError::Invalid { .. }
        ),
        "{error}"
    );
    let error = failed(ChildSettings {
        output: 1000,
        ..child()
    });
    assert!(
        matches!(error, CompileError::TooLarge { limit: 1000 }),
        "{error}"
    );
    let error = failed(ChildSettings::new("/nowhere/compile", []));
    assert!(matches!(error, CompileError::Child { .. }), "{error}");
}

/// A component of 30 MB whose code is nothing but calls through a table: a few bytes each, and a hundred times as much to compile.
fn takes_minutes() -> Vec<u8> {
    fn length(mut n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = u8::try_from(n & 0x7f).unwrap();
            n >>= 7;
            if n == 0 {
                bytes.push(low);
                return bytes;
            }
            bytes.push(low | 0x80);
        }
    }
    let section = |id: u8, content: &[u8]| [&[id][..], &length(content.len()), content].concat();
    const FUNCTIONS: usize = 1_500;
    // local.get 0, local.get 1, local.get 0, call_indirect, local.set 0
    let piece = [0x20, 0, 0x20, 1, 0x20, 0, 0x11, 0, 0, 0x21, 0];
    let body = [
        &[0][..],
        &piece.repeat(20_000 / piece.len()),
        &[0x20, 0, 0x0b],
    ]
    .concat();
    let body = [length(body.len()), body].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]),
        section(3, &[length(FUNCTIONS), vec![0; FUNCTIONS]].concat()),
        section(4, &[1, 0x70, 0, 1]),
        section(10, &[length(FUNCTIONS), body.repeat(FUNCTIONS)].concat()),
    ]
    .concat();
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat()
}

#[test]
fn a_component_that_takes_minutes_to_compile_is_given_up() {
    let wasm = takes_minutes();
    assert!(wasm.len() as u64 <= Limits::default().component);
    let settings = ChildSettings {
        time: Duration::from_secs(2),
        ..child()
    };
    let began = Instant::now();
    let error = load(&engine(Compiler::Child(settings), None), &wasm).unwrap_err();
    assert!(
        matches!(&error, LoadError::Compile(CompileError::TooSlow { limit }) if *limit == Duration::from_secs(2)),
        "{error}"
    );
    // The child is gone by then: its pipes and its end are waited for.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn processor_time_is_a_limit_of_its_own() {
    let settings = ChildSettings {
        processor: Duration::from_secs(1),
        ..child()
    };
    let error = load(&engine(Compiler::Child(settings), None), &takes_minutes()).unwrap_err();
    assert!(
        matches!(&error, LoadError::Compile(CompileError::TooSlow { limit }) if *limit == Duration::from_secs(1)),
        "{error}"
    );
}

#[test]
fn a_child_says_what_is_wrong_with_a_component() {
    let error = load(
        &engine(Compiler::Child(child()), None),
        b"\0asm\x0d\0\x01\0nonsense",
    )
    .unwrap_err();
    assert!(
        matches!(&error, LoadError::Compile(CompileError::Invalid { message }) if !message.is_empty()),
        "{error}"
    );
}

fn cached(dir: &Path, key: [u8; 32], compiler: Compiler) -> Engine {
    let cache = CacheSettings {
        dir: dir.to_owned(),
        key: CacheKey::new(key),
    };
    engine(compiler, Some(cache))
}

/// A compiler that fails: what loads with it came from the cache.
fn none() -> Compiler {
    Compiler::Child(ChildSettings::new("/nowhere/compile", []))
}

fn only_file(dir: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[tokio::test]
async fn compiled_code_is_used_again_and_only_with_its_key() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("code");
    let wasm = guest("minimal");
    load(&cached(&dir, [1; 32], Compiler::InProcess), &wasm).unwrap();
    works(&load(&cached(&dir, [1; 32], none()), &wasm).unwrap()).await;
    assert!(load(&cached(&dir, [2; 32], none()), &wasm).is_err());
}

#[tokio::test]
async fn forged_cut_or_swapped_code_is_compiled_again() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("code");
    let wasm = guest("minimal");
    let key = [1; 32];
    load(&cached(&dir, key, Compiler::InProcess), &wasm).unwrap();
    let file = only_file(&dir);
    let good = std::fs::read(&file).unwrap();

    let mut forged = good.clone();
    let middle = forged.len() / 2;
    forged[middle] ^= 1;
    let cut = good[..middle].to_vec();
    let other_dir = home.path().join("other");
    load(
        &cached(&other_dir, key, Compiler::InProcess),
        &guest("bench"),
    )
    .unwrap();
    let swapped = std::fs::read(only_file(&other_dir)).unwrap();

    for bad in [forged, cut, swapped, Vec::new()] {
        std::fs::write(&file, &bad).unwrap();
        assert!(
            load(&cached(&dir, key, none()), &wasm).is_err(),
            "it is not used"
        );
        works(&load(&cached(&dir, key, Compiler::InProcess), &wasm).unwrap()).await;
        assert_eq!(
            std::fs::read(&file).unwrap().len(),
            good.len(),
            "and is written again"
        );
        works(&load(&cached(&dir, key, none()), &wasm).unwrap()).await;
    }
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let settings = EngineSettings {
        cache: Some(CacheSettings {
            dir: home.path().to_owned(),
            key: CacheKey::new([0; 32]),
        }),
        ..EngineSettings::default()
    };
    let error = Engine::new(settings).unwrap_err();
    assert!(matches!(error, EngineError::Cache(_)), "{error}");
    assert!(error.to_string().contains("chmod 700"), "{error}");
    assert_eq!(format!("{:?}", CacheKey::new([9; 32])), "[redacted]");
}
