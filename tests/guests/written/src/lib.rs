//! Plugins written by hand: a core module in WAT, made a component of a world of the contract.
//!
//! They lower what no toolchain would, and begin with what no compiler would make. Made where a test runs, so they need no toolchain for wasm.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
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

/// A trigger plugin whose plan has an effect of a case that there isn't.
///
/// # Panics
/// Never.
#[must_use]
pub fn answers_no_case() -> Vec<u8> {
    // One effect at 3000: its key, then the case of its action at 3008.
    trigger(
        "",
        "(i32.store (i32.const 1028) (i32.const 3000)) (i32.store (i32.const 1032) (i32.const 1))
        (i32.store8 (i32.const 3008) (i32.const 99))",
    )
}

/// A trigger plugin whose only reason has 1 GiB of zeroes, which cost it nothing. It needs as much of `limits.memory`.
///
/// # Panics
/// Never.
#[must_use]
pub fn answers_a_gibibyte() -> Vec<u8> {
    trigger(
        "",
        "(drop (memory.grow $main (i32.const 16400)))
        (i32.store (i32.const 1980) (i32.const 65536)) (i32.store (i32.const 1984) (i32.const 1073741824))
        (i32.store (i32.const 1036) (i32.const 1980)) (i32.store (i32.const 1040) (i32.const 1))",
    )
}

/// A trigger plugin whose plan has a million effects, all of zeroes. It needs 1 GiB of `limits.memory`.
///
/// # Panics
/// Never.
#[must_use]
pub fn answers_a_million_effects() -> Vec<u8> {
    trigger(
        "",
        "(drop (memory.grow $main (i32.const 16000)))
        (i32.store (i32.const 1028) (i32.const 65536)) (i32.store (i32.const 1032) (i32.const 1000000))",
    )
}

/// A trigger plugin that grows three memories in turn, for ever.
///
/// # Panics
/// Never.
#[must_use]
pub fn grows_memories() -> Vec<u8> {
    trigger(
        "(memory $a 1) (memory $b 1) (memory $c 1)",
        "(loop $l
            (drop (memory.grow $a (i32.const 1)))
            (drop (memory.grow $b (i32.const 1)))
            (drop (memory.grow $c (i32.const 1)))
            (br $l))",
    )
}

/// A trigger plugin that grows a table, for ever.
///
/// # Panics
/// Never.
#[must_use]
pub fn grows_a_table() -> Vec<u8> {
    trigger(
        "(table $t 1 funcref)",
        "(loop $l (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $l))",
    )
}

/// The same component with so many instances of an empty module more.
///
/// # Panics
/// If it is no component.
#[must_use]
pub fn with_instances(component: &[u8], count: usize) -> Vec<u8> {
    // How many modules it has says which one the empty one is.
    let (mut modules, mut at) = (0, 8);
    while at < component.len() {
        modules += usize::from(component[at] == 1);
        let (length, begins) = read_length(component, at + 1);
        at = begins + length;
    }
    let instance = [&[0][..], &length(modules), &[0]].concat();
    [
        component.to_vec(),
        section(1, b"\0asm\x01\0\0\0"),
        section(2, &[length(count), instance.repeat(count)].concat()),
    ]
    .concat()
}

/// A component of 30 MB whose code is nothing but calls through a table: a few bytes each, and a hundred times as much to compile.
#[must_use]
pub fn takes_minutes() -> Vec<u8> {
    const FUNCTIONS: usize = 1_500;
    // local.get 0, local.get 1, local.get 0, call_indirect, local.set 0
    let piece = [0x20, 0, 0x20, 1, 0x20, 0, 0x11, 0, 0, 0x21, 0];
    let body = [
        &[0][..],
        &piece.repeat(20_000 / piece.len()),
        &[0x20, 0, 0x0b],
    ]
    .concat();
    let body = [length(body.len()), body].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]),
        section(3, &[length(FUNCTIONS), vec![0; FUNCTIONS]].concat()),
        section(4, &[1, 0x70, 0, 1]),
        section(10, &[length(FUNCTIONS), body.repeat(FUNCTIONS)].concat()),
    ]
    .concat();
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &length(content.len()), content].concat()
}

/// A number as wasm writes it.
fn length(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(n & 0x7f).unwrap();
        n >>= 7;
        if n == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Such a number at a place, and where it ends.
fn read_length(bytes: &[u8], mut at: usize) -> (usize, usize) {
    let (mut n, mut shift) = (0, 0);
    loop {
        let byte = bytes[at];
        at += 1;
        n |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (n, at);
        }
    }
}
