//! A Redis of our own, for as long as this program runs.

use crate::Error;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tower_sessions_redis_store::fred::prelude::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// A server on loopback that writes no files.
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    pub fn start() -> Result<Self, Error> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server does not start: {error}"))?;
        Ok(Self { child, port })
    }

    /// As many connections as a web server of two cores would have.
    pub async fn pool(&self) -> Result<Pool, Error> {
        timeout(PATIENCE, self.listens()).await?;
        let config = Config::from_url(&format!("redis://127.0.0.1:{}", self.port))?;
        let reconnect = ReconnectPolicy::new_constant(1_000, 20);
        let pool = Pool::new(config, None, None, Some(reconnect), 4)?;
        pool.connect();
        timeout(PATIENCE, pool.wait_for_connect()).await??;
        Ok(pool)
    }

    async fn listens(&self) {
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
