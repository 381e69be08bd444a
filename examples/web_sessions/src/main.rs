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
mod storage;
mod tokens;
mod users;

use options::Options;
use tokio::net::TcpListener;

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
    let app = app::App::open(&options, clock)?;
    let listener = TcpListener::bind((options.address.as_str(), options.port)).await?;
    // The tests read the port here.
    println!(
        "listening on http://localhost:{}",
        listener.local_addr()?.port()
    );
    axum::serve(listener, app::router(app, &options))
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    Ok(())
}
