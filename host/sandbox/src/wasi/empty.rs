//! What every program asks for and no plugin has: arguments, variables, a terminal, folders. `exit` ends the call.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};

use super::handles;
use super::refuse::Refused;
use crate::ask::Caller;
use crate::stop::Stop;

/// `terminal-input`: there is none.
struct TerminalInput;
/// `terminal-output`: there is none.
struct TerminalOutput;

pub(super) fn link(linker: &mut Linker<Caller>) -> wasmtime::Result<()> {
    type Cx<'a> = StoreContextMut<'a, Caller>;
    let mut environment = linker.instance("wasi:cli/environment@0.2.0")?;
    environment.func_wrap("get-environment", |_: Cx<'_>, (): ()| {
        Ok((Vec::<(String, String)>::new(),))
    })?;
    environment.func_wrap("get-arguments", |_: Cx<'_>, (): ()| {
        Ok((Vec::<String>::new(),))
    })?;
    environment.func_wrap("initial-cwd", |_: Cx<'_>, (): ()| Ok((None::<String>,)))?;
    let mut exit = linker.instance("wasi:cli/exit@0.2.0")?;
    exit.func_wrap(
        "exit",
        |_: Cx<'_>, (status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
            let word = if status.is_ok() { "success" } else { "failure" };
            Err(Stop::trap(format!(
                "the plugin called exit with {word} before it answered"
            ))
            .into())
        },
    )?;
    let mut terminal = linker.instance("wasi:cli/terminal-input@0.2.0")?;
    terminal.resource(
        "terminal-input",
        ResourceType::host::<TerminalInput>(),
        |_, _| Ok(()),
    )?;
    let mut terminal = linker.instance("wasi:cli/terminal-output@0.2.0")?;
    terminal.resource(
        "terminal-output",
        ResourceType::host::<TerminalOutput>(),
        |_, _| Ok(()),
    )?;
    let mut terminal = linker.instance("wasi:cli/terminal-stdin@0.2.0")?;
    terminal.func_wrap("get-terminal-stdin", |_: Cx<'_>, (): ()| {
        Ok((None::<Resource<TerminalInput>>,))
    })?;
    for (interface, function) in [
        ("wasi:cli/terminal-stdout@0.2.0", "get-terminal-stdout"),
        ("wasi:cli/terminal-stderr@0.2.0", "get-terminal-stderr"),
    ] {
        let mut terminal = linker.instance(interface)?;
        terminal.func_wrap(function, |_: Cx<'_>, (): ()| {
            Ok((None::<Resource<TerminalOutput>>,))
        })?;
    }
    let mut folders = linker.instance("wasi:filesystem/preopens@0.2.0")?;
    folders.func_wrap("get-directories", |_: Cx<'_>, (): ()| {
        Ok((Vec::<(Resource<Refused>, String)>::new(),))
    })?;
    let mut network = linker.instance("wasi:sockets/instance-network@0.2.0")?;
    network.func_wrap("instance-network", |mut cx: Cx<'_>, (): ()| {
        handles::made(&mut cx, 0);
        Ok((Resource::<Refused>::new_own(0),))
    })
}
