//! What a compiler that was taken over can still do: an attacker in a process of its own tries everything.

use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use penstock_sandbox::LoadError;
use penstock_sandbox::{Allocation, ChildSettings, CompileError, Compiler, Engine, EngineSettings};

use crate::stage::grants;

/// Set for the process that is the attacker.
const ATTACKER: &str = "PENSTOCK_TEST_ATTACKER";

/// Not a test of its own: what the attacker does, in a process that `nothing_but_pipes_memory_and_threads_is_left` starts.
#[test]
#[ignore = "started by another test, in a process of its own"]
fn attack() {
    if std::env::var_os(ATTACKER).is_none() {
        return;
    }
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let mut inherited = std::io::BufReader::new(&file);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let parent = rustix::process::getppid().unwrap();
    penstock_sandbox::confine::confine().unwrap();
    let mut won: Vec<&str> = Vec::new();
    let mut tries = |what, worked: bool| {
        if worked {
            won.push(what);
        }
    };
    tries("tcp", std::net::TcpStream::connect(address).is_ok());
    tries(
        "accept",
        listener.set_nonblocking(true).is_ok() || listener.accept().is_ok(),
    );
    tries("udp", UdpSocket::bind("127.0.0.1:0").is_ok());
    tries("unix", UnixDatagram::unbound().is_ok());
    tries("socketpair", UnixStream::pair().is_ok());
    tries("read a file", std::fs::read("/etc/hostname").is_ok());
    tries(
        "write a file",
        std::fs::write("/tmp/penstock-attack", "x").is_ok(),
    );
    tries("list a folder", std::fs::read_dir("/").is_ok());
    tries("see a file", std::fs::metadata("/etc/passwd").is_ok());
    tries(
        "remove a file",
        std::fs::remove_file("/tmp/penstock-attack").is_ok(),
    );
    tries("an inherited descriptor", {
        let mut byte = [0; 1];
        inherited.read(&mut byte).is_ok()
    });
    tries("run a program", Command::new("/bin/true").status().is_ok());
    tries("pipe", std::io::pipe().is_ok());
    tries(
        "signal another process",
        rustix::process::test_kill_process(parent).is_ok(),
    );
    let more = rustix::process::Rlimit {
        current: None,
        maximum: None,
    };
    // The library takes it for impossible that this is not permitted.
    let raised = std::panic::catch_unwind(|| {
        rustix::process::setrlimit(rustix::process::Resource::Core, more).is_ok()
    });
    tries("raise a limit", raised.unwrap_or(false));
    tries("another folder", rustix::process::chdir("/tmp").is_ok());
    // What compiling needs is there.
    let sum = std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(|| vec![1_u64; 1 << 20].iter().sum::<u64>())
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(sum, 1 << 20);
    // The answer, on the pipe that it has.
    let _ = std::io::Write::write_all(
        &mut std::io::stdout().lock(),
        format!("\nWON {won:?}\n").as_bytes(),
    );
}

#[test]
fn nothing_but_pipes_memory_and_threads_is_left() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "confined::attack", "--nocapture"])
        .env(ATTACKER, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("WON []"), "{told}\n{output:?}");
}

/// The child that the server starts does to itself what `attack` does: before it has read anything of the component.
#[test]
fn a_compiling_child_confines_itself() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("pid");
    let script = format!(
        "echo $$ > {}; exec {}",
        file.display(),
        env!("CARGO_BIN_EXE_penstock-compile")
    );
    let engine = Engine::new(EngineSettings {
        slots: 2,
        allocation: Allocation::OnDemand,
        compiler: Compiler::Child(ChildSettings::new("/bin/sh", ["-c".into(), script.into()])),
        ..EngineSettings::default()
    })
    .unwrap();
    let wasm = penstock_written_guests::takes_minutes();
    let compiling = std::thread::spawn(move || {
        let limits = penstock_model::limits::Limits::default();
        engine.load("p".into(), &wasm, limits, grants())
    });
    let begun = Instant::now();
    let (pid, status) = loop {
        let pid = std::fs::read_to_string(&file).ok();
        let pid: Option<i32> = pid.and_then(|pid| pid.strip_suffix('\n')?.parse().ok());
        let seen = pid.and_then(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            Some((pid, status))
        });
        match seen {
            Some((pid, status)) if status.contains("Seccomp:\t2") => break (pid, status),
            _ => assert!(
                begun.elapsed() < Duration::from_secs(60) && !compiling.is_finished(),
                "it is not confined"
            ),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // It has a minute of the processor for what takes longer: it is there until it is ended.
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let error = compiling.join().unwrap().unwrap_err();
    assert!(
        matches!(error, LoadError::Compile(CompileError::Died { .. })),
        "{error}"
    );
}
