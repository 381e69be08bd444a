//! A client that asks as fast as it was told, over one connection, in the plainest HTTP.

use crate::Result;
use crate::server::PRODUCTS;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What a user got.
pub struct Report {
    pub user: &'static str,
    pub allowed: u32,
    pub refused: u32,
}

struct Answer {
    status: u16,
    /// The lines about the limit.
    told: Vec<String>,
}

/// How many answers of a user are printed.
const SHOWN: u32 = 1;

pub async fn hammer(
    address: SocketAddr,
    user: &'static str,
    pause: Duration,
    lasts: Duration,
) -> Result<Report> {
    let mut connection = BufReader::new(TcpStream::connect(address).await?);
    let (mut report, end) = (
        Report {
            user,
            allowed: 0,
            refused: 0,
        },
        Instant::now() + lasts,
    );
    for turn in 0.. {
        if Instant::now() >= end {
            break;
        }
        let answer = ask(&mut connection, user, turn % PRODUCTS).await?;
        let count = match answer.status {
            200 => &mut report.allowed,
            429 => &mut report.refused,
            other => return Err(format!("{user} was answered {other}").into()),
        };
        *count += 1;
        if *count <= SHOWN {
            println!("{user}: {} {}", answer.status, answer.told.join(", "));
        }
        tokio::time::sleep(pause).await;
    }
    Ok(report)
}

async fn ask(connection: &mut BufReader<TcpStream>, user: &str, number: u32) -> Result<Answer> {
    let request =
        format!("GET /products/{number} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {user}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let status = line(connection).await?;
    let status = status.split(' ').nth(1).unwrap_or("").parse()?;
    let (mut told, mut length) = (Vec::new(), 0);
    loop {
        let header = line(connection).await?;
        if header.is_empty() {
            break;
        }
        if let Some(bytes) = header.strip_prefix("content-length: ") {
            length = bytes.parse()?;
        }
        if header.starts_with("ratelimit") || header.starts_with("retry-after") {
            told.push(header);
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    Ok(Answer { status, told })
}

async fn line(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line).await? == 0 {
        return Err("the server hung up".into());
    }
    Ok(line.trim_end().to_owned())
}
