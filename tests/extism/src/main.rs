//! `penstock-beside-extism PLUGIN PAYLOAD CALLS`: medians of a call by extism in microseconds, as JSON.
//!
//! `fresh`: an instance for each call, as Penstock has it. `kept`: one instance for all calls, as extism has it when a plugin is kept. Both with a timeout
//! and a limit on memory. The answer is parsed as a plan with one effect; nothing is checked, recorded or admitted.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use extism::{CompiledPlugin, Manifest, Plugin, PluginBuilder, Wasm};

/// Calls before the ones that count.
const WARM: usize = 500;
/// Pages of 64 KiB: as much as Penstock's default of 64 MiB.
const PAGES: u32 = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let mut next = |what: &str| words.next().ok_or_else(|| format!("{what} is missing"));
    let plugin = PathBuf::from(next("the plugin")?);
    let payload = std::fs::read_to_string(next("the payload")?)?;
    let calls: usize = next("the number of calls")?.parse()?;
    let manifest = Manifest::new([Wasm::data(std::fs::read(plugin)?)])
        .with_timeout(Duration::from_secs(30))
        .with_memory_max(PAGES);
    let compiled = CompiledPlugin::new(PluginBuilder::new(manifest).with_cache_disabled())?;
    let mut kept = Plugin::new_from_compiled(&compiled)?;
    let (mut of_fresh, mut of_kept) = (Vec::new(), Vec::new());
    for n in 0..calls + WARM {
        let began = Instant::now();
        let mut fresh = Plugin::new_from_compiled(&compiled)?;
        decide(&mut fresh, &payload)?;
        drop(fresh);
        let took = began.elapsed();
        let began = Instant::now();
        decide(&mut kept, &payload)?;
        if n >= WARM {
            of_fresh.push(took);
            of_kept.push(began.elapsed());
        }
    }
    let told = serde_json::json!({ "fresh": median(&mut of_fresh), "kept": median(&mut of_kept) });
    println!("{told}");
    Ok(())
}

fn decide(plugin: &mut Plugin, payload: &str) -> Result<(), Box<dyn Error>> {
    let answer: String = plugin.call("decide", payload)?;
    let plan: serde_json::Value = serde_json::from_str(&answer)?;
    match plan.get("effects").and_then(|it| it.as_array()) {
        Some(effects) if effects.len() == 1 => Ok(()),
        _ => Err(format!("it answered {answer}").into()),
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    middle.as_secs_f64() * 1e6
}
