//! Paths as TriggerBindings write them, in the dialect of kubectl, as RFC 9535.
//!
//! `.a-b.c\.d[0]` becomes `$['a-b']['c.d'][0]`. What is in brackets is RFC 9535
//! already for indices, slices, wildcards, quoted names and `?(…)` filters.

use serde_json::Value;
use serde_json_path::JsonPath;

/// A path below a root such as `body`.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    query: JsonPath,
    /// The names it begins with, up to the first bracket.
    pub(crate) names: Vec<String>,
}

impl Path {
    /// Reads what follows the root: empty, or beginning with `.` or `[`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut query = String::from("$");
        let mut names = Vec::new();
        let mut plain = true;
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let used = match first {
                '.' if rest.starts_with("..") => {
                    return Err("`..` is not supported: write the whole path".to_owned());
                }
                '.' => {
                    let (name, used) = name(rest.get(1..).unwrap_or_default())?;
                    if name == "*" {
                        query.push_str("[*]");
                        plain = false;
                    } else {
                        query.push_str(&quoted(&name));
                        if plain {
                            names.push(name);
                        }
                    }
                    used + 1
                }
                '[' => {
                    let used = bracket(rest).ok_or("a `[` is not closed")?;
                    query.push_str(rest.get(..used).unwrap_or_default());
                    plain = false;
                    used
                }
                _ => return Err(format!("expected `.` or `[`, found `{first}`")),
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        let query = JsonPath::parse(&query)
            .map_err(|error| format!("is not a path: {}", error.message()))?;
        Ok(Self { query, names })
    }

    /// The value there. Several values give a list; none is `None`.
    pub(crate) fn find(&self, root: &Value) -> Option<Value> {
        let found = self.query.query(root).all();
        match found.as_slice() {
            [] => None,
            [one] => Some((*one).clone()),
            several => Some(several.iter().map(|it| (*it).clone()).collect()),
        }
    }
}

/// A name up to the next `.` or `[`, where `\` takes the next character as it is.
fn name(text: &str) -> Result<(String, usize), String> {
    let mut name = String::new();
    let mut characters = text.char_indices();
    let mut end = text.len();
    while let Some((at, character)) = characters.next() {
        match character {
            '.' | '[' => {
                end = at;
                break;
            }
            '\\' => match characters.next() {
                Some((_, next)) => name.push(next),
                None => return Err("ends in `\\`".to_owned()),
            },
            _ => name.push(character),
        }
    }
    if name.is_empty() {
        return Err("a name is missing after `.`".to_owned());
    }
    Ok((name, end))
}

/// Length of a bracket with what is in it.
fn bracket(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            (None, _) => {}
        }
    }
    None
}

fn quoted(name: &str) -> String {
    let escaped = name.replace('\\', "\\\\").replace('\'', "\\'");
    format!("['{escaped}']")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(path: &str, expect: Option<Value>) {
        let root = json!({
            "a-b": 1, "c.d": {"e": "x"}, "it's": true,
            "commits": [{"id": "1", "added": ["a"]}, {"id": "2", "added": []}],
        });
        assert_eq!(Path::parse(path).unwrap().find(&root), expect, "{path}");
    }

    #[test]
    fn bindings_find_what_kubectls_dialect_finds() {
        check(".a-b", Some(json!(1)));
        check(".c\\.d.e", Some(json!("x")));
        check("['c.d'].e", Some(json!("x")));
        check(".it's", Some(json!(true)));
        check(".commits[0].id", Some(json!("1")));
        check(".commits[-1:].id", Some(json!("2")));
        check(".commits[*].id", Some(json!(["1", "2"])));
        check(".commits[?(@.id=='2')].added", Some(json!([])));
        check(".missing", None);
        check(".commits[7]", None);
    }

    #[test]
    fn a_path_that_is_none_is_refused() {
        for path in ["x", ".", ".a.", ".a[", ".a[oops]", "..a", ".a\\"] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
    }
}
