//! Redis with its append-only file, asked by its own `redis-benchmark` over the loopback interface.

use super::stores::{VALUE, seconds, size_of};
use super::table::{Row, said};
use super::{Job, durable};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;

/// The version of the server that is installed here.
pub fn version() -> Option<String> {
    let output = Command::new("redis-server")
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="))?;
    Some(version.to_string())
}

/// A server that appends to a file, and ends with this.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(dir: &Path, fsync: &str) -> Result<Self, String> {
        std::fs::create_dir_all(dir).map_err(|error| said(dir, error))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let port = listener.and_then(|listener| listener.local_addr());
        let port = port
            .map_err(|error| format!("no free port: {error}"))?
            .port();
        // The shell ends the server when this process lets go of the shell's input, in whatever way
        // it ends itself.
        let script = "redis-server \"$@\" >/dev/null 2>&1 & cat; kill $!; wait";
        let process = Command::new("sh")
            .args([
                "-c",
                script,
                "sh",
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
            ])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", fsync])
            .args([
                "--auto-aof-rewrite-percentage",
                "0",
                "--loglevel",
                "warning",
            ])
            .arg("--dir")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server cannot be started: {error}"))?;
        let server = Self { process, port };
        server.wait_until_loaded()?;
        Ok(server)
    }

    /// While it reads its file it refuses commands.
    fn wait_until_loaded(&self) -> Result<(), String> {
        let address = format!("redis://127.0.0.1:{}/", self.port);
        let client = ::redis::Client::open(address).map_err(|error| error.to_string())?;
        let started = Instant::now();
        loop {
            let connection = client.get_connection();
            let answer =
                connection.and_then(|mut to| ::redis::cmd("PING").query::<String>(&mut to));
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > Duration::from_secs(120) => {
                    return Err(format!("redis-server does not answer: {error}"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Commands per second.
    fn benchmark(&self, clients: u64, pipeline: u64, sets: u64, keys: u64) -> Result<f64, String> {
        let text = |number: u64| number.to_string();
        let output = Command::new("redis-benchmark")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-t",
                "set",
                "--csv",
            ])
            .args([
                "-d",
                &VALUE.to_string(),
                "-c",
                &text(clients),
                "-P",
                &text(pipeline),
            ])
            .args(["-n", &text(sets), "-r", &text(keys)])
            .output()
            .map_err(|error| format!("redis-benchmark cannot be started: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("\"SET\",\""));
        let rate = line.and_then(|line| line.split('"').next()?.parse().ok());
        rate.ok_or_else(|| format!("redis-benchmark answered: {text}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // An error would say that it has ended already.
        self.process.wait().ok();
    }
}

/// Pipelined by a hundred, from fifty clients.
pub fn inserts(job: &Job, section: &str, batch: u64) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    if version().is_none() {
        return Ok(rows);
    }
    for fsync in ["everysec", "no", "always"] {
        let server = Server::start(&job.fresh(&format!("redis-{fsync}"))?, fsync)?;
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            rates.push(server.benchmark(50, 100, batch, 1_000_000_000)?);
        }
        let what = format!("Redis, appendfsync {fsync}, 50 clients, pipelined by 100");
        rows.push(Row::of(section, what, &rates, "/s"));
    }
    Ok(rows)
}

/// As many clients as there are threads, each of which waits for its answer.
pub fn durable(job: &Job, section: &str) -> Result<Option<Row>, String> {
    if version().is_none() {
        return Ok(None);
    }
    let server = Server::start(&job.fresh("redis-durable")?, "always")?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let sets = job.scaled(100_000);
        rates.push(server.benchmark(durable::THREADS, 1, sets, 1_000_000_000)?);
    }
    let what = "Redis, appendfsync always, 64 clients";
    Ok(Some(Row::of(section, what, &rates, "/s")))
}

pub fn recovery(job: &Job, section: &str, entries: u64) -> Result<Vec<Row>, String> {
    if version().is_none() {
        return Ok(Vec::new());
    }
    let dir = job.fresh("redis-recovery")?;
    let server = Server::start(&dir, "everysec")?;
    server.benchmark(50, 100, entries, 1_000_000_000)?;
    drop(server);
    let bytes = size_of(&dir) as f64 / entries as f64;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let (took, server) = seconds(|| Server::start(&dir, "everysec"));
        drop(server?);
        rates.push(entries as f64 / took);
    }
    std::fs::remove_dir_all(&dir).map_err(|error| said(&dir, error))?;
    Ok(vec![
        Row::of(
            section,
            "Redis, 100 B, from its append-only file",
            &rates,
            "/s",
        ),
        Row::of(
            section,
            "Redis, 100 B, append-only file on disk",
            &[bytes],
            "B each",
        ),
    ])
}
