//! One web server on loopback, and behind it one store of sessions after another: haybox, the memory
//! store of tower-sessions, and its store in Redis. 10,000 sessions are open at once; each request
//! names one of them and changes it.
//!
//! ```sh
//! cargo run --release --manifest-path benches/sessions/Cargo.toml
//! ```
//!
//! `redis-server` has to be installed; it is started here, on a free port, without files. All
//! traffic stays on 127.0.0.1, and a run takes a stated number of requests.

mod client;
mod redis;
mod report;

use axum::Router;
use axum::routing::get;
use client::Run;
use haybox::session::Sessions;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_sessions::{MemoryStore, Session, SessionManagerLayer, SessionStore};
use tower_sessions_redis_store::RedisStore;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What each run consists of.
#[derive(Clone, Copy)]
pub struct Load {
    sessions: usize,
    connections: usize,
    requests: usize,
    rounds: usize,
}

fn load() -> Result<Load, Error> {
    let mut load = Load {
        sessions: 10_000,
        connections: 100,
        requests: 200_000,
        rounds: 3,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let number = arguments
            .next()
            .ok_or("each option has a number")?
            .parse()?;
        *match name.as_str() {
            "--sessions" => &mut load.sessions,
            "--connections" => &mut load.connections,
            "--requests" => &mut load.requests,
            "--rounds" => &mut load.rounds,
            _ => return Err("options: --sessions, --connections, --requests, --rounds".into()),
        } = number;
    }
    load.connections = load.connections.clamp(1, load.sessions.max(1));
    Ok(load)
}

/// The server and the client have threads of their own. On common ones a client's task would be run
/// right after the answer that woke it, the same few again and again, and the others wait.
struct Threads {
    server: Runtime,
    client: Runtime,
}

fn main() -> Result<(), Error> {
    let threads = Threads {
        server: Runtime::new()?,
        client: Runtime::new()?,
    };
    threads.server.block_on(compare(&threads))
}

async fn compare(threads: &Threads) -> Result<(), Error> {
    let load = load()?;
    let server = redis::Server::start()?;
    let pool = server.pool().await?;
    println!(
        "{} sessions, {} connections, {} requests a round, rounds in turns\n",
        load.sessions, load.connections, load.requests
    );
    let mut runs: [(&str, Vec<Run>); 4] = [
        ("haybox", Vec::new()),
        ("tower-sessions MemoryStore", Vec::new()),
        ("Redis (tower-sessions-redis-store)", Vec::new()),
        ("no store: the server by itself", Vec::new()),
    ];
    for round in 1..=load.rounds {
        for turn in 0..runs.len() {
            // None of them is always the first.
            let which = (round + turn) % runs.len();
            let run = match which {
                0 => measure(threads, haybox(&load)?, &load).await?,
                1 => measure(threads, MemoryStore::default(), &load).await?,
                2 => measure(threads, RedisStore::new(pool.clone()), &load).await?,
                _ => bare(threads, &load).await?,
            };
            let (name, runs) = &mut runs[which];
            println!("round {round}: {name}: {run}");
            runs.push(run);
        }
    }
    report::print(&runs);
    Ok(())
}

fn haybox(load: &Load) -> Result<Sessions, Error> {
    let sessions = Sessions::builder()
        .max_sessions(load.sessions * 2)
        .owner_key("user")
        .idle_timeout(Duration::from_secs(1800));
    Ok(sessions.build()?)
}

static USERS: AtomicU64 = AtomicU64::new(0);

/// A visit reads who it is and counts itself, so each writes its session.
async fn visit(session: Session) -> String {
    let visits: u64 = session.get("visits").await.ok().flatten().unwrap_or(0);
    if visits == 0 {
        let text = "a sentence that stands for what else is in a session";
        let user = USERS.fetch_add(1, Relaxed);
        let _ = session.insert("user", user).await;
        let _ = session.insert("note", text).await;
    }
    let _ = session.insert("visits", visits + 1).await;
    format!("{}", visits + 1)
}

async fn measure(
    threads: &Threads,
    store: impl SessionStore + Clone,
    load: &Load,
) -> Result<Run, Error> {
    let layer = SessionManagerLayer::new(store).with_secure(true);
    let app = Router::new().route("/", get(visit)).layer(layer);
    serve_and_load(threads, app, load, true).await
}

/// What the server and the client take without any session.
async fn bare(threads: &Threads, load: &Load) -> Result<Run, Error> {
    let app = Router::new().route("/", get(|| async { "1" }));
    serve_and_load(threads, app, load, false).await
}

async fn serve_and_load(
    threads: &Threads,
    app: Router,
    load: &Load,
    has_sessions: bool,
) -> Result<Run, Error> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let run = client::run(address, *load, has_sessions);
    let run = threads.client.spawn(run).await?;
    server.abort();
    run
}
