//! haybox beside other caches, and beside what does its other roles: speed, latency, memory and hit
//! ratio, measured in one run.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- --help`

mod alloc;
mod chart;
mod child;
mod cli;
mod data;
mod earlier;
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
mod settings;
mod speed;
mod summary;
mod traces;
mod turns;
mod workload;

use child::Job;
use clap::{Parser, ValueEnum};
use cli::{Child, Cli};
use machine::Machine;
use peers::{Class, Info};
use progress::Progress;
use results::Results;
use settings::{Part, Settings};
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use traces::Trace;
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
    if let Some(Child::Job { name, job }) = &cli.child {
        return work(name, job);
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
    hits::tell_apart(&cli.trace)?;
    let traces = cli.trace.iter().map(|path| hits::read(path));
    let traces = traces.collect::<Result<Vec<_>, _>>()?;
    make_writable(&cli.out)?;
    let results = measure(cli, traces)?;
    eprintln!("written to {}", cli.out.display());
    out::print(&report::closing(&results))
}

fn work(name: &str, job: &str) -> Result<(), String> {
    match name {
        speed::Alone::NAME => child::work::<speed::Alone>(job),
        latency::Time::NAME => child::work::<latency::Time>(job),
        memory::Weigh::NAME => child::work::<memory::Weigh>(job),
        hits::Replay::NAME => child::work::<hits::Replay>(job),
        _ => Err(format!("there is no job {name}")),
    }
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
fn measure(cli: &Cli, traces: Vec<Trace>) -> Result<Results, String> {
    let mut results = Results {
        machine: Machine::here(),
        settings: cli.settings(),
        ..Results::default()
    };
    let is_chosen = |part| cli.only.is_empty() || cli.only.contains(&part);
    if let Ok(json) = fs::read_to_string(cli.out.join("results.json"))
        && let Err(why) = earlier::keep(&mut results, &json, is_chosen)
    {
        eprintln!(
            "warning: the results that are in {} will be overwritten, since they are {why} (the \
             charts of parts that are not measured now stay as they are)",
            cli.out.display()
        );
    }
    let chosen = Chosen::of(cli, traces, &mut results);
    let parts = Part::value_variants().iter().copied();
    for part in parts.filter(|part| is_chosen(*part)) {
        chosen.measure(part, &mut results)?;
        if results.lacks(part) {
            results.notes.push(format!(
                "No peer was measured in the part {}: none of those that were chosen can do what \
                 it measures, with these workloads and numbers of threads.",
                part.name()
            ));
        }
        write(&results, &cli.out)?;
    }
    Ok(results)
}

/// What a run was asked to measure.
struct Chosen {
    settings: Settings,
    peers: Vec<&'static Info>,
    workloads: Vec<&'static Workload>,
    threads: Vec<usize>,
    /// Those of files.
    traces: Vec<Trace>,
}

impl Chosen {
    fn of(cli: &Cli, traces: Vec<Trace>, results: &mut Results) -> Self {
        let workloads = if cli.workloads.is_empty() {
            workload::ALL.iter().collect()
        } else {
            cli.workloads.clone()
        };
        let threads = cli.threads.iter();
        let mut threads: Vec<usize> = threads.map(|threads| usize::from(*threads)).collect();
        threads.sort_unstable();
        threads.dedup();
        Self {
            settings: results.settings.clone(),
            peers: chosen_peers(cli, &mut results.notes),
            workloads,
            threads,
            traces,
        }
    }

    fn measure(&self, part: Part, results: &mut Results) -> Result<(), String> {
        let Self {
            settings,
            peers,
            workloads,
            threads,
            traces,
        } = self;
        let steps = match part {
            Part::Speed => speed::steps(workloads, threads, settings),
            Part::Size => speed::size_steps(peers, settings),
            Part::Latency => latency::steps(peers, settings),
            Part::Memory => memory::steps(peers),
            Part::Hits => hits::steps(peers, traces.len() + traces::names().count()),
            Part::Roles => roles::steps(threads, settings),
        };
        let progress = Progress::new(&part.name(), steps);
        let notes = &mut results.notes;
        match part {
            Part::Speed => {
                results.speed = speed::measure(peers, workloads, threads, settings, &progress)?;
                results.summary = summary::summarise(&results.speed);
            }
            Part::Size => results.size = speed::by_size(peers, settings, &progress)?,
            Part::Latency => results.latency = latency::measure(peers, settings, &progress)?,
            Part::Memory => results.memory = memory::measure(peers, settings, &progress)?,
            Part::Hits => {
                let patience = settings.patience;
                for traces in [traces, &traces::generated(settings.generated)] {
                    let rows = hits::measure(peers, traces, patience, notes, &progress)?;
                    results.hits.extend(rows);
                }
            }
            Part::Roles => {
                results.roles = roles::measure(threads, settings, notes, &progress)?;
                results.roles_summary = summary::of_roles(&results.roles);
            }
        }
        progress.finish();
        Ok(())
    }
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
