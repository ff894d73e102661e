//! Streams: what a guest prints becomes lines of its log, within the log's limit; what it reads is at its end.

use penstock_model::record::LogLine;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, LinkerInstance, Lower, Resource, ResourceType};

use super::clock::Pollable;
use super::handles;
use crate::ask::Caller;
use crate::stop::Stop;

/// Bytes after which a line is ended, whether the guest ended it or not.
const LINE: usize = 4096;

/// `wasi:io/error`: none is ever made.
pub(super) struct IoError;
/// The input, at its end.
pub(super) struct Input;
/// Standard output or standard error.
#[derive(Clone, Copy, Debug)]
pub(super) enum Output {
    Out,
    Error,
}

/// Lines that are not ended yet.
#[derive(Debug, Default)]
pub(super) struct Printed {
    out: Vec<u8>,
    error: Vec<u8>,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[expect(dead_code, reason = "the contract of WASI has it; nothing here fails")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

impl Output {
    /// Streams have no state of their own: the handle's number says which it is.
    fn handle(self) -> Resource<Self> {
        Resource::new_own(match self {
            Self::Out => 1,
            Self::Error => 2,
        })
    }

    fn of(handle: &Resource<Self>) -> Self {
        if handle.rep() == 1 {
            Self::Out
        } else {
            Self::Error
        }
    }

    fn log(self, caller: &mut Caller, line: &[u8]) {
        let (level, name) = match self {
            Self::Out => ("info", "stdout"),
            Self::Error => ("warn", "stderr"),
        };
        caller.keep(LogLine {
            level: level.to_owned(),
            message: String::from_utf8_lossy(line).into_owned(),
            fields: vec![("stream".to_owned(), name.to_owned())],
        });
    }

    fn buffer(self, printed: &mut Printed) -> &mut Vec<u8> {
        match self {
            Self::Out => &mut printed.out,
            Self::Error => &mut printed.error,
        }
    }

    fn write(self, caller: &mut Caller, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            for text in chunks(text) {
                let buffer = self.buffer(&mut caller.wasi.printed);
                buffer.extend_from_slice(text);
                if buffer.len() >= LINE {
                    self.end_line(caller);
                }
            }
            if ended {
                self.end_line(caller);
            }
        }
    }

    fn end_line(self, caller: &mut Caller) {
        let line = std::mem::take(self.buffer(&mut caller.wasi.printed));
        if !line.is_empty() {
            self.log(caller, &line);
        }
    }
}

fn chunks(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.chunks(LINE)
}

/// Ends the lines that the guest did not end.
pub(super) fn flush(caller: &mut Caller) {
    Output::Out.end_line(caller);
    Output::Error.end_line(caller);
}

type Cx<'a> = StoreContextMut<'a, Caller>;
type Done<T> = wasmtime::Result<(Result<T, StreamError>,)>;

pub(super) fn link(linker: &mut Linker<Caller>) -> wasmtime::Result<()> {
    let mut error = linker.instance("wasi:io/error@0.2.0")?;
    error.resource("error", ResourceType::host::<IoError>(), |_, _| Ok(()))?;
    error.func_wrap(
        "[method]error.to-debug-string",
        |_: Cx<'_>, (_,): (Resource<IoError>,)| Ok((String::new(),)),
    )?;
    let mut streams = linker.instance("wasi:io/streams@0.2.0")?;
    let given_back = |mut cx: Cx<'_>, _: u32| {
        handles::given_back(&mut cx);
        Ok(())
    };
    streams.resource("input-stream", ResourceType::host::<Input>(), given_back)?;
    streams.resource("output-stream", ResourceType::host::<Output>(), given_back)?;
    read(&mut streams)?;
    write(&mut streams)?;
    let mut cli = linker.instance("wasi:cli/stdin@0.2.0")?;
    cli.func_wrap("get-stdin", |mut cx: Cx<'_>, (): ()| {
        handles::made(&mut cx, 0);
        Ok((Resource::<Input>::new_own(0),))
    })?;
    for (interface, function, output) in [
        ("wasi:cli/stdout@0.2.0", "get-stdout", Output::Out),
        ("wasi:cli/stderr@0.2.0", "get-stderr", Output::Error),
    ] {
        let mut cli = linker.instance(interface)?;
        cli.func_wrap(function, move |mut cx: Cx<'_>, (): ()| {
            handles::made(&mut cx, 0);
            Ok((output.handle(),))
        })?;
    }
    Ok(())
}

fn read(streams: &mut LinkerInstance<'_, Caller>) -> wasmtime::Result<()> {
    for name in ["read", "blocking-read"] {
        streams.func_wrap(
            &format!("[method]input-stream.{name}"),
            |mut cx: Cx<'_>, (_, _): (Resource<Input>, u64)| -> Done<Vec<u8>> {
                handles::lent(&mut cx, 1);
                Ok((Err(StreamError::Closed),))
            },
        )?;
    }
    for name in ["skip", "blocking-skip"] {
        streams.func_wrap(
            &format!("[method]input-stream.{name}"),
            |mut cx: Cx<'_>, (_, _): (Resource<Input>, u64)| -> Done<u64> {
                handles::lent(&mut cx, 1);
                Ok((Err(StreamError::Closed),))
            },
        )?;
    }
    streams.func_wrap(
        "[method]input-stream.subscribe",
        |mut cx: Cx<'_>, (_,): (Resource<Input>,)| {
            handles::made(&mut cx, 1);
            Ok((Pollable::ready(),))
        },
    )
}

fn write(streams: &mut LinkerInstance<'_, Caller>) -> wasmtime::Result<()> {
    streams.func_wrap(
        "[method]output-stream.check-write",
        |mut cx: Cx<'_>, (_,): (Resource<Output>,)| -> Done<u64> {
            handles::lent(&mut cx, 1);
            Ok((Ok(LINE as u64),))
        },
    )?;
    for name in ["write", "blocking-write-and-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |mut cx: Cx<'_>, (stream, bytes): (Resource<Output>, Vec<u8>)| -> Done<()> {
                handles::lent(&mut cx, 1);
                Output::of(&stream).write(cx.data_mut(), &bytes);
                Ok((Ok(()),))
            },
        )?;
    }
    for name in ["flush", "blocking-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |mut cx: Cx<'_>, (_,): (Resource<Output>,)| -> Done<()> {
                handles::lent(&mut cx, 1);
                Ok((Ok(()),))
            },
        )?;
    }
    for name in ["write-zeroes", "blocking-write-zeroes-and-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |_: Cx<'_>, (_, _): (Resource<Output>, u64)| -> Done<()> {
                Err(Stop::trap("wasi:io/streams: zeroes can't be printed").into())
            },
        )?;
    }
    for name in ["splice", "blocking-splice"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |mut cx: Cx<'_>, (_, _, _): (Resource<Output>, Resource<Input>, u64)| -> Done<u64> {
                handles::lent(&mut cx, 2);
                Ok((Err(StreamError::Closed),))
            },
        )?;
    }
    streams.func_wrap(
        "[method]output-stream.subscribe",
        |mut cx: Cx<'_>, (_,): (Resource<Output>,)| {
            handles::made(&mut cx, 1);
            Ok((Pollable::ready(),))
        },
    )
}
