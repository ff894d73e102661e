//! How many core instances a component makes, counted from its bytes before anything of it is compiled or runs.
//!
//! Components may be nested, and one may be instantiated often: a few hundred bytes can stand for millions. What can't be told from the bytes alone (a component that
//! another one exports, adapters that the engine adds) is left to [`crate::limiter`], which counts again while they are made.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Encoding, Instance, Parser, Payload,
};

/// One component that is being read.
#[derive(Default)]
struct Reading {
    /// Core instances that it makes.
    made: u32,
    /// What each component that it knows by number makes.
    components: Vec<u32>,
}

impl Reading {
    fn of(&self, component: u32) -> u32 {
        let number = usize::try_from(component).ok();
        number
            .and_then(|it| self.components.get(it))
            .copied()
            .unwrap_or(0)
    }
}

/// Core instances that a component makes. What does not parse counts nothing more: the compiler says what is wrong with it.
pub(crate) fn instances(wasm: &[u8]) -> u32 {
    let mut open: Vec<Reading> = Vec::new();
    // Modules have no index of components: only where they end matters.
    let mut in_module = false;
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(payload) = payload else { break };
        match payload {
            Payload::Version { encoding, .. } => match encoding {
                Encoding::Module => in_module = true,
                Encoding::Component => open.push(Reading::default()),
            },
            Payload::End(_) if in_module => in_module = false,
            Payload::End(_) => {
                let Some(ended) = open.pop() else { break };
                match open.last_mut() {
                    Some(outer) => outer.components.push(ended.made),
                    None => return ended.made,
                }
            }
            other => note(&mut open, other),
        }
    }
    open.first().map_or(0, |it| it.made)
}

/// Notes what a section of the innermost component adds.
fn note(open: &mut [Reading], payload: Payload<'_>) {
    match payload {
        Payload::InstanceSection(section) => {
            for instance in section.into_iter().flatten() {
                if matches!(instance, Instance::Instantiate { .. }) {
                    make(open, 1);
                }
            }
        }
        Payload::ComponentInstanceSection(section) => {
            for instance in section.into_iter().flatten() {
                if let ComponentInstance::Instantiate {
                    component_index, ..
                } = instance
                {
                    let more = open.last().map_or(0, |it| it.of(component_index));
                    make(open, more);
                }
            }
        }
        Payload::ComponentAliasSection(section) => {
            for alias in section.into_iter().flatten() {
                match alias {
                    ComponentAlias::InstanceExport {
                        kind: ComponentExternalKind::Component,
                        ..
                    } => know(open, 0),
                    ComponentAlias::Outer {
                        kind: ComponentOuterAliasKind::Component,
                        count,
                        index,
                    } => {
                        let outward = usize::try_from(count).unwrap_or(usize::MAX);
                        let outer = open.iter().rev().nth(outward);
                        let makes = outer.map_or(0, |it| it.of(index));
                        know(open, makes);
                    }
                    _ => {}
                }
            }
        }
        Payload::ComponentImportSection(section) => {
            for import in section.into_iter().flatten() {
                if let ComponentTypeRef::Component(_) = import.ty {
                    know(open, 0);
                }
            }
        }
        Payload::ComponentExportSection(section) => {
            for export in section.into_iter().flatten() {
                if export.kind == ComponentExternalKind::Component {
                    let makes = open.last().map_or(0, |it| it.of(export.index));
                    know(open, makes);
                }
            }
        }
        _ => {}
    }
}

fn make(open: &mut [Reading], more: u32) {
    if let Some(here) = open.last_mut() {
        here.made = here.made.saturating_add(more);
    }
}

fn know(open: &mut [Reading], makes: u32) {
    if let Some(here) = open.last_mut() {
        here.components.push(makes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(component: &str, expect: u32) {
        let wasm = wat::parse_str(component).unwrap();
        assert_eq!(instances(&wasm), expect, "{component}");
    }

    const TWO: &str =
        "(core module $m) (core instance (instantiate $m)) (core instance (instantiate $m))";

    #[test]
    fn instances_of_modules_count_and_bundles_of_exports_do_not() {
        check("(component)", 0);
        check(&format!("(component {TWO} (core instance))"), 2);
    }

    #[test]
    fn a_component_counts_as_often_as_it_is_instantiated() {
        check(&format!("(component (component $c {TWO}))"), 0);
        check(
            &format!(
                "(component (component $c {TWO}) (instance (instantiate $c)) (instance (instantiate $c)) {TWO})"
            ),
            6,
        );
        // By another number: an alias of the outer one's, and an export.
        check(
            &format!(
                "(component (component $c {TWO})
                    (component $d (alias outer 1 $c (component $e)) (instance (instantiate $e)) (instance (instantiate $e)))
                    (export $f \"f\" (component $d)) (instance (instantiate $f)))"
            ),
            4,
        );
    }

    #[test]
    fn a_few_bytes_that_stand_for_more_than_can_be_counted_are_counted_at_once() {
        let mut text = format!("(component $c0 {TWO})");
        for n in 1..40 {
            let before = n - 1;
            let one = format!(
                "(alias outer 1 $c{before} (component $e)) (instance (instantiate $e)) (instance (instantiate $e))"
            );
            text.push_str(&format!("(component $c{n} {one})"));
        }
        check(
            &format!("(component {text} (instance (instantiate $c39)))"),
            u32::MAX,
        );
    }

    #[test]
    fn what_is_no_component_is_left_to_the_compiler() {
        assert_eq!(instances(b"\0asm\x0d\0\x01\0\x02\xff"), 0);
        assert_eq!(instances(&wat::parse_str("(module)").unwrap()), 0);
        assert_eq!(instances(b""), 0);
    }
}
