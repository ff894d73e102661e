//! Random numbers: ChaCha20 under the record's seed, with a stream for each interface, so that what one draws moves no other.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::ask::Caller;

/// Which of the cipher's streams is drawn from.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Random,
    Insecure,
    Seed,
}

/// The generators of one call, made when they are first drawn from.
pub(super) struct Random {
    seed: [u8; 32],
    streams: [Option<ChaCha20Rng>; 3],
}

impl Random {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            streams: [None, None, None],
        }
    }

    fn of(&mut self, stream: Stream) -> &mut ChaCha20Rng {
        let [random, insecure, seed] = &mut self.streams;
        let (at, number) = match stream {
            Stream::Random => (random, 0),
            Stream::Insecure => (insecure, 1),
            Stream::Seed => (seed, 2),
        };
        at.get_or_insert_with(|| {
            let mut rng = ChaCha20Rng::from_seed(self.seed);
            rng.set_stream(number);
            rng
        })
    }
}

fn number(caller: &mut Caller, stream: Stream) -> u64 {
    caller.wasi.random.of(stream).next_u64()
}

fn bytes(caller: &mut Caller, stream: Stream, length: u64) -> wasmtime::Result<(Vec<u8>,)> {
    // Counted before they are made.
    caller.give(length)?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    caller.wasi.random.of(stream).fill_bytes(&mut bytes);
    Ok((bytes,))
}

pub(super) fn link(linker: &mut Linker<Caller>) -> wasmtime::Result<()> {
    type Cx<'a> = StoreContextMut<'a, Caller>;
    for (interface, kind, stream) in [
        ("wasi:random/random@0.2.0", "", Stream::Random),
        ("wasi:random/insecure@0.2.0", "insecure-", Stream::Insecure),
    ] {
        let mut random = linker.instance(interface)?;
        random.func_wrap(
            &format!("get-{kind}random-bytes"),
            move |mut cx: Cx<'_>, (length,): (u64,)| bytes(cx.data_mut(), stream, length),
        )?;
        random.func_wrap(
            &format!("get-{kind}random-u64"),
            move |mut cx: Cx<'_>, (): ()| Ok((number(cx.data_mut(), stream),)),
        )?;
    }
    let mut seed = linker.instance("wasi:random/insecure-seed@0.2.0")?;
    seed.func_wrap("insecure-seed", |mut cx: Cx<'_>, (): ()| {
        let caller = cx.data_mut();
        Ok(((number(caller, Stream::Seed), number(caller, Stream::Seed)),))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_and_streams_are_apart() {
        let draw = |seed: u8, stream| Random::new([seed; 32]).of(stream).next_u64();
        assert_eq!(draw(1, Stream::Random), draw(1, Stream::Random));
        assert_ne!(draw(1, Stream::Random), draw(2, Stream::Random));
        assert_ne!(draw(1, Stream::Random), draw(1, Stream::Insecure));
        let mut both = Random::new([1; 32]);
        both.of(Stream::Insecure).next_u64();
        assert_eq!(both.of(Stream::Random).next_u64(), draw(1, Stream::Random));
    }

    #[test]
    fn a_record_of_today_replays_with_these_numbers_for_ever() {
        // ChaCha20 of RFC 8439 under a key of sevens, counter 0, stream as the upper half of the nonce: by another implementation.
        for (stream, expect) in [
            (Stream::Random, 4_753_173_749_397_848_308),
            (Stream::Insecure, 17_250_399_114_163_879_021),
            (Stream::Seed, 14_546_071_416_996_108_741),
        ] {
            assert_eq!(Random::new([7; 32]).of(stream).next_u64(), expect);
        }
    }
}
