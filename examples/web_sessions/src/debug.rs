//! A page that shows the sessions' cache at work. Off unless the command line asks for it, since it
//! is shown to anybody.

use crate::app::App;
use crate::charts::Chart;
use crate::page::page;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, stream};
use haybox::session::SessionStats;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::select;
use tokio::time::{MissedTickBehavior, interval};

const SECONDS: usize = 300;
const SECOND: Duration = Duration::from_secs(1);

/// What was counted in each of the last seconds.
#[derive(Clone, Default)]
pub struct Meter(Arc<Counted>);

#[derive(Default)]
struct Counted {
    requests: AtomicU64,
    seconds: Mutex<VecDeque<Second>>,
}

#[derive(Clone, Copy)]
struct Second {
    requests: f64,
    hit_ratio: f64,
    sessions: f64,
    expired: f64,
}

/// Counts a request.
pub async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    app.meter.0.requests.fetch_add(1, Relaxed);
    next.run(request).await
}

/// Looks at the counts once a second.
pub fn start(app: &App) {
    let app = app.clone();
    tokio::spawn(async move {
        let mut ticks = interval(SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut requests, mut before) = (0, SessionStats::default());
        loop {
            ticks.tick().await;
            let (all, now) = (app.meter.0.requests.load(Relaxed), app.sessions.stats());
            app.meter.0.push(Second {
                requests: (all - requests) as f64,
                hit_ratio: hit_ratio(before, now),
                sessions: now.sessions as f64,
                expired: (now.expired - before.expired) as f64,
            });
            (requests, before) = (all, now);
        }
    });
}

/// In percent; a second without a look-up has missed nothing.
fn hit_ratio(before: SessionStats, now: SessionStats) -> f64 {
    let (found, missed) = (now.found - before.found, now.not_found - before.not_found);
    match found + missed {
        0 => 100.0,
        all => 100.0 * found as f64 / all as f64,
    }
}

impl Counted {
    fn push(&self, second: Second) {
        let mut seconds = self.seconds.lock().expect("nobody panics with the seconds");
        if seconds.len() == SECONDS {
            seconds.pop_front();
        }
        seconds.push_back(second);
    }

    fn values(&self, of: impl Fn(&Second) -> f64) -> Vec<f64> {
        let seconds = self.seconds.lock().expect("nobody panics with the seconds");
        seconds.iter().map(of).collect()
    }
}

pub fn routes() -> Router<App> {
    Router::new()
        .route("/debug/cache", get(show))
        .route("/debug/cache/live", get(live))
        .route("/debug/live.js", get(script))
}

async fn show(State(app): State<App>) -> Html<String> {
    let body = format!(
        r#"<section class="card wide"><h1>The sessions' cache</h1><div id="live">{}</div></section>
<script src="/debug/live.js" defer></script>"#,
        charts(&app)
    );
    page("Cache", None, None, body)
}

fn charts(app: &App) -> String {
    let counted = &app.meter.0;
    let charts = [
        (
            "Hit ratio",
            " %",
            100.0,
            counted.values(|second| second.hit_ratio),
        ),
        (
            "Sessions",
            "",
            5.0,
            counted.values(|second| second.sessions),
        ),
        (
            "Expirations",
            "/s",
            5.0,
            counted.values(|second| second.expired),
        ),
        (
            "Requests",
            "/s",
            5.0,
            counted.values(|second| second.requests),
        ),
    ];
    let figures: String = charts
        .iter()
        .map(|(title, unit, top, values)| {
            let chart = Chart {
                title,
                unit,
                values,
                top: *top,
            };
            chart.svg(SECONDS)
        })
        .collect();
    let stats = app.sessions.stats();
    let counts = [
        ("found", stats.found),
        ("not found", stats.not_found),
        ("started", stats.started),
        ("ended", stats.ended),
        ("expired", stats.expired),
        ("evicted", stats.evicted),
        ("over limit", stats.over_limit),
        ("too late", stats.too_late),
        ("bytes", app.sessions.cache().memory()),
    ];
    let counts: String = counts
        .iter()
        .map(|(name, count)| format!("<div><dt>{name}</dt><dd>{count}</dd></div>"))
        .collect();
    format!(r#"<div class="charts">{figures}</div><dl class="counts">{counts}</dl>"#)
}

async fn live(State(app): State<App>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(events(app)).keep_alive(KeepAlive::default())
}

/// The charts once a second, until the server is to end: it waits for all answers to end before.
fn events(app: App) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut ticks = interval(SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((app, ticks), |(mut app, mut ticks)| async move {
        let is_end = select! {
            biased;
            _ = app.ends.wait_for(|ends| *ends) => true,
            _ = ticks.tick() => false,
        };
        let event = Event::default().data(charts(&app));
        (!is_end).then_some((Ok(event), (app, ticks)))
    })
}

async fn script() -> impl IntoResponse {
    let script = r#""use strict";
const live = document.getElementById("live");
new EventSource("/debug/cache/live").onmessage = (event) => {
  live.innerHTML = event.data;
  live.dataset.updates = Number(live.dataset.updates || 0) + 1;
};
"#;
    (
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")],
        script,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use futures_util::StreamExt;
    use haybox::Clock;
    use tokio::sync::watch;

    #[tokio::test]
    async fn the_charts_end_when_the_server_does() {
        let options = Options::of(std::iter::empty()).unwrap();
        let (end, ends) = watch::channel(false);
        let app = App::open(&options, Clock::real(), ends).unwrap();
        let mut events = std::pin::pin!(events(app));
        assert!(events.next().await.is_some());
        end.send(true).unwrap();
        assert!(events.next().await.is_none());
    }
}
