//! An HTTP API that takes its time, on a port of this machine.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::http::{TIMEOUT, header};

/// What the answer costs, unless it is "not modified".
const EFFORT: Duration = Duration::from_millis(200);

/// No run of the example needs so many.
const MOST_REQUESTS: u32 = 100;

/// What survives when the API is killed.
#[derive(Default)]
pub struct State {
    /// The rate that it tells; also its `ETag`.
    pub rate: AtomicU32,
    pub requests: AtomicU32,
}

/// An API that runs until it is dropped.
pub struct Api {
    pub address: SocketAddr,
    is_killed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Api {
    /// On any free port if `port` is 0.
    pub fn start(port: u16, state: Arc<State>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let is_killed = Arc::new(AtomicBool::new(false));
        let killed = Arc::clone(&is_killed);
        let serve = move || {
            for stream in listener.incoming().take(MOST_REQUESTS as usize) {
                if killed.load(SeqCst) {
                    return;
                }
                // A client that has gone away is no reason to stop.
                let _ = stream.and_then(|stream| answer(stream, &state));
            }
        };
        Ok(Api {
            address,
            is_killed,
            thread: Some(thread::spawn(serve)),
        })
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.is_killed.store(true, SeqCst);
        // The thread waits for a client: this one is the last.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request = read_head(&mut stream)?;
    state.requests.fetch_add(1, SeqCst);
    let rate = state.rate.load(SeqCst);
    let etag = format!("\"{rate}\"");
    let is_known = header(&request, "if-none-match") == Some(&etag);
    let (status, body) = if is_known {
        ("304 Not Modified", String::new())
    } else {
        thread::sleep(EFFORT);
        ("200 OK", format!("1 EUR = 1.{rate} USD"))
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nETag: {etag}\r\nCache-Control: max-age=60\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes())
}

/// Reads up to the empty line that ends a request without a body.
fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut part = [0; 512];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8 * part.len() {
        match stream.read(&mut part)? {
            0 => break,
            read => head.extend_from_slice(&part[..read]),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
