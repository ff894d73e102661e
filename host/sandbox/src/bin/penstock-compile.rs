//! Compiles one component from standard input to standard output: the child that [`penstock_sandbox::compile`] talks to, for tests and for hosts that
//! keep the compiler in a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    penstock_sandbox::compile::serve()
}
