//! Plugins written by hand: a core module in WAT, made a component of a world of the contract.
//!
//! They lower what no toolchain would, and begin with what no compiler would make. Made where a test runs, so they need no toolchain for wasm.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a guest that can't be made is a mistake of the test that wants it"
)]

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve, WorldId};

fn contract() -> Resolve {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../wit");
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
///
/// # Panics
/// If the WAT or the world is wrong.
#[must_use]
pub fn empty(items: &str) -> Vec<u8> {
    empty_with("", items)
}

/// The same, with packages that the items may name.
///
/// # Panics
/// If the WAT or the world is wrong.
#[must_use]
pub fn empty_with(packages: &str, items: &str) -> Vec<u8> {
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
///
/// # Panics
/// If the WAT or the world is wrong.
#[must_use]
pub fn trigger(fields: &str, body: &str) -> Vec<u8> {
    Written {
        fields,
        decide: body,
        ..Written::default()
    }
    .component()
}

/// A trigger plugin in WAT.
#[derive(Default)]
pub struct Written<'a> {
    /// Packages that `items` may name.
    pub packages: &'a str,
    /// More of its world, such as `import wasi:clocks/monotonic-clock@0.2.0;`.
    pub items: &'a str,
    /// Imports of the module: they come before everything else.
    pub imports: &'a str,
    /// More fields of the module.
    pub fields: &'a str,
    /// What `schema` does before it answers the text at address 1024.
    pub schema: &'a str,
    /// What `decide` does before it answers the plan at address 1024.
    pub decide: &'a str,
}

impl Written<'_> {
    /// Its bytes.
    ///
    /// # Panics
    /// If the WAT or the world is wrong.
    #[must_use]
    pub fn component(&self) -> Vec<u8> {
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

/// A trigger plugin whose plan is whatever bytes its state holds under `k`: they are copied to where `decide` answers, so the host lifts them as a plan.
///
/// # Panics
/// Never, while the contract has `state.get`.
#[must_use]
pub fn answers_its_state() -> Vec<u8> {
    Written {
        items: "import penstock:plugin/state@0.1.0;",
        imports: r#"(import "penstock:plugin/state@0.1.0" "get" (func $get (param i32 i32 i32)))"#,
        fields: r#"(data (i32.const 512) "k")"#,
        // A result whose cases are 8 bytes apart: 0, then an option: 1, then the list's address and length.
        decide: "(global.set $free (i32.const 131072))
            (call $get (i32.const 512) (i32.const 1) (i32.const 600))
            (if (i32.eqz (i32.load8_u (i32.const 600)))
                (then (if (i32.load8_u (i32.const 608))
                    (then (memory.copy (i32.const 1024) (i32.load (i32.const 612)) (i32.load (i32.const 616)))))))",
        ..Written::default()
    }
    .component()
}

/// A trigger plugin that makes handles of a resource of its own and gives none back.
///
/// # Panics
/// Never.
#[must_use]
pub fn leaks_handles() -> Vec<u8> {
    Written {
        packages: "package test:mine { interface things { resource thing; } }",
        items: "export test:mine/things;",
        imports: r#"(import "[export]test:mine/things" "[resource-new]thing" (func $new (param i32) (result i32)))"#,
        decide: "(loop $l (drop (call $new (i32.const 1))) (br $l))",
        ..Written::default()
    }
    .component()
}

/// A trigger plugin whose only reason is no UTF-8.
///
/// # Panics
/// Never.
#[must_use]
pub fn answers_no_text() -> Vec<u8> {
    trigger(
        "",
        "(i32.store8 (i32.const 2000) (i32.const 255))
        (i32.store (i32.const 1980) (i32.const 2000)) (i32.store (i32.const 1984) (i32.const 1))
        (i32.store (i32.const 1036) (i32.const 1980)) (i32.store (i32.const 1040) (i32.const 1))",
    )
}
