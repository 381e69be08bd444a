//! Cache-aside in front of an HTTP API that is slow, and down for a while.
//!
//! `cargo run --example http_cache_aside`
//!
//! The API runs in a thread of this process, on a port of this machine; its answers hold for a
//! minute (`max-age=60`). The connections are real, and so are the milliseconds that each call took.
//! The clock of the cache is moved by hand, so that an hour passes in a second. What is said to
//! happen is checked, and the example fails if it did not.

#[path = "http_cache_aside/api.rs"]
mod api;
#[path = "http_cache_aside/http.rs"]
mod http;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use api::{Api, State};
use haybox::{Cache, Freshness, Loaded, MockClock, ReadThrough};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut story = Story::begin()?;
    println!(" clock  a call took  requests  answer");

    story.tell("a thousand callers at once, and nothing is cached: one request");
    story.expect_of(1_000, 1, Some("1 EUR = 1.10 USD"))?;
    story.tell("the next thousand get it out of the cache");
    story.expect_of(1_000, 0, Some("1 EUR = 1.10 USD"))?;

    story.pass(MINUTE);
    story.tell("max-age is over: the API is shown the ETag and says 304, which takes no effort");
    story.expect_of(1, 1, Some("1 EUR = 1.10 USD"))?;

    story.pass(MINUTE);
    story.state.rate.store(12, SeqCst);
    story.tell("max-age is over again, and the rate has changed");
    story.expect_of(1, 1, Some("1 EUR = 1.12 USD"))?;

    story.api = None;
    story.pass(MINUTE);
    story.tell("the API is killed, and max-age is over: the stale answer is served");
    story.expect_of(1_000, 0, Some("1 EUR = 1.12 USD"))?;
    story.pass(10 * MINUTE);
    story.tell("still so, for as long as stale_if_error says");
    story.expect_of(1_000, 0, Some("1 EUR = 1.12 USD"))?;

    story.state.rate.store(13, SeqCst);
    story.api = Some(Api::start(story.address.port(), Arc::clone(&story.state))?);
    story.pass(RETRY_AFTER);
    story.tell("the API is back: fresh again");
    story.expect_of(1_000, 1, Some("1 EUR = 1.13 USD"))?;

    story.api = None;
    story.pass(2 * HOUR);
    story.tell("killed for good: after an hour nothing is better than something so old");
    story.expect_of(1, 0, None)?;

    let stats = story.rates.cache().stats();
    println!(
        "\n{} calls made {} requests; {} loads failed, and {} calls got a stale answer.",
        story.calls,
        story.state.requests.load(SeqCst),
        stats.load_failures,
        stats.stale_served
    );
    Ok(())
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// An answer of the API and what it is called there.
#[derive(Clone)]
struct Rate {
    text: String,
    etag: String,
}

/// The cache, with the API as its loader.
fn rates(
    api: SocketAddr,
    time: &MockClock,
) -> Result<ReadThrough<String, Arc<Rate>, io::Error>, Failure> {
    let cache: Cache<String, Arc<Rate>> = Cache::builder()
        .max_entries(1_000)
        .freshness(
            Freshness::new()
                .stale_if_error(HOUR)
                .retry_after(RETRY_AFTER),
        )
        .clock(time.clock())
        .build()?;
    Ok(
        cache.read_through_revalidating(move |path: &String, old: Option<&Arc<Rate>>| {
            let answer = http::get(api, path, old.map(|old| old.etag.as_str()))?;
            let loaded = match answer.status {
                200 => Loaded::new(Arc::new(Rate {
                    text: answer.body,
                    etag: answer.etag,
                })),
                304 => Loaded::not_modified(),
                404 => Loaded::absent(),
                status => return Err(io::Error::other(format!("the API answered {status}"))),
            };
            Ok(loaded.ttl(answer.max_age))
        }),
    )
}

/// The API, the cache before it, and the time that has passed for the cache.
struct Story {
    state: Arc<State>,
    api: Option<Api>,
    address: SocketAddr,
    rates: ReadThrough<String, Arc<Rate>, io::Error>,
    time: MockClock,
    passed: Duration,
    calls: usize,
}

impl Story {
    fn begin() -> Result<Self, Failure> {
        let state = Arc::new(State::default());
        state.rate.store(10, SeqCst);
        let api = Api::start(0, Arc::clone(&state))?;
        let time = MockClock::new();
        Ok(Story {
            address: api.address,
            rates: rates(api.address, &time)?,
            api: Some(api),
            state,
            time,
            passed: Duration::ZERO,
            calls: 0,
        })
    }

    fn pass(&mut self, time: Duration) {
        self.time.advance(time);
        self.passed += time;
    }

    fn tell(&self, what: &str) {
        println!("\n{what}");
    }

    /// Asks from so many threads at once, and checks how many requests that makes and what all of
    /// them get, where `None` is an error.
    fn expect_of(
        &mut self,
        callers: usize,
        requests: u32,
        text: Option<&str>,
    ) -> Result<(), Failure> {
        let before = self.state.requests.load(SeqCst);
        let begin = Instant::now();
        let answers = self.ask(callers);
        let took = begin.elapsed();
        let made = self.state.requests.load(SeqCst) - before;
        self.calls += callers;
        let [minutes, seconds] = [self.passed.as_secs() / 60, self.passed.as_secs() % 60];
        let answer = answers[0]
            .as_ref()
            .map_or_else(|error| error.clone(), String::clone);
        println!(
            "{minutes:>3}:{seconds:02}  {:>8} ms  {made:>8}  {answer}",
            took.as_millis()
        );
        if made != requests {
            return Err(format!("{requests} requests were expected, not {made}").into());
        }
        let is_expected = |answer: &Result<String, String>| answer.as_deref().ok() == text;
        match answers.iter().find(|answer| !is_expected(answer)) {
            Some(other) => Err(format!("{text:?} was expected, not {other:?}").into()),
            None => Ok(()),
        }
    }

    fn ask(&self, callers: usize) -> Vec<Result<String, String>> {
        let call = || match self.rates.get("/rates/eur-usd") {
            Ok(Some(rate)) => Ok(rate.text.clone()),
            Ok(None) => Err("there is no such rate".to_string()),
            Err(error) => Err(error.to_string()),
        };
        thread::scope(|scope| {
            let callers: Vec<_> = (0..callers).map(|_| scope.spawn(call)).collect();
            let join =
                |caller: thread::ScopedJoinHandle<_>| caller.join().expect("no caller panics");
            callers.into_iter().map(join).collect()
        })
    }
}
