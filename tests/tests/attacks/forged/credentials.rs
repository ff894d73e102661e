//! Wrong, missing, repeated, mixed, stale and misplaced credentials.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::{Forge, Request};

const SIGNATURE: &str = "webhook-signature";
const TOKEN: &str = "x-gitlab-token";

/// Changes a body after it was signed.
type Change = fn(&mut Vec<u8>);

pub(super) fn add(forge: &mut Forge) {
    signatures(forge);
    times_and_ids(forge);
    tokens(forge);
    mixed(forge);
    repeated(forge);
    elsewhere(forge);
}

fn signatures(forge: &mut Forge) {
    let good = forge.signed.clone();
    let right = good.header(SIGNATURE);
    let bytes = STANDARD.decode(right.trim_start_matches("v1,")).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        format!("v1,{}", STANDARD.encode(bytes))
    };
    let other_key = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let raw_key = format!("whsec_{}", STANDARD.encode(&forge.key));
    let empty_key = "whsec_";
    let mut wrong = vec![
        String::new(),
        " ".into(),
        "v1".into(),
        "v1,".into(),
        "v1=".to_owned() + right.trim_start_matches("v1,"),
        right.trim_start_matches("v1,").into(),
        right.replace("v1,", "V1,"),
        right.replace("v1,", "v1, "),
        right.replace("v1,", "v2,"),
        right.replace("v1,", "v1a,"),
        right.replace("v1,", "v0,"),
        right.trim_end_matches('=').into(),
        format!("{right}="),
        format!("{right}AAAA"),
        format!("\"{right}\""),
        right.to_lowercase(),
        format!("v1,{hex}"),
        format!("sha256={hex}"),
        format!("v1,{}", URL_SAFE_NO_PAD.encode(&bytes)),
        format!("v1,{}", STANDARD.encode(&bytes[..31])),
        format!("v1,{}", STANDARD.encode(&bytes[..1])),
        format!("v1,{}", STANDARD.encode([bytes.as_slice(), b"\0"].concat())),
        format!("v1,{}", STANDARD.encode([0; 32])),
        format!("v1,{}", STANDARD.encode([0xff; 32])),
        format!("{right},v1,AAAA"),
        "v1,AAAA v1,AAAA v1,AAAA".into(),
        "null".into(),
        "true".into(),
        good.signature(other_key),
        good.signature(&raw_key),
        good.signature(empty_key),
        good.clone().body("{}").signature(&forge.key),
        good.clone().body("").signature(&forge.key),
        good.clone()
            .set("webhook-id", "other")
            .signature(&forge.key),
        good.clone()
            .set("webhook-timestamp", "1")
            .signature(&forge.key),
        // More than are looked at, the right one last.
        format!(
            "{}{right}",
            "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= ".repeat(16)
        ),
    ];
    wrong.extend([0, 15, 31].map(flipped));
    for signature in wrong {
        let name = format!(
            "signature `{}`",
            signature.chars().take(40).collect::<String>()
        );
        forge.case(name, &good.clone().set(SIGNATURE, signature), &[401]);
    }
    let not_ascii = good.clone().set(SIGNATURE, b"v1,\xc3\xa4\xff");
    forge.case("a signature that is no text", &not_ascii, &[401]);
    let none = good.clone().without(SIGNATURE);
    forge.case("no credential at all", &none, &[401]);
    let changes: [(&str, Change); 6] = [
        ("a space more", |body| body.push(b' ')),
        ("a line end more", |body| body.insert(0, b'\n')),
        ("one byte less", |body| body.truncate(body.len() - 1)),
        ("one bit", |body| body[40] ^= 1),
        ("empty", Vec::clear),
        ("twice", |body| body.extend(body.clone())),
    ];
    for (what, change) in changes {
        let mut changed = good.clone();
        change(&mut changed.body);
        forge.case(
            format!("a body changed after it was signed: {what}"),
            &changed,
            &[401],
        );
    }
}

fn times_and_ids(forge: &mut Forge) {
    let good = forge.signed.clone();
    let now: i64 = good.header("webhook-timestamp").parse().unwrap();
    for off in [
        -86_400 * 365,
        -86_400,
        -3_600,
        -330,
        // Not much less: the time until it is sent brings it nearer.
        900,
        3_600,
        86_400,
        86_400 * 365,
    ] {
        let stale = good
            .clone()
            .set("webhook-timestamp", (now + off).to_string());
        let stale = stale.signed(&forge.key);
        forge.case(format!("signed {off} s off"), &stale, &[401]);
    }
    for time in [
        "",
        "0",
        "-1",
        "1e9",
        "0x10",
        "now",
        "NaN",
        "99999999999999999999",
        " ",
        "1.5",
        "2026-01-01T00:00:00Z",
        "١٢٣",
    ] {
        let odd = good
            .clone()
            .set("webhook-timestamp", time)
            .signed(&forge.key);
        forge.case(format!("time `{time}`, signed"), &odd, &[401]);
    }
    let millis = good.clone().set("webhook-timestamp", format!("{now}000"));
    forge.case("a time in ms, signed", &millis.signed(&forge.key), &[401]);
    for header in ["webhook-id", "webhook-timestamp"] {
        let gone = good.clone().without(header);
        forge.case(format!("signed, without `{header}`"), &gone, &[401]);
        let empty = good.clone().set(header, "").signed(&forge.key);
        forge.case(format!("signed, with an empty `{header}`"), &empty, &[401]);
    }
    let shifted = good.clone();
    let (id, time) = (
        shifted.header("webhook-id"),
        shifted.header("webhook-timestamp"),
    );
    // `id.time.body` is the same text if a dot moves.
    let moved = shifted
        .set("webhook-id", format!("{id}.{}", &time[..1]))
        .set("webhook-timestamp", &time[1..]);
    forge.case("a part of the time moved into the id", &moved, &[401]);
}

fn tokens(forge: &mut Forge) {
    let good = forge.tokened.clone();
    let token = forge.token.clone();
    let mut wrong = vec![
        String::new(),
        "null".into(),
        "undefined".into(),
        "*".into(),
        "%".into(),
        "' OR '1'='1".into(),
        token[..token.len() - 1].into(),
        token[1..].into(),
        format!("{token}0"),
        format!("0{token}"),
        token.to_uppercase(),
        format!("\"{token}\""),
        format!("Bearer {token}"),
        format!("{token},{token}"),
        format!("{token} {token}"),
        format!("{token};"),
        format!("{token}%00"),
        STANDARD.encode(&token),
        token.chars().rev().collect(),
        forge.key.clone(),
        "x".repeat(10_000),
    ];
    wrong.extend((0..8).map(|n| format!("{n:032x}")));
    for token in wrong {
        let name = format!("token `{}`", token.chars().take(40).collect::<String>());
        forge.case(name, &good.clone().set(TOKEN, token), &[401]);
    }
    let bytes = good.clone().set(TOKEN, b"\xff\xfe\x80");
    forge.case("a token that is no text", &bytes, &[401]);
    let none = good.clone().without(TOKEN);
    forge.case("no token", &none, &[401]);
    for (name, value) in [
        ("authorization", format!("Bearer {token}")),
        ("private-token", token.clone()),
        ("cookie", format!("x-gitlab-token={token}")),
        ("x_gitlab_token", token.clone()),
        ("x-gitlab-token-", token.clone()),
        ("gitlab-token", token.clone()),
        ("x-forwarded-x-gitlab-token", token.clone()),
    ] {
        let misplaced = good.clone().without(TOKEN).add(name, value);
        forge.case(format!("the right token in `{name}`"), &misplaced, &[401]);
    }
    for query in ["?token=", "?x-gitlab-token=", "?private_token="] {
        let target = format!("{}{query}{token}", good.target);
        let asked = good.clone().without(TOKEN).to(target);
        forge.case(
            format!("the right token in the query, {query}"),
            &asked,
            &[401],
        );
    }
    let in_body = good
        .clone()
        .without(TOKEN)
        .body(format!("{{\"x-gitlab-token\":\"{token}\"}}"));
    forge.case("the right token in the body", &in_body, &[401]);
}

fn mixed(forge: &mut Forge) {
    let (token, key) = (forge.token.clone(), forge.key.clone());
    let good = forge.both.clone();
    let wrong = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (name, signature) in [
        ("wrong", wrong),
        ("empty", ""),
        ("malformed", "v1,?"),
        ("unknown", "v9,AAAA"),
    ] {
        let mixed = good.clone().add(TOKEN, &token).set(SIGNATURE, signature);
        forge.case(
            format!("a right token beside a signature that is {name}"),
            &mixed,
            &[401],
        );
    }
    let stale = good
        .clone()
        .add(TOKEN, &token)
        .set("webhook-timestamp", "1")
        .signed(&key);
    forge.case("a right token beside a stale signature", &stale, &[401]);
    let no_id = good.clone().add(TOKEN, &token).without("webhook-id");
    forge.case(
        "a right token beside a signature without its id",
        &no_id,
        &[401],
    );
    let neither = good.clone().without(SIGNATURE).add(TOKEN, "guess");
    forge.case(
        "a wrong token and no signature where both are known",
        &neither,
        &[401],
    );
    // One hook's credential at another.
    let signed = forge.signed.clone();
    let (own, foreign) = (
        forge.tokened.clone(),
        signed.clone().without(SIGNATURE).add(TOKEN, &token),
    );
    forge.case(
        "the other hook's token where only signatures are known",
        &foreign,
        &[401],
    );
    forge.case(
        "a signature where only a token is known",
        &signed.to(own.target.clone()),
        &[401],
    );
    let token_and_signature = own
        .clone()
        .set("webhook-id", "x")
        .set("webhook-timestamp", good.header("webhook-timestamp"))
        .signed(&key);
    forge.case(
        "a token beside a signature that nobody can check",
        &token_and_signature,
        &[401],
    );
}

fn repeated(forge: &mut Forge) {
    let signed = forge.signed.clone();
    for header in [
        SIGNATURE,
        "webhook-id",
        "webhook-timestamp",
        "idempotency-key",
    ] {
        let value = signed.header(header);
        forge.case(
            format!("`{header}` twice"),
            &signed.clone().add(header, &value),
            &[401],
        );
        let capital = header.to_uppercase();
        forge.case(
            format!("`{header}` twice, once in capitals"),
            &signed.clone().add(&capital, &value),
            &[401],
        );
        forge.case(
            format!("`{header}` twice, the second empty"),
            &signed.clone().add(header, ""),
            &[401],
        );
    }
    let tokened = forge.tokened.clone();
    for second in [forge.token.clone(), "guess".to_owned(), String::new()] {
        forge.case(
            "a token twice",
            &tokened.clone().add(TOKEN, &second),
            &[401],
        );
        let first: Request = tokened
            .clone()
            .without(TOKEN)
            .add(TOKEN, second)
            .add(TOKEN, &forge.token);
        forge.case("a token twice, the right one last", &first, &[401]);
    }
    let beside = forge.signed.clone().add(TOKEN, "a").add(TOKEN, "b");
    forge.case("two tokens beside a right signature", &beside, &[401]);
}

fn elsewhere(forge: &mut Forge) {
    let good = forge.signed.clone();
    for target in [
        "/hooks/gitlab/main/nobody",
        "/hooks/gitlab/elsewhere/acme",
        "/hooks/gitlab/main/ACME",
        "/hooks/gitlab/MAIN/acme",
        "/hooks/gitlab/main/acme%00",
        "/hooks/gitlab/main/acme%20",
        "/hooks/gitlab/main/%2e%2e",
        "/hooks/gitlab/main/acme/",
        "/hooks/gitlab/main//acme",
        "/hooks/gitlab/main/acme/x",
        "/hooks/gitlab/main",
        "/hooks/gitlab/",
        "/hooks",
        "//hooks/gitlab/main/acme",
        "/hooks/gitlab/other/../main/acme",
        "/Hooks/gitlab/main/acme",
        "/hooks/github/main/acme",
        "/hooks/gitlab/main/acme;x=y",
        "/hooks/gitlab/main/acme%3F",
        "/hooks/gitlab/%6dain%2facme",
        "/%2e/hooks/gitlab/main/acme",
    ] {
        forge.case(format!("to `{target}`"), &good.clone().to(target), &[404]);
    }
    let long = format!("/hooks/gitlab/main/{}", "a".repeat(20_000));
    forge.case(
        "to a hook with a name of 20,000 characters",
        &good.clone().to(long),
        &[404, 414],
    );
    for method in [
        "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW",
    ] {
        forge.case(format!("by {method}"), &good.clone().method(method), &[405]);
    }
    for target in ["/api/v1/deliveries", "/metrics", "/healthz", "/readyz"] {
        forge.case(
            format!("posted to {target}"),
            &good.clone().to(target),
            &[405],
        );
    }
    for target in ["/api/v1/deliveries", "/api/v1/deliveries/main/x"] {
        for (name, credential) in [
            ("nothing", String::new()),
            ("the hook's token", format!("Bearer {}", forge.token)),
            ("a guess", "Bearer guess".to_owned()),
            ("another scheme", "Basic YTpi".to_owned()),
        ] {
            let asks = good
                .clone()
                .method("GET")
                .to(target)
                .body("")
                .add("authorization", credential);
            forge.case(format!("{target} with {name}"), &asks, &[401]);
        }
    }
}
