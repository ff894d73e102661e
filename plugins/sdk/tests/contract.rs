//! The contract in `wit/`: whole, documented, and closed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::path::Path;

use wit_parser::{Docs, Resolve, TypeDefKind, WorldItem};

fn contract() -> Resolve {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut resolve = Resolve::default();
    resolve.push_dir(folder).expect("wit/ parses");
    resolve
}

/// Fields, cases and flags of a type, each with its text.
fn parts(kind: &TypeDefKind) -> Vec<(&str, &Docs)> {
    match kind {
        TypeDefKind::Record(it) => it
            .fields
            .iter()
            .map(|field| (field.name.as_str(), &field.docs))
            .collect(),
        TypeDefKind::Variant(it) => it
            .cases
            .iter()
            .map(|case| (case.name.as_str(), &case.docs))
            .collect(),
        TypeDefKind::Enum(it) => it
            .cases
            .iter()
            .map(|case| (case.name.as_str(), &case.docs))
            .collect(),
        TypeDefKind::Flags(it) => it
            .flags
            .iter()
            .map(|flag| (flag.name.as_str(), &flag.docs))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_item_is_documented() {
    let resolve = contract();
    let mut bare = Vec::new();
    let mut check = |docs: &Docs, name: String| {
        if docs
            .contents
            .as_deref()
            .is_none_or(|it| it.trim().is_empty())
        {
            bare.push(name);
        }
    };
    for (_, world) in &resolve.worlds {
        check(&world.docs, format!("world {}", world.name));
    }
    for (_, interface) in &resolve.interfaces {
        let name = interface.name.as_deref().unwrap_or("?");
        check(&interface.docs, format!("interface {name}"));
        for function in interface.functions.values() {
            check(&function.docs, format!("{name}.{}", function.name));
        }
        for (type_name, id) in &interface.types {
            let ty = resolve.types.get(*id).unwrap();
            // A `use` has the text of what it names.
            let used = matches!(&ty.kind, TypeDefKind::Type(wit_parser::Type::Id(other))
                if resolve.types.get(*other).unwrap().name.as_deref() == Some(type_name));
            if !used {
                check(&ty.docs, format!("{name}.{type_name}"));
                for (part, docs) in parts(&ty.kind) {
                    check(docs, format!("{name}.{type_name}.{part}"));
                }
            }
        }
    }
    assert_eq!(bare, Vec::<String>::new(), "without a text");
}

/// What a world imports and exports by name; interfaces that hold types alone come
/// with those that use them.
fn check_world(name: &str, imports: &[&str], exports: &[&str]) {
    let resolve = contract();
    let (_, world) = resolve
        .worlds
        .iter()
        .find(|(_, it)| it.name == name)
        .expect(name);
    let names = |items: &wit_parser::IndexMap<wit_parser::WorldKey, WorldItem>| {
        let mut names: Vec<String> = items
            .values()
            .map(|item| match item {
                WorldItem::Interface { id, .. } => resolve.interfaces.get(*id).unwrap(),
                _ => unreachable!("a world holds interfaces alone"),
            })
            .filter(|interface| !interface.functions.is_empty())
            .map(|interface| interface.name.clone().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&world.imports), imports, "{name} imports");
    assert_eq!(names(&world.exports), exports, "{name} exports");
}

#[test]
fn worlds_import_what_the_host_offers_and_nothing_else() {
    check_world(
        "trigger-plugin",
        &[
            "cluster-read",
            "config",
            "delivery",
            "fetch",
            "gitlab-read",
            "history",
            "log",
            "state",
        ],
        &["settings", "trigger"],
    );
    check_world(
        "approval-plugin",
        &["config", "gitlab-read", "history", "log"],
        &["approval", "settings"],
    );
    check_world(
        "rotation-plugin",
        &["config", "http", "log", "login", "secrets"],
        &["rotation", "settings"],
    );
}

#[test]
fn there_is_one_package_and_no_float() {
    let resolve = contract();
    let packages: Vec<String> = resolve
        .packages
        .iter()
        .map(|(_, it)| it.name.to_string())
        .collect();
    assert_eq!(packages, ["penstock:plugin@0.1.0"]);
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")).unwrap()
    {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text
            .lines()
            .filter(|it| !it.trim_start().starts_with("///"))
        {
            assert!(
                !line.contains("f32") && !line.contains("f64"),
                "{}: {line}",
                path.display()
            );
        }
    }
}
