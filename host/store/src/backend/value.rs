//! What goes into a statement and what comes out of it.

use std::borrow::Cow;

use penstock_model::id::{Digest, EffectId, Timestamp};

use crate::error::StoreError;

/// A parameter of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Param<'a> {
    Null,
    Int(i64),
    /// Made by [`text`] alone.
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
}

/// A text as either database takes it. Postgres keeps no U+0000 in a text, and what GitLab and plugins send may hold one: it
/// becomes U+FFFD, in SQLite too, wherever a text is written or looked for. Bytes are kept as they are.
fn text(value: &str) -> Param<'_> {
    if value.contains('\0') {
        Param::Text(Cow::Owned(value.replace('\0', "\u{fffd}")))
    } else {
        Param::Text(Cow::Borrowed(value))
    }
}

impl From<i64> for Param<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Param<'_> {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<u64> for Param<'_> {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Param<'_> {
    fn from(value: usize) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Param<'_> {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<Timestamp> for Param<'_> {
    fn from(value: Timestamp) -> Self {
        Self::from(value.0)
    }
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(value: &'a str) -> Self {
        text(value)
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(value: &'a String) -> Self {
        text(value)
    }
}

impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(value)
    }
}

impl<'a> From<&'a Vec<u8>> for Param<'a> {
    fn from(value: &'a Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl<'a> From<&'a Digest> for Param<'a> {
    fn from(value: &'a Digest) -> Self {
        Self::Bytes(value.as_bytes())
    }
}

impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Parameters of a statement, each turned into a [`Param`].
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::backend::value::Param::from($value)),*]
    };
}
pub(crate) use params;

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row, read column by column in the order of the statement.
#[derive(Debug)]
pub(crate) struct Row {
    values: std::vec::IntoIter<Value>,
    column: usize,
}

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self {
            values: values.into_iter(),
            column: 0,
        }
    }

    fn value(&mut self) -> Result<Value, StoreError> {
        self.column += 1;
        let column = self.column;
        self.values
            .next()
            .ok_or_else(|| StoreError::unreadable(format!("a row has no column {column}")))
    }

    fn wrong(&self, wanted: &str) -> StoreError {
        StoreError::unreadable(format!("column {} of a row is no {wanted}", self.column))
    }

    pub(crate) fn opt_int(&mut self) -> Result<Option<i64>, StoreError> {
        match self.value()? {
            Value::Null => Ok(None),
            Value::Int(value) => Ok(Some(value)),
            Value::Text(_) | Value::Bytes(_) => Err(self.wrong("number")),
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64, StoreError> {
        self.opt_int()?.ok_or_else(|| self.wrong("number"))
    }

    pub(crate) fn uint(&mut self) -> Result<u64, StoreError> {
        let value = self.int()?;
        u64::try_from(value).map_err(|_| self.wrong("natural number"))
    }

    pub(crate) fn opt_uint(&mut self) -> Result<Option<u64>, StoreError> {
        self.opt_int()?
            .map(|value| u64::try_from(value).map_err(|_| self.wrong("natural number")))
            .transpose()
    }

    pub(crate) fn small(&mut self) -> Result<u32, StoreError> {
        let value = self.int()?;
        u32::try_from(value).map_err(|_| self.wrong("small number"))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.int()? != 0)
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.uint().map(Timestamp)
    }

    pub(crate) fn opt_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.opt_uint()?.map(Timestamp))
    }

    pub(crate) fn opt_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.value()? {
            Value::Null => Ok(None),
            Value::Text(value) => Ok(Some(value)),
            Value::Int(_) | Value::Bytes(_) => Err(self.wrong("text")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        self.opt_text()?.ok_or_else(|| self.wrong("text"))
    }

    pub(crate) fn opt_bytes(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.value()? {
            Value::Null => Ok(None),
            Value::Bytes(value) => Ok(Some(value)),
            Value::Int(_) | Value::Text(_) => Err(self.wrong("bytes")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        self.opt_bytes()?.ok_or_else(|| self.wrong("bytes"))
    }

    pub(crate) fn opt_digest(&mut self) -> Result<Option<Digest>, StoreError> {
        self.opt_bytes()?
            .map(|bytes| digest(&bytes).ok_or_else(|| self.wrong("digest")))
            .transpose()
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, StoreError> {
        self.opt_digest()?.ok_or_else(|| self.wrong("digest"))
    }

    pub(crate) fn effect_id(&mut self) -> Result<EffectId, StoreError> {
        let text = self.text()?;
        EffectId::parse(&text).map_err(|_| self.wrong("effect id"))
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let text = self.text()?;
        serde_json::from_str(&text).map_err(|_| self.wrong("JSON of the wanted shape"))
    }

    pub(crate) fn opt_json<T: serde::de::DeserializeOwned>(
        &mut self,
    ) -> Result<Option<T>, StoreError> {
        self.opt_text()?
            .map(|text| {
                serde_json::from_str(&text).map_err(|_| self.wrong("JSON of the wanted shape"))
            })
            .transpose()
    }
}

fn digest(bytes: &[u8]) -> Option<Digest> {
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in bytes {
        use std::fmt::Write as _;
        write!(text, "{byte:02x}").ok()?;
    }
    Digest::parse(&text).ok()
}
