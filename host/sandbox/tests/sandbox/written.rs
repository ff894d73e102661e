//! Components written by hand: a core module in WAT, made a component of a world of the contract.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve, WorldId};

fn contract() -> Resolve {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    resolve.push_dir(wit).expect("the contract parses");
    resolve
}

fn world(resolve: &mut Resolve, text: &str) -> WorldId {
    let package = resolve
        .push_str("test.wit", text)
        .expect("the world parses");
    resolve
        .select_world(&[package], Some("w"))
        .expect("the world is there")
}

fn component(mut module: Vec<u8>, resolve: &Resolve, world: WorldId) -> Vec<u8> {
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8, true).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .encode()
        .unwrap()
}

/// A component that has these imports and exports and does nothing: `export penstock:plugin/trigger@0.1.0; …`.
pub(crate) fn empty(items: &str) -> Vec<u8> {
    empty_with("", items)
}

/// The same, with packages that the items may name.
pub(crate) fn empty_with(packages: &str, items: &str) -> Vec<u8> {
    let mut resolve = contract();
    let text = format!("package test:worlds;\nworld w {{ {items} }}\n{packages}");
    let world = world(&mut resolve, &text);
    let module = dummy_module(
        &resolve,
        world,
        ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync),
    );
    component(module, &resolve, world)
}

/// A trigger plugin: `decide` runs `body` and answers the plan at address 1024, which is empty unless something is written there. `fields` are more of the module.
pub(crate) fn trigger(fields: &str, body: &str) -> Vec<u8> {
    Written {
        fields,
        decide: body,
        ..Written::default()
    }
    .component()
}

/// A trigger plugin in WAT.
#[derive(Default)]
pub(crate) struct Written<'a> {
    /// Packages that `items` may name.
    pub(crate) packages: &'a str,
    /// More of its world, such as `import wasi:clocks/monotonic-clock@0.2.0;`.
    pub(crate) items: &'a str,
    /// Imports of the module: they come before everything else.
    pub(crate) imports: &'a str,
    /// More fields of the module.
    pub(crate) fields: &'a str,
    /// What `schema` does before it answers the text at address 1024.
    pub(crate) schema: &'a str,
    /// What `decide` does before it answers the plan at address 1024.
    pub(crate) decide: &'a str,
}

impl Written<'_> {
    pub(crate) fn component(&self) -> Vec<u8> {
        let Self {
            packages,
            items,
            imports,
            fields,
            schema,
            decide,
        } = self;
        let mut resolve = contract();
        let text = format!(
            "package test:worlds; world w {{ import penstock:plugin/log@0.1.0; import penstock:plugin/delivery@0.1.0; {items} \
             export penstock:plugin/settings@0.1.0; export penstock:plugin/trigger@0.1.0; }}\n{packages}"
        );
        let world = world(&mut resolve, &text);
        let module = format!(
            r#"(module
            {imports}
            {fields}
            (memory $main (export "memory") 4)
            (global $free (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                (global.set $free (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func (export "penstock:plugin/settings@0.1.0#schema") (result i32) {schema} (i32.const 1024))
            (func (export "penstock:plugin/settings@0.1.0#validate") (param i32 i32) (result i32) (i32.const 1024))
            (func (export "penstock:plugin/trigger@0.1.0#decide") (param i32) (result i32)
                {decide}
                (i32.const 1024)))"#
        );
        component(
            wat::parse_str(&module).unwrap_or_else(|error| panic!("{error}\n{module}")),
            &resolve,
            world,
        )
    }
}
