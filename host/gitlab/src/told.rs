//! What the body of a webhook call tells of, read without making an event of it: of bodies that were kept.

use penstock_model::id::CommitId;
use serde_json::Value;

/// Where an event names the commit that it is about.
const HEADS: [&str; 7] = [
    "/after",
    "/checkout_sha",
    "/object_attributes/last_commit/id",
    "/object_attributes/commit_id",
    "/object_attributes/sha",
    "/merge_request/last_commit/id",
    "/commit/id",
];

/// The body of a webhook tells of a commit, as its head or among what was pushed. `commit` is an id or the beginning of one, in lower case.
pub fn tells_of(body: &[u8], commit: &str) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return false;
    };
    let is = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .is_some_and(|id| id.starts_with(commit))
    };
    let pushed = body.get("commits").and_then(Value::as_array);
    HEADS.iter().any(|head| is(body.pointer(head)))
        || is(body.get("commit"))
        || pushed
            .into_iter()
            .flatten()
            .any(|pushed| is(pushed.get("id")))
}

/// The body tells that a branch, a tag or a merge request has this head now; none: that it is gone or closed.
pub fn tells_head(body: &[u8], head: Option<&CommitId>) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return false;
    };
    let text = |path: &str| body.pointer(path).and_then(Value::as_str);
    let is_head = |text: Option<&str>| {
        head.is_some_and(|head| text.is_some_and(|text| text == head.as_str()))
    };
    let after = text("/after");
    let gone = after.is_some_and(|after| after.bytes().all(|digit| digit == b'0'));
    match text("/object_attributes/action") {
        Some("open" | "reopen") => is_head(text("/object_attributes/last_commit/id")),
        Some("update") if text("/object_attributes/oldrev").is_some() => {
            is_head(text("/object_attributes/last_commit/id"))
        }
        Some("close" | "merge") => head.is_none(),
        Some(_) => false,
        // Of an annotated tag `after` is the tag's own id.
        None => is_head(after) || is_head(text("/checkout_sha")) || (gone && head.is_none()),
    }
}

/// GitLab's id of the comment that the body of a note event is about.
pub fn note_of(body: &[u8]) -> Option<u64> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let is_note = body.get("object_kind").and_then(Value::as_str) == Some("note");
    body.pointer("/object_attributes/id")
        .and_then(Value::as_u64)
        .filter(|_| is_note)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

    fn check(body: Value, expect: bool) {
        for commit in [SHA, &SHA[..7]] {
            assert_eq!(
                tells_of(body.to_string().as_bytes(), commit),
                expect,
                "{body}"
            );
        }
    }

    #[test]
    fn a_body_tells_of_the_commits_that_it_brings_and_not_of_those_that_it_replaces() {
        check(json!({ "after": SHA }), true);
        check(json!({ "after": "f00", "commits": [{ "id": SHA }] }), true);
        check(
            json!({ "object_attributes": { "last_commit": { "id": SHA } } }),
            true,
        );
        check(
            json!({ "merge_request": { "last_commit": { "id": SHA } } }),
            true,
        );
        check(json!({ "before": SHA, "after": "f00" }), false);
        check(json!({ "object_attributes": { "oldrev": SHA } }), false);
        check(json!([SHA]), false);
        assert!(!tells_of(b"{", SHA));
    }

    const GONE: &str = "0000000000000000000000000000000000000000";

    /// Tells it that the head is there, and that it is gone?
    fn told_by(body: &Value) -> (bool, bool) {
        let (head, body) = (CommitId::parse(SHA).unwrap(), body.to_string());
        let body = body.as_bytes();
        (tells_head(body, Some(&head)), tells_head(body, None))
    }

    #[test]
    fn a_push_tells_of_the_head_that_it_left() {
        assert_eq!(told_by(&json!({ "after": SHA })), (true, false));
        assert_eq!(told_by(&json!({ "after": GONE })), (false, true));
        assert_eq!(told_by(&json!({ "before": SHA })), (false, false));
        let annotated = json!({ "after": "b".repeat(40), "checkout_sha": SHA });
        assert_eq!(told_by(&annotated), (true, false));
        assert_eq!(told_by(&json!([])), (false, false));
    }

    #[test]
    fn only_what_moves_a_merge_request_s_head_tells_of_it() {
        let change = |action: &str, oldrev: Option<&str>| {
            let mut body =
                json!({ "object_attributes": { "action": action, "last_commit": { "id": SHA } } });
            if let Some(oldrev) = oldrev {
                body["object_attributes"]["oldrev"] = json!(oldrev);
            }
            told_by(&body)
        };
        assert_eq!(change("open", None), (true, false));
        assert_eq!(change("update", Some(GONE)), (true, false));
        assert_eq!(change("update", None), (false, false), "a label, perhaps");
        assert_eq!(change("approved", None), (false, false));
        assert_eq!(change("merge", None), (false, true));
    }

    #[test]
    fn a_note_event_names_its_comment_and_no_other_thing() {
        let body = json!({ "object_kind": "note", "object_attributes": { "id": 7 }, "merge_request": { "id": 9 } });
        assert_eq!(note_of(body.to_string().as_bytes()), Some(7));
        assert_eq!(note_of(br#"{"object_kind":"note"}"#), None);
        assert_eq!(
            note_of(br#"{"object_kind":"merge_request","object_attributes":{"id":7}}"#),
            None
        );
        assert_eq!(note_of(b"["), None);
    }
}
