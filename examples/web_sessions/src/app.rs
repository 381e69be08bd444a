//! What the app consists of.

use crate::options::Options;
use crate::tokens::Tokens;
use crate::users::Users;
use crate::{Error, account, debug, devices, page, peers, storage, tokens};
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use haybox::Clock;
use haybox::session::Sessions;
use tokio::sync::watch;
use tower_sessions::cookie::SameSite;
use tower_sessions::{Expiry, SessionManagerLayer};

/// A handle to everything that outlives a request.
#[derive(Clone)]
pub struct App {
    pub sessions: Sessions,
    pub users: Users,
    pub tokens: Tokens,
    pub meter: debug::Meter,
    pub peers: peers::Peers,
    /// Becomes true when the server is to end.
    pub ends: watch::Receiver<bool>,
}

impl App {
    pub fn open(
        options: &Options,
        clock: Clock,
        ends: watch::Receiver<bool>,
    ) -> Result<Self, Error> {
        if let Some(folder) = &options.data {
            storage::make(folder)?;
        }
        let folder = options.data.as_deref();
        Ok(Self {
            sessions: storage::sessions(clock.clone(), folder)?,
            users: Users::open(folder)?,
            tokens: Tokens::open(clock, folder)?,
            meter: debug::Meter::default(),
            peers: peers::new()?,
            ends,
        })
    }
}

pub fn router(app: App, options: &Options) -> Router {
    let limited = middleware::from_fn_with_state(app.clone(), peers::limit);
    let sign_up = post(account::sign_up).layer(limited.clone());
    let log_in = post(account::log_in).layer(limited.clone());
    let mut pages = Router::new()
        .route("/", get(account::home))
        .route("/sign-up", sign_up.get(account::sign_up_form))
        .route("/log-in", log_in.get(account::log_in_form))
        .route("/log-out", post(account::log_out))
        .route("/log-out-everywhere", post(account::log_out_everywhere))
        .route("/devices", get(devices::list))
        .route("/devices/log-out", post(devices::log_out))
        .route("/devices/log-out-others", post(devices::log_out_others))
        .layer(session_layer(app.sessions.clone()));
    if options.debug_page {
        debug::start(&app);
        pages = pages.merge(debug::routes());
    }
    pages
        .merge(tokens::routes(post(tokens::token).layer(limited)))
        .route("/style.css", get(style))
        .fallback(page::not_found)
        .layer(middleware::from_fn(headers))
        .layer(middleware::from_fn_with_state(app.clone(), debug::count))
        .with_state(app)
}

/// Five lines are all that a store of sessions takes; the rest is what its cookie may do.
fn session_layer(sessions: Sessions) -> SessionManagerLayer<Sessions> {
    SessionManagerLayer::new(sessions)
        // This prefix has the browser refuse the cookie unless it is `Secure`, for this host alone
        // and for all its paths.
        .with_name("__Host-session")
        .with_path("/")
        .with_secure(true)
        .with_http_only(true)
        .with_same_site(SameSite::Lax)
        // The store decides when a session ends, and the cookie need not be written at each visit.
        .with_expiry(Expiry::OnSessionEnd)
}

async fn style() -> Response {
    let style = include_str!("style.css");
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], style).into_response()
}

/// Nothing from elsewhere runs in these pages, nobody puts them into a frame, and what they show to
/// one person is kept by no cache on the way.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let fixed = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
             img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    let caching = response.headers_mut().entry(header::CACHE_CONTROL);
    caching.or_insert(HeaderValue::from_static("no-store"));
    response
}
