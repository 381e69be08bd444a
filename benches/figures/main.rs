//! The figures that the cache is held to, measured: memory, expiry, growth, many small caches.
//!
//! `cargo bench --bench figures` runs all of them (some four minutes, 1 GiB of memory), `cargo
//! bench --bench figures -- bytes growth` only those that are named. Each line shows what was
//! measured and, where there is one, the aim. What depends on the scheduler stands beside the
//! same measurement of a plain map or of nothing at all: where those are slow too, the machine was
//! busy.

mod allocator;
mod bytes;
mod expiry;
mod filled;
mod growth;
mod keeper;
mod many;
mod stopped;
mod table;
mod times;

/// A figure's name and what measures it.
type Figure = (&'static str, fn());

const FIGURES: [Figure; 6] = [
    ("bytes", bytes::bytes),
    ("idle", keeper::idle),
    ("expiry", expiry::expiry),
    ("sigstop", stopped::sigstop),
    ("growth", growth::growth),
    ("caches", many::caches),
];

fn main() {
    let (flags, names): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|arg| arg.starts_with('-'));
    if names.first().is_some_and(|name| name == stopped::CHILD) {
        return stopped::stopped_child();
    }
    // Cargo passes this to every benchmark, and leaves it out when benchmarks run as tests.
    if names.is_empty() && !flags.iter().any(|flag| flag == "--bench") {
        return;
    }
    let is_known = |name: &&String| FIGURES.iter().any(|(figure, _)| figure == name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<_> = FIGURES.iter().map(|(figure, _)| *figure).collect();
        eprintln!(
            "there is no figure called {unknown}; there are {}",
            known.join(", ")
        );
        std::process::exit(2);
    }
    println!("{:<68} {:>16} {:>14}", "figure", "measured", "aim");
    for (name, measure) in FIGURES {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            measure();
        }
    }
}
