//! A web service as they often are: one SQLite table, a cache in front of it, a limit for each API
//! key in front of both. A client hammers it over the loopback interface and counts the answers.
//!
//! ```text
//! cargo run --release --manifest-path examples/rate_limited_api/Cargo.toml
//! ```
//!
//! It runs for [`HAMMERED_FOR`], prints some of the answers with their headers, then what each key
//! got, and checks that no key got more than its quota.

mod client;
mod server;

use client::{Report, hammer};
use std::error::Error;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const HAMMERED_FOR: Duration = Duration::from_secs(3);
/// What a key may ask for: so many a second, and so many at once after a rest.
const RATE: u32 = 20;
const BURST: u32 = 40;

/// The users, with the time between two requests. Who is in no hurry is never refused.
const USERS: [(&str, Duration); 4] = [
    ("ada", Duration::from_millis(100)),
    ("grace", Duration::from_millis(45)),
    ("mallory", Duration::ZERO),
    ("trudy", Duration::from_millis(2)),
];

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result<()> {
    let (service, shop) = server::service(RATE, BURST)?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    println!("http://{address}: {RATE} requests a second for each key, bursts of {BURST}\n");
    let server = tokio::spawn(async move { axum::serve(listener, service).await });

    let began = Instant::now();
    let users = USERS.map(|(user, pause)| {
        tokio::spawn(async move { hammer(address, user, pause, HAMMERED_FOR).await })
    });
    let mut reports = Vec::new();
    for user in users {
        reports.push(user.await??);
    }
    let took = began.elapsed();
    server.abort();

    print(&reports, took);
    let stats = shop.stats();
    println!(
        "\nthe cache answered {} of {} allowed requests, the database {}",
        stats.hits,
        stats.hits + stats.misses,
        stats.misses
    );
    check(&reports, took)
}

fn print(reports: &[Report], took: Duration) {
    println!(
        "\nkey      requests  allowed  refused   after {:.2} s",
        took.as_secs_f64()
    );
    for report in reports {
        let Report {
            user,
            allowed,
            refused,
        } = report;
        println!("{user:8} {:8} {allowed:8} {refused:8}", allowed + refused);
    }
}

/// No key got more than its quota, and who is slower than it was never refused.
fn check(reports: &[Report], took: Duration) -> Result<()> {
    let most = f64::from(BURST) + f64::from(RATE) * took.as_secs_f64();
    for Report {
        user,
        allowed,
        refused,
    } in reports
    {
        if f64::from(*allowed) > most {
            return Err(format!("{user} got {allowed}, more than {most:.0}").into());
        }
        if *user == "ada" && *refused > 0 {
            return Err(format!("{user} was refused").into());
        }
    }
    println!("no key got more than {BURST} + {RATE} a second");
    Ok(())
}
