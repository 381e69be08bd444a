//! Workers that fail, panic, hang and are killed in the middle of their work, and no job is lost.
//!
//! ```text
//! cargo run --release --example job_queue
//! cargo run --release --example job_queue -- 5000
//! ```
//!
//! Each job is a number to be factorised. Now and then a worker goes wrong: it returns an error,
//! panics, or hangs for longer than it may, so that another one gets its job. Twice the whole crew
//! is stopped and a new one hired. Two jobs are poison: they fail whoever tries. At the end it is
//! checked that every job was done, or is among the dead letters with the reason.

use haybox::queue::{Delivery, Overflow, PushOptions, Queue, Workers, WorkersReport};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const WORKERS: usize = 4;
const ATTEMPTS: u32 = 4;
const VISIBILITY: Duration = Duration::from_millis(50);
const HANG: Duration = Duration::from_millis(80);
const POISON: [u64; 2] = [404, 500];

/// How often each job was done.
type Done = Arc<Mutex<BTreeMap<u64, u32>>>;

/// Does a job, or goes wrong. What goes wrong depends on the job, so each run shows the same.
fn work(job: &Delivery<u64>, done: &Done) -> Result<(), String> {
    if POISON.contains(job) {
        return Err(format!("{} has no factors that anybody could find", **job));
    }
    if job.attempt() == 1 {
        match **job % 50 {
            7 => return Err("the connection was lost".into()),
            17 => panic!("index out of bounds"),
            27 if **job % 200 == 27 => thread::sleep(HANG),
            _ => {}
        }
    }
    let factors = factors_of(**job + 1_000_000_007);
    assert!(!factors.is_empty());
    *done
        .lock()
        .expect("no holder panics")
        .entry(**job)
        .or_default() += 1;
    Ok(())
}

fn factors_of(mut number: u64) -> Vec<u64> {
    let mut factors = Vec::new();
    let mut divisor = 2;
    while divisor * divisor <= number {
        while number.is_multiple_of(divisor) {
            factors.push(divisor);
            number /= divisor;
        }
        divisor += 1;
    }
    if number > 1 {
        factors.push(number);
    }
    factors
}

fn hire(queue: &Queue<u64>, done: &Done) -> std::io::Result<Workers<u64>> {
    let done = Arc::clone(done);
    Workers::start(queue, WORKERS, move |job| work(job, &done))
}

/// Pushes the jobs, some later, some first, and each third one twice.
fn push_all(queue: &Queue<u64>, jobs: u64) -> Result<(), Box<dyn Error + Send + Sync>> {
    for job in 0..jobs {
        let options = PushOptions::new()
            .dedup_key(format!("job {job}"))
            .priority(if job % 10 == 0 { 1 } else { 0 })
            .delay(Duration::from_millis(if job % 100 == 99 { 30 } else { 0 }));
        queue.push_with(job, options.clone())?;
        if job % 3 == 0 && !queue.push_with(job, options)?.is_duplicate() {
            return Err(format!("job {job} went in twice").into());
        }
    }
    Ok(())
}

fn sum(reports: &[WorkersReport], of: fn(&WorkersReport) -> u64) -> u64 {
    reports.iter().map(of).sum()
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let jobs: u64 = match std::env::args().nth(1) {
        Some(jobs) => jobs.parse()?,
        None => 1_000,
    };
    // The panics are part of the show, and counted.
    std::panic::set_hook(Box::new(|_| ()));

    let queue = Queue::builder(500)
        .overflow(Overflow::Block(Duration::from_secs(60)))
        .visibility_timeout(VISIBILITY)
        .max_attempts(ATTEMPTS)
        .backoff(Duration::from_millis(5), Duration::from_millis(20))
        .build()?;
    println!(
        "{jobs} jobs, {WORKERS} workers, room for {} jobs",
        queue.capacity()
    );

    let (started, done) = (Instant::now(), Done::default());
    let mut reports = Vec::new();
    let mut workers = hire(&queue, &done)?;
    let workers = thread::scope(|scope| {
        let pusher = scope.spawn(|| push_all(&queue, jobs));
        for crew in 1..=2 {
            while queue.stats().acked < crew * jobs / 3 {
                thread::sleep(Duration::from_millis(1));
            }
            let stopped = workers.stop();
            let stats = queue.stats();
            println!("crew {crew} is stopped in the middle: {stopped:?}");
            println!(
                "  it leaves {} ready and {} to be tried again, in flight {}",
                stats.ready, stats.delayed, stats.in_flight
            );
            reports.push(stopped);
            workers = hire(&queue, &done)?;
        }
        pusher.join().expect("pushing does not panic")?;
        Ok::<_, Box<dyn Error + Send + Sync>>(workers)
    })?;
    queue.close();
    reports.push(workers.drain(Duration::from_secs(60)));

    let stats = queue.stats();
    println!("all is over after {:?}", started.elapsed());
    println!(
        "  {} done, {} failed, {} panicked, {} too late; {} deliveries of {} jobs, {} pushed twice",
        sum(&reports, |report| report.done),
        sum(&reports, |report| report.failed),
        sum(&reports, |report| report.panicked),
        sum(&reports, |report| report.late),
        stats.delivered,
        stats.pushed,
        stats.duplicates,
    );
    let dead = queue.dead_letters();
    for letter in &dead {
        let error = letter.error().unwrap_or("given back");
        println!(
            "  dead: job {} after {} attempts: {error}",
            **letter,
            letter.attempts()
        );
    }

    let done = done.lock().expect("no holder panics");
    let twice = done.values().filter(|times| **times > 1).count();
    println!("  {twice} were done twice, by a worker that hung and the one after it");
    let is_dead = |job: &u64| dead.iter().any(|letter| **letter == *job);
    let lost: Vec<u64> = (0..jobs)
        .filter(|job| !done.contains_key(job) && !is_dead(job))
        .collect();
    println!("  lost: {}", lost.len());
    if lost.is_empty() && queue.is_empty() {
        Ok(())
    } else {
        Err(format!("jobs were lost: {lost:?}").into())
    }
}
