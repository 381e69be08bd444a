//! The results as Markdown.

mod hits;
mod latency;
mod memory;
mod roles;
mod size;
mod speed;
mod table;

use crate::results::Results;
use std::fmt::Write;
pub use table::{number, thousands};

pub fn markdown(results: &Results) -> String {
    let mut text = String::from("# haybox beside other caches\n\n");
    machine(&mut text, results);
    if !results.speed.is_empty() {
        speed::summary(&mut text, results);
        speed::speed(&mut text, &results.speed);
    }
    if !results.size.is_empty() {
        size::size(&mut text, &results.size);
    }
    if !results.latency.is_empty() {
        latency::latency(&mut text, &results.latency);
    }
    if !results.memory.is_empty() {
        memory::memory(&mut text, &results.memory);
    }
    if !results.hits.is_empty() {
        hits::hits(&mut text, &results.hits);
    }
    if !results.roles.is_empty() {
        roles::roles(&mut text, results);
    }
    text
}

/// The same without the tables: what the terminal gets at the end of a run.
pub fn closing(results: &Results) -> String {
    let mut text = String::new();
    for summary in results.summary.iter().chain(&results.roles_summary) {
        let (mean, cells) = (summary.mean, summary.cells.len());
        let _ = writeln!(
            text,
            "haybox is {mean:.2} times as fast as {} (geometric mean over {cells} cells)",
            summary.against
        );
    }
    if !results.roles.is_empty() {
        roles::roles_ratios(&mut text, &results.roles_summary);
    }
    for note in &results.notes {
        let _ = writeln!(text, "{note}");
    }
    text
}

fn machine(text: &mut String, results: &Results) {
    let machine = &results.machine;
    let versions: Vec<_> = machine
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let _ = writeln!(
        text,
        "{} on {} cores of {}, {} GiB, {}, Linux {}, {}, haybox at commit {}.\n\n{}.\n\n\
         Command: `cargo run --release --manifest-path benches/peers/Cargo.toml -- {}`",
        machine.date,
        machine.cores,
        machine.processor,
        machine.memory_gib,
        machine.system,
        machine.kernel,
        machine.rustc_version(),
        machine.commit.as_deref().unwrap_or("unknown"),
        versions.join(", "),
        machine.command
    );
    for note in &results.notes {
        let _ = writeln!(text, "\n{note}");
    }
}
