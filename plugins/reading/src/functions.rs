//! Functions that Tekton's CEL interceptor has and CEL's libraries lack.
//!
//! Regular expressions are those of `regex-lite`: linear in time as CEL demands,
//! without `\p{…}`; the full crate would make the component a third larger and
//! takes longer to compile an expression than a rule takes to decide.
//!
//! `compareSecret` is left out on purpose: a plugin never sees a secret, and the
//! host verifies the webhook before a rule is asked.

use std::sync::Arc;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use cel::extractors::This;
use cel::objects::Key;
use cel::{Context, DeclarationError, Env, ExecutionError, Value, extensions};
use regex_lite::Regex;
use serde_json::Value as Json;

/// The environment that expressions are compiled for.
pub fn environment() -> Result<Arc<Env>, DeclarationError> {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings)?;
    env.add_extension(extensions::lists)?;
    env.add_extension(extensions::encoders)?;
    Ok(Arc::new(env))
}

/// Adds the functions to a context.
pub fn add(context: &mut Context<'_, '_>) -> Result<(), DeclarationError> {
    context.add_function("matches", matches)?;
    context.add_function("truncate", truncate)?;
    context.add_function("decodeb64", decode_base64)?;
    context.add_function("parseJSON", parse_json)?;
    context.add_function("parseYAML", parse_yaml)?;
    context.add_function("marshalJSON", marshal_json)?;
    context.add_function("match", header_match)?;
    context.add_function("canonical", header_canonical)?;
    context.add_function("translate", translate)?;
    context.add_function("first", first)?;
    context.add_function("last", last)?;
    Ok(())
}

/// A value of CEL from JSON. Whole numbers are ints where they fit.
pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(it) => Value::Bool(*it),
        Json::Number(it) => it
            .as_i64()
            .map(Value::Int)
            .or_else(|| it.as_u64().map(Value::UInt))
            .unwrap_or_else(|| Value::Float(it.as_f64().unwrap_or(f64::NAN))),
        Json::String(it) => Value::from(it.as_str()),
        Json::Array(items) => Value::from(items.iter().map(from_json).collect::<Vec<_>>()),
        Json::Object(entries) => {
            let entries: std::collections::HashMap<Key, Value> = entries
                .iter()
                .map(|(name, it)| (Key::from(name.as_str()), from_json(it)))
                .collect();
            Value::from(entries)
        }
    }
}

/// JSON from a value of CEL.
pub fn to_json(value: &Value) -> Result<Json, String> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(it) => Json::from(*it),
        Value::Int(it) => Json::from(*it),
        Value::UInt(it) => Json::from(*it),
        Value::Float(it) => Json::from(*it),
        Value::String(it) => Json::from(it.as_str()),
        Value::List(items) => items.iter().map(to_json).collect::<Result<_, _>>()?,
        Value::Map(entries) => entries
            .map
            .iter()
            .map(|(name, it)| Ok((name.to_string(), to_json(it)?)))
            .collect::<Result<_, String>>()?,
        other => {
            return Err(format!(
                "a {} is no value that a run can take",
                other.type_of()
            ));
        }
    })
}

/// The standard alphabet, padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

type Answer = Result<Value, ExecutionError>;

fn failed(function: &str, message: impl ToString) -> ExecutionError {
    ExecutionError::function_error(function, message)
}

fn truncate(This(text): This<Arc<String>>, length: i64) -> Answer {
    let length =
        usize::try_from(length).map_err(|_| failed("truncate", "the length is negative"))?;
    Ok(Value::from(text.chars().take(length).collect::<String>()))
}

fn decode_base64(This(text): This<Arc<String>>) -> Answer {
    let bytes = BASE64
        .decode(text.as_str())
        .map_err(|error| failed("decodeb64", error))?;
    String::from_utf8(bytes)
        .map(Value::from)
        .map_err(|_| failed("decodeb64", "is not UTF-8"))
}

fn parse_json(This(text): This<Arc<String>>) -> Answer {
    serde_json::from_str(&text)
        .map(|json| from_json(&json))
        .map_err(|error| failed("parseJSON", error))
}

fn parse_yaml(This(text): This<Arc<String>>) -> Answer {
    serde_saphyr::from_str::<Json>(&text)
        .map(|json| from_json(&json))
        .map_err(|error| failed("parseYAML", error.without_snippet()))
}

fn marshal_json(This(value): This<Value>) -> Answer {
    to_json(&value)
        .map(|json| Value::from(json.to_string()))
        .map_err(|error| failed("marshalJSON", error))
}

fn header_match(This(headers): This<Value>, name: Arc<String>, value: Arc<String>) -> Answer {
    let found = header(&headers, &name);
    Ok(Value::Bool(found.is_some_and(|it| *it == *value)))
}

fn header_canonical(This(headers): This<Value>, name: Arc<String>) -> Answer {
    header(&headers, &name)
        .map(Value::String)
        .ok_or_else(|| failed("canonical", format!("there is no header `{name}`")))
}

/// The first value of a header, whatever the case of its name.
fn header(headers: &Value, name: &str) -> Option<Arc<String>> {
    let Value::Map(headers) = headers else {
        return None;
    };
    let wanted = canonical(name);
    headers.map.iter().find_map(|(name, value)| {
        if canonical(&name.to_string()) != wanted {
            return None;
        }
        match value {
            Value::String(text) => Some(text.clone()),
            Value::List(items) => match items.first() {
                Some(Value::String(text)) => Some(text.clone()),
                _ => None,
            },
            _ => None,
        }
    })
}

fn matches(This(text): This<Arc<String>>, pattern: Arc<String>) -> Answer {
    Ok(Value::Bool(regex("matches", &pattern)?.is_match(&text)))
}

fn translate(
    This(text): This<Arc<String>>,
    pattern: Arc<String>,
    replacement: Arc<String>,
) -> Answer {
    let pattern = regex("translate", &pattern)?;
    Ok(Value::from(
        pattern
            .replace_all(&text, replacement.as_str())
            .into_owned(),
    ))
}

fn regex(function: &str, pattern: &str) -> Result<Regex, ExecutionError> {
    Regex::new(pattern).map_err(|error| {
        failed(
            function,
            format!("`{pattern}` is no regular expression: {error}"),
        )
    })
}

/// `x-gitlab-event` as `X-Gitlab-Event`.
pub fn canonical(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|it| {
            let written = if upper {
                it.to_ascii_uppercase()
            } else {
                it.to_ascii_lowercase()
            };
            upper = it == '-';
            written
        })
        .collect()
}

fn first(This(list): This<Value>) -> Answer {
    end("first", &list, |items| items.first())
}

fn last(This(list): This<Value>) -> Answer {
    end("last", &list, |items| items.last())
}

fn end(function: &str, list: &Value, pick: fn(&[Value]) -> Option<&Value>) -> Answer {
    match list {
        Value::List(items) => pick(items)
            .cloned()
            .ok_or_else(|| failed(function, "the list is empty")),
        other => Err(failed(
            function,
            format!("a {} is no list", other.type_of()),
        )),
    }
}
