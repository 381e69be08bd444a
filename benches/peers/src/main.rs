//! haybox beside other caches, and beside what does its other roles: speed, latency, memory and hit
//! ratio, measured in one run.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- --help`

mod alloc;
mod chart;
mod child;
mod cli;
mod data;
mod hits;
mod latency;
mod machine;
mod memory;
mod out;
mod peers;
mod policies;
mod progress;
mod report;
mod results;
mod roles;
mod speed;
mod summary;
mod traces;
mod turns;
mod workload;

use clap::Parser;
use cli::{Child, Cli, Part, Settings};
use machine::Machine;
use peers::{Class, Info};
use progress::Progress;
use results::Results;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use workload::Workload;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), String> {
    if let Some(Child::Job { job }) = &cli.child {
        return child::work(job);
    }
    if cli.list {
        return out::print(&list());
    }
    if cli.redraw {
        let path = cli.out.join("results.json");
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let results: Results = serde_json::from_str(&text)
            .map_err(|error| format!("{} is not of this version: {error}", path.display()))?;
        return write(&results, &cli.out);
    }
    // What may be wrong is found out before an hour of measuring.
    let traces = cli.trace.iter().map(|path| hits::read(path));
    hits::tell_apart(&cli.trace)?;
    let traces = traces.collect::<Result<Vec<_>, _>>()?;
    make_writable(&cli.out)?;
    let results = measure(cli, traces)?;
    eprintln!("written to {}", cli.out.display());
    out::print(&report::closing(&results))
}

fn list() -> String {
    let line = |id: &str, label: &str| format!("  {id:<18} {label}\n");
    let peers = peers::ALL.iter().map(|info| line(info.id, info.label));
    let workloads = workload::ALL.iter().map(|load| line(load.id, load.label));
    let jobs = roles::jobs().into_iter().map(|job| line(job.id, job.label));
    let (peers, workloads) = (peers.collect::<String>(), workloads.collect::<String>());
    let jobs = jobs.collect::<String>();
    format!("peers:\n{peers}workloads:\n{workloads}jobs of the other roles:\n{jobs}")
}

fn make_writable(out: &Path) -> Result<(), String> {
    let shown = out.display();
    fs::create_dir_all(out).map_err(|error| format!("cannot make {shown}: {error}"))?;
    let probe = out.join(".writable");
    fs::write(&probe, []).map_err(|error| format!("cannot write into {shown}: {error}"))?;
    fs::remove_file(&probe).map_err(|error| format!("cannot write into {shown}: {error}"))
}

/// Writes the results after each part, so that a run that is broken off is not lost.
fn measure(cli: &Cli, traces: Vec<traces::Trace>) -> Result<Results, String> {
    let settings = Settings::of(cli);
    let mut results = Results {
        machine: Machine::here(),
        settings: settings.clone(),
        ..Results::default()
    };
    let peers = chosen_peers(cli, &mut results.notes);
    let workloads: Vec<&'static Workload> = if cli.workloads.is_empty() {
        workload::ALL.iter().collect()
    } else {
        cli.workloads.clone()
    };
    let mut threads: Vec<usize> = cli
        .threads
        .iter()
        .map(|threads| usize::from(*threads))
        .collect();
    threads.sort_unstable();
    threads.dedup();
    let wants = |part| cli.only.is_empty() || cli.only.contains(&part);
    if wants(Part::Speed) {
        let progress = Progress::new("speed", speed::steps(&workloads, &threads, &settings));
        results.speed = speed::measure(&peers, &workloads, &threads, &settings, &progress)?;
        results.summary = summary::summarise(&results.speed);
        progress.finish();
        write(&results, &cli.out)?;
    }
    if wants(Part::Size) {
        let progress = Progress::new("size", speed::size_steps(&peers, &settings));
        results.size = speed::by_size(&peers, &settings, &progress)?;
        progress.finish();
        write(&results, &cli.out)?;
    }
    if wants(Part::Latency) {
        let progress = Progress::new("latency", latency::steps(&peers, &settings));
        results.latency = latency::measure(&peers, &settings, &progress)?;
        progress.finish();
        write(&results, &cli.out)?;
    }
    if wants(Part::Memory) {
        let progress = Progress::new("memory", memory::steps(&peers));
        results.memory = memory::measure(&peers, &settings, &progress)?;
        progress.finish();
        write(&results, &cli.out)?;
    }
    if wants(Part::Hits) {
        let mut traces = traces;
        traces.extend(traces::generated(settings.generated));
        let progress = Progress::new("hits", hits::steps(&peers, traces.len()));
        let (patience, notes) = (settings.patience, &mut results.notes);
        results.hits = hits::measure(&peers, &traces, patience, notes, &progress)?;
        progress.finish();
        write(&results, &cli.out)?;
    }
    if wants(Part::Roles) {
        let progress = Progress::new("roles", roles::steps(&threads, &settings));
        let notes = &mut results.notes;
        results.roles = roles::measure(&threads, &settings, notes, &progress)?;
        results.roles_summary = summary::of_roles(&results.roles);
        progress.finish();
        write(&results, &cli.out)?;
    }
    Ok(results)
}

fn chosen_peers(cli: &Cli, notes: &mut Vec<String>) -> Vec<&'static Info> {
    let all = || peers::ALL.iter().collect();
    let mut chosen: Vec<&'static Info> = if cli.peers.is_empty() {
        all()
    } else {
        cli.peers.clone()
    };
    let before = chosen.len();
    if peers::redis::version().is_none() {
        chosen.retain(|info| info.class != Class::Server);
    }
    if chosen.len() < before {
        notes.push("Redis was left out: there is no redis-server on this machine.".to_string());
    }
    chosen
}

fn write(results: &Results, out: &Path) -> Result<(), String> {
    let put = |name: &str, text: String| {
        let path = out.join(name);
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    let json = serde_json::to_string_pretty(results).map_err(|error| error.to_string())?;
    put("results.json", json)?;
    put("results.md", report::markdown(results))?;
    for (name, svg) in chart::draw(results)? {
        put(&name, svg)?;
    }
    Ok(())
}
