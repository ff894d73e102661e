//! Sockets, HTTP and files: a runtime may name them, and each function says no, in the words of its interface where it has any, else by ending the call.
//!
//! These interfaces have more than a hundred functions and grow with every version of WASI. None of them is written down here: each component's own imports say
//! which functions there are and how they can say no.

use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};
use wasmtime::component::{Component, Linker, ResourceType, Val};

use super::clock::Pollable;
use super::handles;
use super::print::{Input, IoError, Output};
use crate::ask::Caller;
use crate::stop::Stop;

/// A socket, a network, a file, a request: nobody has one, but for the network that sockets are asked of.
pub(super) struct Refused;

/// An interface that is answered here.
pub(super) fn covers(import: &str) -> bool {
    ["wasi:sockets/", "wasi:http/", "wasi:filesystem/types@"]
        .iter()
        .any(|begin| import.starts_with(begin))
}

pub(super) fn link(linker: &mut Linker<Caller>, component: &Component) -> wasmtime::Result<()> {
    let engine = component.engine();
    for (interface, item) in component.component_type().imports(engine) {
        if !covers(interface) || interface.starts_with("wasi:sockets/instance-network@") {
            continue;
        }
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            continue;
        };
        let mut linker = linker.instance(interface)?;
        for (name, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => {
                    let full = format!("{interface}#{name}");
                    linker.func_new_async(name, move |mut cx, ty, params, results| {
                        let full = full.clone();
                        Box::new(async move {
                            let lent = params.iter().filter(|it| matches!(it, Val::Resource(_)));
                            handles::lent(&mut cx, lent.count());
                            for param in params {
                                if let Val::Resource(it) = param {
                                    it.resource_drop_async(&mut cx).await?;
                                }
                            }
                            let no = no(&ty).ok_or_else(|| ended(&full))?;
                            match (results, no) {
                                ([], None) => Ok(()),
                                ([result], Some(no)) => {
                                    *result = no;
                                    Ok(())
                                }
                                _ => Err(ended(&full)),
                            }
                        })
                    })?;
                }
                ComponentItem::Resource(_) => {
                    let ty = match name {
                        "pollable" => ResourceType::host::<Pollable>(),
                        "input-stream" => ResourceType::host::<Input>(),
                        "output-stream" => ResourceType::host::<Output>(),
                        "error" | "io-error" => ResourceType::host::<IoError>(),
                        _ => ResourceType::host::<Refused>(),
                    };
                    linker.resource(name, ty, |mut cx, _| {
                        handles::given_back(&mut cx);
                        Ok(())
                    })?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// How a function says no; none: it has no way to. The inner none is for a function without a result.
fn no(ty: &ComponentFunc) -> Option<Option<Val>> {
    let mut results = ty.results();
    let result = results.next()?;
    match (result, results.next()) {
        (Type::Option(_), None) => Some(Some(Val::Option(None))),
        (Type::Result(result), None) => {
            let error = match result.err() {
                None => None,
                Some(error) => Some(Box::new(error_word(&error)?)),
            };
            Some(Some(Val::Result(Err(error))))
        }
        _ => None,
    }
}

/// The first of these words that the error has.
fn error_word(ty: &Type) -> Option<Val> {
    const WORDS: [&str; 3] = ["access-denied", "HTTP-request-denied", "not-supported"];
    match ty {
        Type::Enum(cases) => WORDS
            .iter()
            .find(|word| cases.names().any(|name| name == **word))
            .map(|word| Val::Enum((*word).to_owned())),
        Type::Variant(cases) => WORDS
            .iter()
            .find(|word| {
                cases
                    .cases()
                    .any(|case| case.name == **word && case.ty.is_none())
            })
            .map(|word| Val::Variant((*word).to_owned(), None)),
        _ => None,
    }
}

fn ended(function: &str) -> wasmtime::Error {
    Stop::trap(format!(
        "the plugin called `{function}`, and plugins have neither network nor files: use the imports `fetch` and `gitlab-read`"
    ))
    .into()
}
