//! Requests that are no good HTTP: smuggling, odd framing, slow and broken bodies.

use super::Forge;

/// The framing is refused, or the request is read to a harmless end and refused for its credential.
const REFUSED: &[u16] = &[400, 401, 0];

pub(super) fn add(forge: &mut Forge) {
    framing(forge);
    smuggled(forge);
    heads(forge);
    broken_bodies(forge);
}

/// A forged request whose framing headers are these.
fn framed(forge: &Forge, lines: &str, body: &[u8]) -> Vec<u8> {
    let token = &forge.token;
    let mut bytes = format!(
        "POST /hooks/gitlab/main/other HTTP/1.1\r\nhost: penstock\r\nx-gitlab-token: {token}x\r\nconnection: close\r\n{lines}\r\n"
    )
    .into_bytes();
    bytes.extend(body);
    bytes
}

fn framing(forge: &mut Forge) {
    for lines in [
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: 2, 3\r\n",
        "content-length: -1\r\n",
        "content-length: +2\r\n",
        "content-length: 0x2\r\n",
        "content-length: two\r\n",
        "content-length: 2 2\r\n",
        "content-length: \r\n",
        "content-length: 2\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 2\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: identity, chunked, chunked\r\n",
        "transfer-encoding:\x0bchunked\r\n",
        "transfer-encoding : chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "transfer-encoding\r\n",
        "transfer-encoding: chun\r\n ked\r\n",
        "x: y\r\n folded\r\ncontent-length: 2\r\n",
        "content-length: 2\r\nx y: z\r\n",
        "content-length: 2\r\nx: a\0b\r\n",
        "content-length: 2\nx: y\n",
        "content-length: 2\r\nx: y\rz\r\n",
        "content-length: 2\r\n: empty\r\n",
        "upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 2\r\n",
        "expect: 100-continue\r\ncontent-length: 2\r\n",
        "expect: nonsense\r\ncontent-length: 2\r\n",
        "te: trailers\r\ntrailer: x-gitlab-token\r\ncontent-length: 2\r\n",
    ] {
        let name = format!("framed by {}", lines.escape_debug());
        let bytes = framed(forge, lines, b"{}");
        forge.raw(name, bytes, REFUSED);
    }
    // A credential in a trailer is none.
    let token = forge.token.clone();
    let trailer = format!(
        "POST /hooks/gitlab/main/other HTTP/1.1\r\nhost: penstock\r\ntransfer-encoding: chunked\r\ntrailer: x-gitlab-token\r\nconnection: close\r\n\r\n2\r\n{{}}\r\n0\r\nx-gitlab-token: {token}\r\n\r\n"
    );
    forge.raw("a right token in a trailer", trailer.into_bytes(), &[401]);
}

/// A second, good request hides in what one neighbour takes for a body and another for the next request. It may never be answered: at most one answer
/// comes, and it is a refusal.
fn smuggled(forge: &mut Forge) {
    let inner = forge.tokened.bytes();
    let mut chunked_end = b"0\r\n\r\n".to_vec();
    chunked_end.extend(&inner);
    for (what, lines) in [
        (
            "a length that ends before it, and chunks",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        ),
        (
            "chunks and a length over all",
            "transfer-encoding: chunked\r\ncontent-length: 100000\r\n",
        ),
        (
            "chunks in a header that is not one",
            "content-length: 5\r\ntransfer-encoding: x\r\n",
        ),
        ("no length", ""),
        ("a length of none", "content-length: 0\r\n"),
    ] {
        let bytes = framed(forge, lines, &chunked_end);
        forge.raw(format!("a request behind {what}"), bytes, REFUSED);
    }
}

fn heads(forge: &mut Forge) {
    let good = forge.signed.clone();
    let unsigned = good.clone().without("webhook-signature");
    for first in [
        "POST /hooks/gitlab/main/acme HTTP/1.0",
        "POST /hooks/gitlab/main/acme",
        "POST  /hooks/gitlab/main/acme HTTP/1.1",
        "POST /hooks/gitlab/main/acme HTTP/9.9",
        "POST /hooks/gitlab/main/acme HTTP/1.1 x",
        "POST http://evil.example/hooks/gitlab/main/acme HTTP/1.1",
        "post /hooks/gitlab/main/acme HTTP/1.1",
        "POST hooks/gitlab/main/acme HTTP/1.1",
        "POST * HTTP/1.1",
        "\0POST / HTTP/1.1",
        "GET /hooks/gitlab/main/acme",
        "PRI * HTTP/2.0",
        "CONNECT 127.0.0.1:22 HTTP/1.1",
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03",
    ] {
        let bytes = unsigned.bytes();
        let end = bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        let odd = [first.as_bytes(), &bytes[end..]].concat();
        forge.raw(
            format!("begins with `{}`", first.escape_debug()),
            odd,
            &[400, 401, 404, 405, 0],
        );
    }
    let large = good.clone().add("x-large", vec![b'a'; 200_000]);
    forge.case("a header of 200 KB", &large, &[431, 0]);
    let mut many = unsigned.clone();
    for n in 0..2_000 {
        many = many.add(&format!("x-{n}"), "y");
    }
    forge.case("2,000 headers", &many, &[431, 0]);
    let mut some = unsigned.clone();
    for n in 0..70 {
        some = some.add(&format!("x-{n}"), "y");
    }
    forge.case("70 headers more", &some, &[401]);
    for host in ["", "evil.example", "a b", "penstock:99999", "[::1"] {
        let named = unsigned.clone().add("host", host);
        forge.case(format!("for the host `{host}`"), &named, &[400, 401]);
    }
    let two = unsigned.clone().add("host", "a").add("host", "b");
    forge.case("for two hosts", &two, &[400, 401]);
    for kind in [
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/html",
        "application/json; charset=utf-16",
        "",
    ] {
        let typed = unsigned.clone().set("content-type", kind);
        forge.case(format!("of the type `{kind}`"), &typed, &[401]);
    }
    for name in [
        "x-forwarded-for",
        "x-real-ip",
        "x-original-url",
        "x-http-method-override",
        "x-forwarded-host",
        "forwarded",
    ] {
        let passed = unsigned.clone().add(name, "/hooks/gitlab/main/other");
        forge.case(format!("with `{name}`"), &passed, &[401]);
    }
}

fn broken_bodies(forge: &mut Forge) {
    // Headers that may be right for all that can be told: the body is waited for.
    let signed = forge.signed.clone();
    let mut short = signed
        .clone()
        .add("content-length", (signed.body.len() + 10).to_string());
    forge.case("a body that stops before its end", &short, &[503]);
    short.body.clear();
    forge.case("a body that never begins", &short, &[503]);
    let chunked = |body: &[u8]| {
        let mut request = signed.clone().add("transfer-encoding", "chunked");
        request.body = body.to_vec();
        request.bytes()
    };
    for (what, body) in [
        (
            "a size that is no number",
            b"zz\r\n{}\r\n0\r\n\r\n".as_slice(),
        ),
        (
            "a size beyond all",
            b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        ),
        ("a size with a sign", b"-2\r\n{}\r\n0\r\n\r\n"),
        ("a chunk longer than it says", b"1\r\n{}\r\n0\r\n\r\n"),
    ] {
        forge.raw(format!("in chunks, with {what}"), chunked(body), &[400, 0]);
    }
    forge.raw("in chunks that never end", chunked(b"2\r\n{}\r\n"), &[503]);
    let one = chunked(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n");
    forge.raw("in chunks, another body than was signed", one, &[401]);
}
