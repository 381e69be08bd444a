//! A web page that changes while you look at it: what one visitor does, all others see at once.
//!
//! ```text
//! cd examples/live_updates
//! cargo run --release                    # then open http://127.0.0.1:8080 in two windows
//! cargo run --release -- --seconds 20    # stops by itself; --port 0 takes any free port
//! ```
//!
//! Three parts of haybox in one process, and nothing to install: `Counters` count the likes,
//! `Presence` knows whose page is open, and a `Topic` carries every change to the open pages as
//! server-sent events. A visitor whose computer falls asleep is gone after five seconds, and one
//! whose connection is slow gets the newest state and not a backlog.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use futures_util::stream::{self, Stream};
use haybox::counter::Counters;
use haybox::presence::Presence;
use haybox::pubsub::{Bus, Slow, SubscribeOptions, Subscription, Topic};
use serde::Serialize;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;

const FOOD: [&str; 5] = ["bread", "soup", "plums", "cheese", "tea"];
const ROOM: &str = "page";
const MINUTE: Duration = Duration::from_secs(60);

/// What the page shows.
#[derive(Clone, Serialize)]
struct Board {
    likes: Vec<Likes>,
    visitors: usize,
    per_minute: i64,
}

#[derive(Clone, Serialize)]
struct Likes {
    food: &'static str,
    likes: i64,
}

struct Page {
    likes: Counters<String>,
    visitors: Presence<String, u64>,
    /// All pages share one board, so a message is a pointer.
    changes: Topic<Arc<Board>>,
    next_visitor: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = option("--port")?.unwrap_or(8080);
    let seconds = option("--seconds")?;
    let bus = Bus::new();
    let page = Arc::new(Page {
        likes: Counters::builder().window(MINUTE).build()?,
        visitors: Presence::builder()
            .timeout(Duration::from_secs(5))
            .build()?,
        changes: bus.topic("page.changes")?,
        next_visitor: AtomicU64::new(1),
    });
    tokio::spawn(tell_of_visitors(Arc::clone(&page)));

    let routes = Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/changes", get(changes))
        .route("/like/{food}", post(like))
        .with_state(page);
    let listener = TcpListener::bind(("127.0.0.1", port as u16)).await?;
    println!("open http://{} in two windows", listener.local_addr()?);
    let server = axum::serve(listener, routes).with_graceful_shutdown(async move {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => drop(tokio::signal::ctrl_c().await),
        }
        // Closing the bus ends the streams of the open pages, so that the server can stop.
        bus.close();
    });
    server.await?;
    println!("stopped");
    Ok(())
}

fn option(name: &str) -> Result<Option<u64>, Box<dyn Error>> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    match (arguments.next(), arguments.next()) {
        (Some(_), Some(value)) => Ok(Some(value.parse()?)),
        (Some(_), None) => Err(format!("{name} needs a number").into()),
        (None, _) => Ok(None),
    }
}

async fn like(State(page): State<Arc<Page>>, Path(food): Path<String>) -> impl IntoResponse {
    if !FOOD.contains(&food.as_str()) {
        return StatusCode::NOT_FOUND;
    }
    page.likes.incr(&food);
    page.changes.publish(page.board());
    StatusCode::NO_CONTENT
}

async fn changes(
    State(page): State<Arc<Page>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    // The newest board is all that matters to a page that is behind.
    let newest = SubscribeOptions::new()
        .capacity(1)
        .on_slow(Slow::DropOldest);
    let changes = page.changes.subscribe_with(newest);
    let changes = changes.expect("the options are possible");
    let visitor = Visitor {
        number: page.next_visitor.fetch_add(1, Relaxed),
        page,
    };
    visitor.page.visitors.heartbeat(ROOM, &visitor.number);
    let first = visitor.page.board();
    let states = stream::unfold((visitor, changes, Some(first)), next_board);
    Sse::new(states).keep_alive(KeepAlive::default())
}

type Watching = (Visitor, Subscription<Arc<Board>>, Option<Arc<Board>>);

/// The next thing to send: what is there already, a change, or at least the likes of the last
/// minute, which get fewer by themselves.
async fn next_board(
    (visitor, changes, first): Watching,
) -> Option<(Result<Event, Infallible>, Watching)> {
    let page = &visitor.page;
    let board = match first {
        Some(board) => board,
        None => match tokio::time::timeout(Duration::from_secs(2), changes.recv_async()).await {
            Ok(board) => board.ok()?,
            Err(_) => page.board(),
        },
    };
    page.visitors.heartbeat(ROOM, &visitor.number);
    let event = Event::default().json_data(&*board).unwrap_or_default();
    Some((Ok(event), (visitor, changes, None)))
}

/// An open page. It is dropped when the connection is closed.
struct Visitor {
    number: u64,
    page: Arc<Page>,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.page.visitors.leave(ROOM, &self.number);
    }
}

/// Whoever comes, goes or falls silent changes the board.
async fn tell_of_visitors(page: Arc<Page>) {
    let events = page.visitors.events();
    while events.recv_async().await.is_ok() {
        page.changes.publish(page.board());
    }
}

impl Page {
    fn board(&self) -> Arc<Board> {
        let likes = FOOD.map(|food| Likes {
            food,
            likes: self.likes.get(food),
        });
        let recent = FOOD.iter().map(|food| self.likes.recent(*food, MINUTE));
        Arc::new(Board {
            likes: likes.into(),
            visitors: self.visitors.count(ROOM),
            per_minute: recent.sum(),
        })
    }
}
