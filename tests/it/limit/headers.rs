//! The layer for HTTP services.

use super::on_mock;
use crate::common::SECOND;
use crate::loading::block_on;
use haybox::MockClock;
use haybox::limit::{Limiter, Quota, RateLimitLayer};
use http::{Request, Response, StatusCode};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Says how often it was asked.
#[derive(Clone, Default)]
struct Counts(std::rc::Rc<Cell<u32>>);

impl Service<Request<()>> for Counts {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        self.0.set(self.0.get() + 1);
        ready(Ok(Response::new("served".to_owned())))
    }
}

fn key_of(request: &Request<()>) -> Option<u32> {
    request.uri().path().strip_prefix('/')?.parse().ok()
}

type Limited<S> = (S, Counts, MockClock);

fn limited(quota: Quota) -> Limited<impl Service<Request<()>, Response = Response<String>>> {
    let (limiter, time): (Limiter<u32>, _) = on_mock(quota);
    let served = Counts::default();
    let service = RateLimitLayer::new(limiter, key_of).layer(served.clone());
    (service, served, time)
}

fn ask(
    service: &mut impl Service<Request<()>, Response = Response<String>>,
    path: &str,
) -> Response<String> {
    let request = Request::get(path).body(()).unwrap();
    block_on(service.call(request)).unwrap_or_else(|_| unreachable!("it never fails"))
}

fn headers(response: &Response<String>) -> Vec<(&str, &str)> {
    let headers = response.headers().iter();
    headers
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect()
}

#[test]
fn each_answer_says_what_is_left_and_a_refusal_when_to_come_back() {
    let (mut service, served, time) = limited(Quota::per_second(10).burst(25));
    let first = ask(&mut service, "/7");
    assert_eq!(
        (first.status(), first.body().as_str()),
        (StatusCode::OK, "served")
    );
    let expected = [
        ("ratelimit-policy", "\"default\";q=25;w=3"),
        ("ratelimit", "\"default\";r=24;t=1"),
        ("x-ratelimit-limit", "25"),
        ("x-ratelimit-remaining", "24"),
        ("x-ratelimit-reset", "1"),
    ];
    assert_eq!(headers(&first), expected);
    for _ in 0..24 {
        assert_eq!(ask(&mut service, "/7").status(), StatusCode::OK);
    }
    let refused = ask(&mut service, "/7");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!((refused.body().as_str(), served.0.get()), ("", 25));
    let said = headers(&refused);
    assert!(said.contains(&("retry-after", "1")), "rounded up: {said:?}");
    assert!(
        said.contains(&("ratelimit", "\"default\";r=0;t=3")),
        "{said:?}"
    );
    assert_eq!(ask(&mut service, "/8").status(), StatusCode::OK);
    time.advance(SECOND);
    assert_eq!(ask(&mut service, "/7").status(), StatusCode::OK);
}

/// By address around, and by customer within, as of a service that has both.
#[test]
fn layers_upon_each_other_list_their_limits_and_sum_up_the_one_that_counts() {
    let (outer, time): (Limiter<u32>, _) = on_mock(Quota::per_second(1).burst(3));
    let inner = Limiter::<u32>::builder(Quota::per_hour(1).burst(5));
    let inner = inner.clock(time.clock()).build().unwrap();
    let inner = RateLimitLayer::new(inner, |_: &Request<()>| Some(1)).policy_name("customer");
    let outer = RateLimitLayer::new(outer, key_of).policy_name("address");
    let mut service = outer.layer(inner.layer(Counts::default()));
    let first = ask(&mut service, "/7");
    let expected = [
        ("ratelimit-policy", "\"customer\";q=5;w=18000"),
        ("ratelimit-policy", "\"address\";q=3;w=3"),
        ("ratelimit", "\"customer\";r=4;t=3600"),
        ("ratelimit", "\"address\";r=2;t=1"),
        // Of the address less remains.
        ("x-ratelimit-limit", "3"),
        ("x-ratelimit-remaining", "2"),
        ("x-ratelimit-reset", "1"),
    ];
    assert_eq!(headers(&first), expected);
    for path in ["/8", "/9", "/10", "/11"] {
        assert_eq!(ask(&mut service, path).status(), StatusCode::OK);
    }
    let refused_within = ask(&mut service, "/12");
    let said = headers(&refused_within);
    assert_eq!(refused_within.status(), StatusCode::TOO_MANY_REQUESTS);
    for expected in [
        ("ratelimit", "\"customer\";r=0;t=18000"),
        ("ratelimit", "\"address\";r=2;t=1"),
        ("x-ratelimit-limit", "5"),
        ("x-ratelimit-remaining", "0"),
        ("retry-after", "3600"),
    ] {
        assert!(said.contains(&expected), "{expected:?} in {said:?}");
    }
    for _ in 0..2 {
        ask(&mut service, "/7");
    }
    let refused_around = ask(&mut service, "/7");
    let said = headers(&refused_around);
    assert!(said.contains(&("retry-after", "1")), "{said:?}");
    assert_eq!(
        said.iter().filter(|(name, _)| *name == "ratelimit").count(),
        1
    );
}

#[test]
fn a_policy_has_a_name_that_a_header_can_say() {
    let layer = || RateLimitLayer::new(Limiter::<u32>::new(Quota::per_second(1)).unwrap(), key_of);
    let _ = layer().policy_name("customer (monthly) #7");
    for name in ["", "two\nlines", "\"quoted\"", "ä", "back\\slash"] {
        let said = crate::common::panic_of(|| drop(layer().policy_name(name)));
        assert!(said.contains("goes into a header"), "{said}");
    }
}

#[test]
fn whole_seconds_are_told_as_they_are() {
    let (mut service, ..) = limited(Quota::sliding_window(1, 2 * SECOND));
    let first = ask(&mut service, "/7");
    let said = &headers(&first)[..2];
    let expected = ["\"default\";q=1;w=2", "\"default\";r=0;t=2"];
    assert!(
        said.iter().map(|(_, value)| *value).eq(expected),
        "{said:?}"
    );
}

#[test]
fn a_request_without_a_key_is_not_limited() {
    let (mut service, ..) = limited(Quota::sliding_window(1, SECOND));
    for _ in 0..5 {
        let response = ask(&mut service, "/health");
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers().is_empty());
    }
}

#[test]
fn what_retry_after_says_is_enough() {
    for quota in [Quota::per_hour(1), Quota::sliding_window(1, 90 * SECOND)] {
        let (mut service, _, time) = limited(quota);
        assert_eq!(ask(&mut service, "/1").status(), StatusCode::OK);
        time.advance(SECOND / 2);
        let refused = ask(&mut service, "/1");
        let told = refused.headers()["retry-after"].to_str().unwrap();
        time.advance(SECOND * told.parse::<u32>().unwrap());
        assert_eq!(ask(&mut service, "/1").status(), StatusCode::OK);
    }
}
