//! As much of HTTP/1.1 as the example needs: one `GET` for each connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What the API has answered.
pub struct Answer {
    pub status: u16,
    pub etag: String,
    pub max_age: Duration,
    pub body: String,
}

/// Neither side waits longer than this for the other.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks for a path; with the `ETag` of an older answer the body comes only if there is a new one.
pub fn get(api: SocketAddr, path: &str, etag: Option<&str>) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&api, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let condition = etag.map_or_else(String::new, |etag| format!("If-None-Match: {etag}\r\n"));
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {api}\r\n{condition}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let seconds = header(head, "cache-control").and_then(|value| value.strip_prefix("max-age="));
    Some(Answer {
        status,
        etag: header(head, "etag").unwrap_or_default().to_string(),
        max_age: Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(0)),
        body: body.to_string(),
    })
}

/// The value of a header field, in a request or an answer.
pub fn header<'t>(head: &'t str, name: &str) -> Option<&'t str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(field, _)| field.eq_ignore_ascii_case(name))?;
    Some(value.trim())
}
