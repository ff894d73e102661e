//! Compiling in a child, and compiled code on disk.

use std::path::Path;
use std::time::{Duration, Instant};

use penstock_model::limits::Limits;
use penstock_sandbox::{
    Allocation, CacheKey, CacheSettings, ChildSettings, CompileError, Compiler, Engine,
    EngineError, EngineSettings, LoadError, Plugin,
};

use penstock_written_guests::takes_minutes;

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
    assert!(took < Duration::from_secs(120), "{took:?}");
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

/// Whatever step the memory does not suffice for: it is never the component that is called wrong.
#[test]
fn a_child_without_memory_says_that_it_is_the_memory() {
    let wasm = guest("misbehave");
    let mut died = 0;
    for mebibytes in (8..).step_by(16) {
        let settings = ChildSettings {
            memory: mebibytes << 20,
            ..child()
        };
        match load(&engine(Compiler::Child(settings), None), &wasm) {
            Ok(_) => break,
            Err(LoadError::Compile(error @ CompileError::Died { memory, .. })) => {
                assert_eq!(memory, mebibytes << 20);
                assert!(error.to_string().contains("bytes of memory"), "{error}");
                died += 1;
            }
            Err(error) => panic!("with {mebibytes} MiB: {error}"),
        }
    }
    assert!(died > 2, "it suffices at once");
}

#[test]
fn a_child_has_no_environment_and_no_folder_of_its_own() {
    assert!(
        std::env::var_os("PATH").is_some(),
        "there is something to keep from it"
    );
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("told");
    let script = format!(
        "{{ readlink /proc/$$/cwd; cat /proc/$$/environ; }} > {}; exit 9",
        file.display()
    );
    let settings = ChildSettings::new("/bin/sh", ["-c".into(), script.into()]);
    let error = load(&engine(Compiler::Child(settings), None), &guest("minimal")).unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::Died { .. })),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "/\n");
}

/// With the pool in front of it a component could be compiled twice, and a limit would hold twice as long as it says.
#[test]
fn what_ran_into_a_limit_is_not_compiled_for_a_second_time() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("tries");
    let script = format!(
        "echo >> {}; exec {}",
        file.display(),
        env!("CARGO_BIN_EXE_penstock-compile")
    );
    let settings = ChildSettings {
        // Of the compiler alone: however late the shell begins, it has said so by then.
        processor: Duration::from_secs(1),
        ..ChildSettings::new("/bin/sh", ["-c".into(), script.into()])
    };
    let engine = Engine::new(EngineSettings {
        slots: 2,
        compiler: Compiler::Child(settings),
        ..EngineSettings::default()
    })
    .unwrap();
    assert!(engine.is_pooling());
    let error = load(&engine, &takes_minutes()).unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::TooSlow { .. })),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "\n");
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
