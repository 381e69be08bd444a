//! Many connections that each go round their part of the sessions, and note how long answers take.

use crate::{Error, Load};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// What a run has shown.
pub struct Run {
    pub rate: f64,
    pub p50: Duration,
    pub p99: Duration,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, p50, p99 } = self;
        write!(f, "{rate:.0} requests/s, p50 {p50:.2?}, p99 {p99:.2?}")
    }
}

/// Opens all sessions, then measures.
pub async fn run(address: SocketAddr, load: Load, has_sessions: bool) -> Result<Run, Error> {
    let (each, requests) = (
        load.sessions / load.connections,
        load.requests / load.connections,
    );
    let opening =
        (0..load.connections).map(|_| tokio::spawn(Visitor::open(address, each, has_sessions)));
    let mut visitors = Vec::new();
    for opening in opening.collect::<Vec<_>>() {
        visitors.push(opening.await??);
    }
    let start = Instant::now();
    let visits = visitors
        .into_iter()
        .map(|visitor| tokio::spawn(visitor.visit(requests)));
    let mut times = Vec::new();
    for visits in visits.collect::<Vec<_>>() {
        times.extend(visits.await??);
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Run {
        rate,
        p50: at(0.5),
        p99: at(0.99),
    })
}

/// A connection, and the cookies of the sessions that it visits in turn.
struct Visitor {
    stream: BufStream<TcpStream>,
    cookies: Vec<String>,
}

impl Visitor {
    async fn open(address: SocketAddr, sessions: usize, has_sessions: bool) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut own = Self {
            stream: BufStream::new(stream),
            cookies: Vec::new(),
        };
        for _ in 0..sessions {
            let cookie = own.request("").await?.cookie;
            if has_sessions != cookie.is_some() {
                return Err("a new session has a cookie, and without a store there is none".into());
            }
            own.cookies.push(cookie.unwrap_or_default());
        }
        Ok(own)
    }

    /// Each session's visits are counted on the way: no store may lose one.
    async fn visit(mut self, requests: usize) -> Result<Vec<Duration>, Error> {
        let mut times = Vec::with_capacity(requests);
        for number in 0..requests {
            let cookie = self.cookies[number % self.cookies.len()].clone();
            let start = Instant::now();
            let visits = self.request(&cookie).await?.body;
            times.push(start.elapsed());
            let expected = 2 + number / self.cookies.len();
            if !cookie.is_empty() && visits != expected.to_string() {
                return Err(format!("visit {expected} was told that it is visit {visits}").into());
            }
        }
        Ok(times)
    }

    async fn request(&mut self, cookie: &str) -> Result<Answer, Error> {
        let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\ncookie: {cookie}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Answer, Error> {
        let (mut cookie, mut length, mut line) = (None, 0, String::new());
        self.stream.read_line(&mut line).await?;
        if !line.starts_with("HTTP/1.1 200") {
            return Err(format!("the answer is {line:?}").into());
        }
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            match name {
                "set-cookie" => cookie = value.split(';').next().map(str::to_owned),
                "content-length" => length = value.parse()?,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let body = String::from_utf8(body)?;
        Ok(Answer { cookie, body })
    }
}

struct Answer {
    cookie: Option<String>,
    body: String,
}
