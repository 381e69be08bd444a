//! How often one place may have a password hashed: that takes 19 MiB and some 20 ms, and whoever asks
//! need not be known.
//!
//! Behind a proxy all requests come from its address. Then take the client's from the header that the
//! proxy sets, and from no other.

use crate::Error;
use crate::app::App;
use crate::page::refused;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use haybox::limit::{Limiter, Quota};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What each place has asked for lately.
pub type Peers = Limiter<IpAddr>;

pub fn new() -> Result<Peers, Error> {
    Ok(Limiter::new(Quota::per_minute(30).burst(20))?)
}

/// Answers 429 to whoever asks too often.
pub async fn limit(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let Some(time) = app.peers.check(&place(peer.ip())).retry_after() else {
        return next.run(request).await;
    };
    let seconds = time.as_secs() + 1;
    let sentence = format!("Too many attempts from your network. Try again in {seconds} s.");
    let mut response = refused(StatusCode::TOO_MANY_REQUESTS, &sentence);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, seconds.into());
    response
}

/// One subscriber has 2^64 addresses of IPv6.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_counts_as_one_place() {
        let place = |address: &str| place(address.parse().unwrap());
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:1"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:0:1::1"));
        assert_eq!(place("::ffff:192.0.2.1"), place("192.0.2.1"));
        assert_ne!(place("192.0.2.1"), place("192.0.2.2"));
    }
}
