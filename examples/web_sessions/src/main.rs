//! A web app whose sessions live in the process.
//!
//! ```sh
//! cargo run --release --manifest-path examples/web_sessions/Cargo.toml -- --debug-page
//! ```
//!
//! Then open <http://localhost:3000>, sign up, and look at "my devices" from two browsers. Without
//! arguments nothing is kept: `--data DIR` keeps the accounts there, in SQLite, and the sessions, so
//! that a restart logs nobody out.

mod account;
mod app;
mod charts;
mod csrf;
mod debug;
mod devices;
mod flash;
mod options;
mod page;
mod peers;
mod storage;
mod tokens;
mod users;

use options::Options;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::watch;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let options = match Options::of(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            std::process::exit(2);
        }
    };
    let clock = options.clock();
    let (end, ends) = watch::channel(false);
    let app = app::App::open(&options, clock, ends)?;
    let listener = TcpListener::bind((options.address.as_str(), options.port)).await?;
    // The tests read the port here.
    println!(
        "listening on http://localhost:{}",
        listener.local_addr()?.port()
    );
    let service = app::router(app, &options).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            let _ = tokio::signal::ctrl_c().await;
            // What would go on for as long as somebody looks ends now.
            let _ = end.send(true);
        })
        .await?;
    Ok(())
}
