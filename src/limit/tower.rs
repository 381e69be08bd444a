//! A `tower` layer that limits HTTP requests and says so in the headers.

use super::decision::Decision;
use super::limiter::Limiter;
use crate::hash::DefaultHashBuilder;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tower_layer::Layer;
use tower_service::Service;

/// Limits the requests of a service, each as one call of a [`Limiter`]. Feature `tower`.
///
/// The key of a request is what a function makes of it; a request without a key is not limited.
/// What is not allowed is answered with `429 Too Many Requests` (RFC 6585) and an empty body, and
/// does not reach the service. Every answer to a request with a key has these headers:
///
/// | header | source | value |
/// | --- | --- | --- |
/// | `RateLimit-Policy` | draft-ietf-httpapi-ratelimit-headers-10 | `"default";q=30;w=3`: the [name](Self::policy_name), the most that is free at once, and the seconds in which it comes back |
/// | `RateLimit` | the same | `"default";r=12;t=2`: what remains, and the seconds until all is back |
/// | `X-RateLimit-Limit`, `-Remaining`, `-Reset` | habit, no standard | the same `q`, `r` and `t`, where `t` counts seconds from now, as the draft's early versions had it |
/// | `Retry-After`, with a 429 | RFC 9110, section 10.2.3 | the seconds until the same request would be allowed |
///
/// Seconds are rounded up, so who waits for as long as he is told is not too early. Headers of
/// these names that the service sets itself are overwritten.
///
/// Layers may lie upon each other, one for each address and one for each customer: then the first two
/// headers list the limits of all, the innermost first, for which they should have
/// [names](Self::policy_name), and the others are those of the limit that has refused, or else of the
/// one with the least that remains.
///
/// The address that a connection comes from is no good key behind a proxy, and a header that a
/// client can set is no key at all: take the one that your own proxy sets.
///
/// ```
/// use haybox::limit::{Limiter, Quota, RateLimitLayer};
/// use http::Request;
///
/// let limiter = Limiter::<String>::new(Quota::per_second(10).burst(30))?;
/// let layer = RateLimitLayer::new(limiter, |request: &Request<()>| {
///     let user = request.headers().get("x-authenticated-user")?;
///     Some(user.to_str().ok()?.to_owned())
/// });
/// # drop(layer);
/// # Ok::<(), haybox::BuildError>(())
/// ```
///
/// With axum, whose requests have a type of their own, and by address, where no proxy is in
/// between:
///
/// ```text
/// let layer = RateLimitLayer::new(limiter, |request: &axum::extract::Request| {
///     request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.ip())
/// });
/// let app = Router::new().route("/", get(page)).layer(layer);
/// let service = app.into_make_service_with_connect_info::<SocketAddr>();
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub struct RateLimitLayer<K, F, S = DefaultHashBuilder> {
    limiter: Limiter<K, S>,
    key_of: F,
    policy: Policy,
}

impl<K, F, S> RateLimitLayer<K, F, S> {
    /// A layer that limits each request by the key that `key_of` makes of it.
    pub fn new(limiter: Limiter<K, S>, key_of: F) -> Self {
        let policy = Policy::of(&limiter);
        Self {
            limiter,
            key_of,
            policy,
        }
    }

    /// What the limit is called in the headers. Default: `default`.
    ///
    /// ```
    /// # use haybox::limit::{Limiter, Quota, RateLimitLayer};
    /// # use http::Request;
    /// let limiter = Limiter::<u32>::new(Quota::per_minute(600))?;
    /// let layer = RateLimitLayer::new(limiter, |request: &Request<()>| {
    ///     request.extensions().get::<u32>().copied()
    /// });
    /// let layer = layer.policy_name("customer"); // RateLimit: "customer";r=599;t=1
    /// # drop(layer);
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    ///
    /// # Panics
    /// If a header cannot say it: it is for ASCII letters, digits, spaces and punctuation, at least one
    /// of them, without `"` and `\`.
    #[track_caller]
    #[must_use]
    pub fn policy_name(mut self, name: &'static str) -> Self {
        let is_allowed = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        assert!(
            !name.is_empty() && name.bytes().all(is_allowed),
            "a policy of a rate limit cannot be called {name:?}: it goes into a header"
        );
        self.policy.name = name;
        self
    }
}

impl<K, F: Clone, S: Clone> Clone for RateLimitLayer<K, F, S> {
    fn clone(&self) -> Self {
        Self {
            limiter: self.limiter.clone(),
            key_of: self.key_of.clone(),
            policy: self.policy,
        }
    }
}

impl<K, F, S> fmt::Debug for RateLimitLayer<K, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("limiter", &self.limiter)
            .finish_non_exhaustive()
    }
}

impl<I, K, F: Clone, S: Clone> Layer<I> for RateLimitLayer<K, F, S> {
    type Service = RateLimit<I, K, F, S>;

    fn layer(&self, inner: I) -> Self::Service {
        RateLimit {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service whose requests are limited. From [`RateLimitLayer`].
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub struct RateLimit<I, K, F, S = DefaultHashBuilder> {
    inner: I,
    layer: RateLimitLayer<K, F, S>,
}

impl<I: Clone, K, F: Clone, S: Clone> Clone for RateLimit<I, K, F, S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<I, K, F, S> fmt::Debug for RateLimit<I, K, F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

impl<I, K, F, S, B, R> Service<Request<B>> for RateLimit<I, K, F, S>
where
    I: Service<Request<B>, Response = Response<R>>,
    K: Hash + Eq + Clone,
    F: Fn(&Request<B>) -> Option<K>,
    S: BuildHasher,
    R: Default,
{
    type Response = Response<R>;
    type Error = I::Error;
    type Future = RateLimited<I::Future, R>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let RateLimitLayer {
            limiter,
            key_of,
            policy,
        } = &self.layer;
        let decision = key_of(&request).map(|key| limiter.check(&key));
        if let Some(refused) = decision.filter(|decision| !decision.is_allowed()) {
            let mut response = Response::new(R::default());
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            policy.tell(&refused, &mut response);
            return RateLimited(State::Refused(Some(response)));
        }
        RateLimited(State::Served {
            // Boxed: safe code cannot pin a field.
            future: Box::pin(self.inner.call(request)),
            told: decision.map(|decision| (*policy, decision)),
        })
    }
}

/// The answer to a request that is limited. From [`RateLimit`].
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
#[must_use = "futures do nothing unless polled"]
pub struct RateLimited<F, R>(State<F, R>);

enum State<F, R> {
    /// None once it was given out.
    Refused(Option<Response<R>>),
    Served {
        future: Pin<Box<F>>,
        told: Option<(Policy, Decision)>,
    },
}

// The future is pinned in its box, and nothing else is.
impl<F, R> Unpin for RateLimited<F, R> {}

impl<F, R> fmt::Debug for RateLimited<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_refused = matches!(self.0, State::Refused(_));
        f.debug_struct("RateLimited")
            .field("is_refused", &is_refused)
            .finish_non_exhaustive()
    }
}

impl<F, R, E> Future for RateLimited<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Refused(response) => {
                let response = response.take();
                Poll::Ready(Ok(
                    response.expect("a future is not polled after it was ready")
                ))
            }
            State::Served { future, told } => {
                let mut response = ready!(future.as_mut().poll(context));
                if let (Ok(response), Some((policy, decision))) = (&mut response, told) {
                    policy.tell(decision, response);
                }
                Poll::Ready(response)
            }
        }
    }
}

/// What the headers say of a quota.
#[derive(Clone, Copy)]
struct Policy {
    name: &'static str,
    at_once: u32,
    /// In which everything comes back.
    seconds: u64,
}

impl Policy {
    fn of<K, S>(limiter: &Limiter<K, S>) -> Self {
        let quota = limiter.quota();
        Self {
            name: "default",
            at_once: quota.at_once(),
            seconds: seconds(limiter.whole_after()),
        }
    }

    fn tell<R>(self, decision: &Decision, response: &mut Response<R>) {
        let own = Told {
            is_refused: !decision.is_allowed(),
            remaining: decision.remaining(),
        };
        let inner = response.extensions().get::<Told>().copied();
        let headers = response.headers_mut();
        self.list(decision, inner.is_some(), headers);
        if inner.is_none_or(|inner| own.is_tighter_than(inner)) {
            self.sum_up(decision, headers);
            response.extensions_mut().insert(own);
        }
    }

    /// The headers that may list several limits.
    fn list(self, decision: &Decision, is_further: bool, headers: &mut HeaderMap) {
        let (remaining, reset) = (decision.remaining(), seconds(decision.reset_after()));
        let (name, quota, window) = (self.name, self.at_once, self.seconds);
        let mut set = |header: &'static str, value: String| {
            let (header, value) = (HeaderName::from_static(header), text(&value));
            if is_further {
                headers.append(header, value);
            } else {
                headers.insert(header, value);
            }
        };
        set(
            "ratelimit-policy",
            format!("\"{name}\";q={quota};w={window}"),
        );
        set("ratelimit", format!("\"{name}\";r={remaining};t={reset}"));
    }

    /// The headers that know of one limit.
    fn sum_up(self, decision: &Decision, headers: &mut HeaderMap) {
        let mut set = |header: &'static str, value: HeaderValue| {
            headers.insert(HeaderName::from_static(header), value);
        };
        set("x-ratelimit-limit", self.at_once.into());
        set("x-ratelimit-remaining", decision.remaining().into());
        set("x-ratelimit-reset", seconds(decision.reset_after()).into());
        if let Some(retry_after) = decision.retry_after() {
            headers.insert(RETRY_AFTER, seconds(retry_after).into());
        }
    }
}

/// What a layer has told of an answer, for those around it.
#[derive(Clone, Copy)]
struct Told {
    is_refused: bool,
    remaining: u32,
}

impl Told {
    fn is_tighter_than(self, inner: Self) -> bool {
        !inner.is_refused && (self.is_refused || self.remaining < inner.remaining)
    }
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("digits and punctuation are allowed in a header")
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
