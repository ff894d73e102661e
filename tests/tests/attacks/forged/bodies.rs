//! Bodies from whoever holds a hook's key: about foreign projects and groups, no JSON, too large, too deep, in odd encodings.

use serde_json::{Value, json};

use super::Forge;

/// Makes a body contradict itself, given the id of another's project.
type Bend = fn(&mut Value, u64);

pub(super) fn add(forge: &mut Forge) {
    foreign(forge);
    unclear(forge);
    not_json(forge);
    large_and_deep(forge);
    harmless(forge);
}

fn body(forge: &Forge) -> Value {
    serde_json::from_slice(&forge.signed.body).unwrap()
}

fn foreign(forge: &mut Forge) {
    let theirs = forge.ids.1;
    for path in [
        "other/api",
        "OTHER/api",
        "/other/api",
        "other/api/",
        "acmeX/api",
        "acme-evil/api",
        "acme.evil/api",
        "evil/acme/api",
        "acm/api",
        "ace/api",
        "acme\u{0000}/api",
        "acme\u{200b}/api",
        "аcme/api",
        " acme/api",
        "acme /api",
        "./acme/api",
        "../acme/api",
        "acme%2fapi",
        "acme\\api",
        "https://gitlab.example.com/acme/api",
        "",
        "/",
        "*",
        "acme*",
    ] {
        let mut about = body(forge);
        about["project"]["path_with_namespace"] = json!(path);
        if about.get("project_path_with_namespace").is_some() {
            about["project_path_with_namespace"] = json!(path);
        }
        let request = forge.insider(about.to_string());
        forge.case(format!("about `{path}`"), &request, &[403]);
    }
    // A name of the own tenant, and another's id: taken in, and GitLab is asked by id.
    for path in [
        "acme/api",
        "acme/web",
        "acme/../other/api",
        "acme/no-such-project",
    ] {
        let mut about = body(forge);
        about["project_id"] = json!(theirs);
        about["project"]["id"] = json!(theirs);
        about["project"]["path_with_namespace"] = json!(path);
        let request = forge.insider(about.to_string());
        forge.case(
            format!("id of another's project as `{path}`"),
            &request,
            &[202],
        );
    }
    for id in [0, 999_999_999, u64::MAX] {
        let mut about = body(forge);
        about["project_id"] = json!(id);
        about["project"]["id"] = json!(id);
        let request = forge.insider(about.to_string());
        forge.case(format!("id {id}"), &request, &[202, 403]);
    }
    for group in ["other", "acme-evil", "evil/acme", "OTHER", "", "other/acme"] {
        let about = json!({ "event_name": "subgroup_create", "group_id": 7, "full_path": group, "name": "x" });
        let request = forge.insider(about.to_string());
        forge.case(format!("about the group `{group}`"), &request, &[403]);
        let about = json!({ "object_kind": "access_token", "event_name": "expiring_access_token",
            "group": { "group_id": 7, "full_path": group } });
        let request = forge.insider(about.to_string());
        forge.case(format!("a token of the group `{group}`"), &request, &[403]);
    }
}

fn unclear(forge: &mut Forge) {
    let theirs = forge.ids.1;
    let bends: [(&str, Bend); 14] = [
        ("two ids", |it, theirs| it["project_id"] = json!(theirs)),
        ("two paths", |it, _| {
            it["project_path_with_namespace"] = json!("other/api")
        }),
        ("another path beside", |it, _| {
            it["path_with_namespace"] = json!("other/api")
        }),
        ("an id that is a text", |it, _| {
            it["project_id"] = json!("7")
        }),
        ("an id with a fraction", |it, _| {
            it["project_id"] = json!(7.5)
        }),
        ("a negative id", |it, _| it["project_id"] = json!(-7)),
        ("an id that is a list", |it, _| {
            it["project_id"] = json!([7])
        }),
        ("an id that is true", |it, _| it["project_id"] = json!(true)),
        ("a path that is a list", |it, _| {
            it["project"]["path_with_namespace"] = json!(["acme/api"])
        }),
        ("a path that is a number", |it, _| {
            it["project"]["path_with_namespace"] = json!(7)
        }),
        ("a path that is an object", |it, _| {
            it["project"]["path_with_namespace"] = json!({})
        }),
        ("a project that is a text", |it, _| {
            it["project"] = json!("acme/api")
        }),
        ("a project that is a list", |it, _| {
            it["project"] = json!([1])
        }),
        ("a merge request with another target", |it, theirs| {
            it["object_attributes"] = json!({ "target_project_id": theirs });
        }),
    ];
    for (what, bend) in bends {
        let mut about = body(forge);
        bend(&mut about, theirs);
        let request = forge.insider(about.to_string());
        forge.case(what, &request, &[403]);
    }
    for gone in ["project", "everything"] {
        let mut about = body(forge);
        match gone {
            "project" => drop(about.as_object_mut().unwrap().remove("project")),
            _ => about = json!({}),
        }
        let request = forge.insider(about.to_string());
        forge.case(format!("without {gone}"), &request, &[403]);
    }
    let text = String::from_utf8(forge.signed.body.clone()).unwrap();
    for (name, field) in [
        ("`project_id`", "\"project_id\":1,"),
        (
            "`project`",
            "\"project\":{\"id\":1,\"path_with_namespace\":\"other/api\"},",
        ),
        ("`object_kind`", "\"object_kind\":\"merge_request\","),
        ("`ref`", "\"ref\":\"refs/heads/main\","),
    ] {
        let doubled = format!("{{{field}{}", &text[1..]);
        let request = forge.insider(doubled);
        forge.case(format!("{name} twice"), &request, &[400, 403]);
    }
    let kind = |kind: &str| json!({ "object_kind": kind, "project": { "id": 1 } });
    for odd in ["push", "no-such-kind", "", "push\u{0000}"] {
        let request = forge.insider(kind(odd).to_string());
        forge.case(format!("a `{odd}` without a path"), &request, &[403]);
    }
}

fn not_json(forge: &mut Forge) {
    let good = String::from_utf8(forge.signed.body.clone()).unwrap();
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    gzip.extend([0x4b, 0x4c, 0x04, 0x00]);
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("spaces", b"   \r\n".to_vec()),
        ("a word", b"no json".to_vec()),
        ("an open object", b"{".to_vec()),
        ("an open text", b"{\"object_kind\":\"pu".to_vec()),
        (
            "half of a good one",
            good.as_bytes()[..good.len() / 2].to_vec(),
        ),
        ("a good one and more", format!("{good} x").into_bytes()),
        ("two good ones", format!("{good}{good}").into_bytes()),
        ("a comma at the end", b"{\"a\":1,}".to_vec()),
        ("single quotes", b"{'a':1}".to_vec()),
        ("a comment", b"/* */ {}".to_vec()),
        ("NaN", b"{\"project_id\":NaN}".to_vec()),
        ("an octal number", b"{\"project_id\":010}".to_vec()),
        ("no UTF-8", b"{\"a\":\"\xff\xfe\"}".to_vec()),
        ("overlong UTF-8", b"{\"a\":\"\xc0\xaf\"}".to_vec()),
        ("UTF-16", utf16),
        (
            "a byte order mark",
            [b"\xef\xbb\xbf".as_slice(), good.as_bytes()].concat(),
        ),
        (
            "a control character in a text",
            b"{\"a\":\"\x01\"}".to_vec(),
        ),
        ("gzip", gzip),
        ("a form", b"payload=%7B%7D".to_vec()),
        ("XML", b"<?xml version=\"1.0\"?><a/>".to_vec()),
        ("YAML", b"object_kind: push\n".to_vec()),
        ("zeros", vec![0; 1000]),
    ];
    for (what, body) in bodies {
        let request = forge.insider(body);
        forge.case(what, &request, &[400]);
    }
    for (what, body) in [
        ("null", "null"),
        ("true", "true"),
        ("a number", "42"),
        ("a text", "\"push\""),
        ("a list", "[]"),
        ("a list of events", "[{}]"),
    ] {
        let request = forge.insider(body);
        forge.case(format!("JSON that is {what}"), &request, &[400, 403]);
    }
    let zipped = forge.insider(b"{}").add("content-encoding", "gzip");
    forge.case("a body that says it is gzip", &zipped, &[403]);
}

fn large_and_deep(forge: &mut Forge) {
    for (what, open, close) in [("lists", "[", "]"), ("objects", "{\"a\":", "}")] {
        for depth in [200, 100_000] {
            let inner = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let deep = format!("{{\"object_kind\":{inner}}}");
            let request = forge.insider(deep);
            forge.case(
                format!("{depth} {what} in each other"),
                &request,
                &[400, 403],
            );
            let open_only = forge.insider(open.repeat(depth));
            forge.case(
                format!("{depth} {what} that never close"),
                &open_only,
                &[400],
            );
        }
    }
    let wide = format!(
        "{{{}\"a\":1}}",
        (0..200_000)
            .map(|n| format!("\"k{n}\":0,"))
            .collect::<String>()
    );
    let request = forge.insider(wide);
    forge.case("200,000 keys", &request, &[403]);
    let long = format!("{{\"object_kind\":\"{}\"}}", "a".repeat(5_000_000));
    let request = forge.insider(long);
    forge.case("a text of 5 MB", &request, &[403]);
    let number = format!("{{\"project_id\":{}}}", "9".repeat(1_000_000));
    let request = forge.insider(number);
    forge.case("a number of a million digits", &request, &[400, 403]);
    let limit = 26 * 1024 * 1024;
    for length in [limit + 1, 1 << 40, u64::MAX] {
        let mut announced = forge
            .signed
            .clone()
            .add("content-length", length.to_string());
        announced.body.truncate(10);
        forge.case(format!("announces {length} bytes"), &announced, &[413, 431]);
    }
    // Really sent, without saying how much it is.
    let mut chunked = forge.signed.clone().add("transfer-encoding", "chunked");
    chunked.body.clear();
    let mut bytes = chunked.bytes();
    for _ in 0..27 {
        bytes.extend(format!("{:x}\r\n", 1024 * 1024).bytes());
        bytes.extend(vec![b' '; 1024 * 1024]);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    // On a machine that is too busy to read it in 8 s it is too slow before it is too large.
    forge.raw("27 MiB in chunks", bytes, &[413, 503]);
}

/// Verified, in scope, and about nothing that starts anything.
fn harmless(forge: &mut Forge) {
    let project = body(forge)["project"].clone();
    let id = project["id"].clone();
    for kind in [
        "wiki_page",
        "feature_flag",
        "emoji",
        "vulnerability",
        "no-such-kind",
        "",
    ] {
        let about = json!({ "object_kind": kind, "project_id": id, "project": project });
        let request = forge.insider(about.to_string());
        forge.case(format!("a `{kind}`"), &request, &[202]);
    }
    // A push that can't be read as one.
    for (what, commits) in [
        ("a text", json!("none")),
        ("a number", json!(1)),
        ("numbers", json!([1, 2])),
    ] {
        let mut about = body(forge);
        about["commits"] = commits;
        let request = forge.insider(about.to_string());
        forge.case(format!("a push whose commits are {what}"), &request, &[202]);
    }
    for (what, name) in [
        ("no ref", json!(null)),
        ("a number", json!(1)),
        ("an empty text", json!("")),
    ] {
        let mut about = body(forge);
        about["ref"] = name;
        let request = forge.insider(about.to_string());
        forge.case(format!("a push whose ref is {what}"), &request, &[202]);
    }
    for sha in ["", "HEAD", "main", "../../x", "zzzz", "0"] {
        let mut about = body(forge);
        about["after"] = json!(sha);
        about["checkout_sha"] = json!(sha);
        let request = forge.insider(about.to_string());
        forge.case(format!("a push to the commit `{sha}`"), &request, &[202]);
    }
    let mut deleted = body(forge);
    deleted["after"] = json!("0".repeat(40));
    deleted["checkout_sha"] = json!(null);
    let request = forge.insider(deleted.to_string());
    forge.case("a push that deletes", &request, &[202]);
}
