//! Large things, named by the sha256 of what they are, packed, stored once.

use std::cell::RefCell;

use bytes::Bytes;
use penstock_model::id::{Digest, Timestamp};

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{compress_bound, get_frame_content_size};

use crate::backend::Tx;
use crate::backend::value::params;
use crate::error::StoreError;
use crate::store::Store;

/// Below this, packing gains nothing.
const WORTH_PACKING: usize = 256;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Quick rather than small: bodies are packed while GitLab waits.
const LEVEL: i32 = 1;
/// Packing more than this is not done on the caller's thread.
const LARGE: usize = 256 * 1024;

/// Bytes that are ready to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    content: Vec<u8>,
}

/// Packs bytes; what is large is packed on a thread of its own.
pub(crate) async fn packed(bytes: impl Into<Bytes>) -> Result<Packed, StoreError> {
    let bytes = bytes.into();
    if bytes.len() < LARGE {
        return packed_here(&bytes);
    }
    tokio::task::spawn_blocking(move || packed_here(&bytes))
        .await
        .map_err(|_| StoreError::unavailable("packing was cut short"))?
}

pub(crate) fn packed_here(bytes: &[u8]) -> Result<Packed, StoreError> {
    Ok(Packed {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        content: pack(bytes)?,
    })
}

thread_local! {
    /// To make a context costs more than to pack a body with it.
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Bytes as they are stored: one byte that says how, then they themselves.
pub(crate) fn pack(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    if bytes.len() >= WORTH_PACKING {
        let content = PACKER
            .with_borrow_mut(|packer| squeeze(packer, bytes))
            .map_err(|error| StoreError::unavailable(format!("packing failed: {error}")))?;
        if content.len() < bytes.len() {
            return Ok(content);
        }
    }
    let mut content = Vec::with_capacity(bytes.len() + 1);
    content.push(PLAIN);
    content.extend_from_slice(bytes);
    Ok(content)
}

fn squeeze(packer: &mut Option<Compressor<'static>>, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    if bytes.len() > LARGE {
        // A context keeps the memory of the largest thing that it packed.
        let mut content = vec![ZSTD];
        content.extend(zstd::bulk::compress(bytes, LEVEL)?);
        return Ok(content);
    }
    let packer = match packer {
        Some(packer) => packer,
        None => packer.insert(Compressor::new(LEVEL)?),
    };
    let mut content = vec![0; 1 + compress_bound(bytes.len())];
    let length = match content.split_first_mut() {
        Some((how, room)) => {
            *how = ZSTD;
            packer.compress_to_buffer(bytes, room)?
        }
        None => 0,
    };
    content.truncate(1 + length);
    content.shrink_to_fit();
    Ok(content)
}

/// Bytes as they were before [`pack`].
pub(crate) fn unpack(content: &[u8]) -> Result<Vec<u8>, StoreError> {
    let wrong = |error: std::io::Error| StoreError::unreadable(format!("packed bytes: {error}"));
    match content.split_first() {
        Some((&PLAIN, bytes)) => Ok(bytes.to_vec()),
        Some((&ZSTD, bytes)) => match get_frame_content_size(bytes) {
            Ok(Some(size)) if size <= LARGE as u64 => {
                let size = usize::try_from(size).unwrap_or(LARGE);
                UNPACKER
                    .with_borrow_mut(|unpacker| {
                        let unpacker = match unpacker {
                            Some(unpacker) => unpacker,
                            None => unpacker.insert(Decompressor::new()?),
                        };
                        unpacker.decompress(bytes, size)
                    })
                    .map_err(wrong)
            }
            _ => zstd::stream::decode_all(bytes).map_err(wrong),
        },
        _ => Err(StoreError::unreadable("bytes packed in an unknown way")),
    }
}

/// Keeps bytes. Those that are there already are only marked as used.
pub(crate) fn put(tx: &mut dyn Tx, packed: &Packed, now: Timestamp) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO blobs (digest, size, content, plugin, touched_at) VALUES (?1, ?2, ?3, 0, ?4) \
         ON CONFLICT (digest) DO UPDATE SET touched_at = excluded.touched_at \
         WHERE blobs.touched_at < excluded.touched_at - 3600000",
        params![&packed.digest, packed.size, &packed.content, now],
    )
    .map(drop)
}

fn put_plugin(tx: &mut dyn Tx, packed: &Packed, now: Timestamp) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO blobs (digest, size, content, plugin, touched_at) VALUES (?1, ?2, ?3, 1, ?4) \
         ON CONFLICT (digest) DO UPDATE SET touched_at = excluded.touched_at, plugin = 1",
        params![&packed.digest, packed.size, &packed.content, now],
    )
    .map(drop)
}

/// Finds bytes.
pub(crate) fn find(tx: &mut dyn Tx, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let row = tx.first(
        "SELECT content FROM blobs WHERE digest = ?1",
        params![digest],
    )?;
    row.map(|mut row| unpack(&row.bytes()?)).transpose()
}

impl Store {
    /// The bytes of a digest; none: never stored, or expired.
    ///
    /// # Errors
    /// The store's.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let digest = *digest;
        self.read(move |tx| find(tx, &digest)).await
    }

    /// Keeps the bytes of a plugin for as long as decision records name their digest, which it gives.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_plugin(&self, bytes: Vec<u8>, now: Timestamp) -> Result<Digest, StoreError> {
        let packed = packed(bytes).await?;
        let digest = packed.digest;
        self.write(move |tx| put_plugin(tx, &packed, now)).await?;
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{pack, unpack};

    proptest! {
        #[test]
        fn unpacking_gives_what_was_packed(bytes in proptest::collection::vec(any::<u8>(), 0..4096), times in 1usize..4) {
            let bytes = bytes.repeat(times);
            prop_assert_eq!(unpack(&pack(&bytes).unwrap()).unwrap(), bytes);
        }

        #[test]
        fn garbage_is_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = unpack(&bytes);
        }
    }

    #[test]
    fn text_is_stored_smaller_than_it_is() {
        let text = br#"{"object_kind":"push","ref":"refs/heads/main"}"#.repeat(100);
        assert!(pack(&text).unwrap().len() < text.len() / 5);
    }
}
