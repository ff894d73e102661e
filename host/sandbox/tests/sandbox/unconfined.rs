//! A kernel that takes no list of system calls: compiling goes on within its other limits, and it is said.

use std::process::{Command, Stdio};

use penstock_model::limits::Limits;
use penstock_sandbox::{Allocation, ChildSettings, Compiler, Engine, EngineSettings};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::stage::{grants, guest};

/// Set for the process that lives on such a kernel.
const WITHOUT: &str = "PENSTOCK_TEST_WITHOUT_SECCOMP";

/// Not a test of its own: what `without_seccomp_compiling_goes_on_and_the_log_says_so` starts. Its own filter answers `seccomp` as a kernel without it does,
/// for itself and for every process that it starts.
#[test]
#[ignore = "started by another test, in a process of its own"]
fn on_a_kernel_without_seccomp() {
    if std::env::var_os(WITHOUT).is_none() {
        return;
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stdout)
        .with_ansi(false)
        .init();
    let filter = SeccompFilter::new(
        [(libc::SYS_seccomp, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
    let child = ChildSettings::new(env!("CARGO_BIN_EXE_penstock-compile"), []);
    let engine = Engine::new(EngineSettings {
        slots: 2,
        allocation: Allocation::OnDemand,
        compiler: Compiler::Child(child),
        ..EngineSettings::default()
    });
    let loaded = engine
        .unwrap()
        .load("p".into(), &guest("minimal"), Limits::default(), grants());
    // The answer, for the test that started this.
    let told = format!("\nLOADED {}\n", loaded.is_ok());
    std::io::Write::write_all(&mut std::io::stdout().lock(), told.as_bytes()).unwrap();
}

#[test]
fn without_seccomp_compiling_goes_on_and_the_log_says_so() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "unconfined::on_a_kernel_without_seccomp",
            "--nocapture",
        ])
        .env(WITHOUT, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("LOADED true"), "{told}\n{output:?}");
    assert!(
        told.contains("WARN") && told.contains("does not take a list of system calls (seccomp)"),
        "{told}"
    );
}
