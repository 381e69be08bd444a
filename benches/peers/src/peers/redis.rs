//! Redis on the loopback interface, in a server of its own without persistence, so that what is
//! measured is the memory of another process. One client, which waits for each answer or sends a
//! hundred commands at a time.
//!
//! Redis bounds bytes, not entries: `maxmemory` is set to what the entries are reckoned to take
//! up, with `allkeys-lru`, which its documentation recommends for caches.

use super::{CHURN_LAG, HOUR, Options, Peer, Usage};
use crate::data::{Key, Value};
use crate::workload::Kind;
use parking_lot::Mutex;
use redis::{Client, Cmd, Connection, FromRedisValue, Msg, Pipeline};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "redis-server";

/// What it is without entries, and what an entry takes up besides the value, roughly.
const EMPTY: usize = 3 << 20;
const OVERHEAD: usize = 110;

/// A busy machine takes its time to start a server.
const LONGEST_START: Duration = Duration::from_secs(60);

/// Commands in a pipeline.
const BATCH: usize = 100;

/// The version of the server that is installed here.
pub fn version() -> Option<String> {
    let output = Command::new(PROGRAM).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="))?;
    Some(version.to_string())
}

/// A server, which ends with this.
pub struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Bounded in bytes or not.
    pub fn start(max_memory: Option<usize>) -> Result<Self, String> {
        let port = free_port().map_err(|error| format!("no free port for Redis: {error}"))?;
        // The shell ends the server when this process lets go of the shell's input, in whatever way
        // it ends itself.
        let script = format!("{PROGRAM} \"$@\" >/dev/null 2>&1 & cat; kill $!; wait");
        let process = Command::new("sh")
            .args(["-c", &script, "sh", "--port", &port.to_string()])
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--maxmemory", &max_memory.unwrap_or(0).to_string()])
            .args(["--maxmemory-policy", "allkeys-lru", "--loglevel", "warning"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{PROGRAM} cannot be started: {error}"))?;
        Ok(Self { process, port })
    }

    /// Connects, for which a server that has just started needs some attempts.
    fn connect(&self) -> Result<Connection, String> {
        let address = format!("redis://127.0.0.1:{}/", self.port);
        let client = Client::open(address).map_err(|error| error.to_string())?;
        let started = Instant::now();
        loop {
            match client.get_connection() {
                Ok(connection) => return Ok(connection),
                Err(error) if started.elapsed() > LONGEST_START => {
                    return Err(format!("no connection to {PROGRAM}: {error}"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// What the other roles ask a server for.
impl Server {
    /// A client that waits for the answer to each command.
    pub fn client(&self) -> Result<Asker, String> {
        Ok(Asker(Mutex::new(self.connect()?)))
    }

    /// A client that listens to a channel.
    pub fn subscribe(&self, channel: &str) -> Result<Subscriber, String> {
        let mut connection = self.connect()?;
        let command = redis::cmd("SUBSCRIBE").arg(channel).get_packed_command();
        // The answer says that it is subscribed; all that comes after it is messages.
        let sent = connection.send_packed_command(&command);
        let answered = sent.and_then(|()| connection.recv_response());
        answered.map_err(|error| error.to_string())?;
        Ok(Subscriber(connection))
    }
}

pub struct Asker(Mutex<Connection>);

impl Asker {
    pub fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        command.query(&mut *self.0.lock()).expect(ANSWERS)
    }
}

pub struct Subscriber(Connection);

impl Subscriber {
    pub fn receive(&mut self) -> u64 {
        let message = self.0.recv_response().ok().and_then(Msg::from_owned_value);
        message.expect(ANSWERS).get_payload().expect(ANSWERS)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // An error would say that it has ended already.
        self.process.wait().ok();
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// A client that waits for the answer to each command.
pub struct Redis {
    // Before the server, so that it is dropped before.
    connection: Mutex<Connection>,
    _server: Server,
    ttl: Duration,
}

/// Every command in here is well-formed, so only a server that has died answers with an error.
const ANSWERS: &str = "the Redis server answers";

impl Redis {
    pub fn start<V: Value>(options: Options) -> Result<Self, String> {
        let bytes = |entries: usize| EMPTY + entries * (OVERHEAD + V::HEAP);
        let server = Server::start(options.capacity.map(bytes))?;
        Ok(Self {
            connection: Mutex::new(server.connect()?),
            _server: server,
            ttl: options.ttl,
        })
    }

    fn get_many<V: Value>(&self, keys: &[impl Key]) -> Vec<Option<V>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let mut pipe = Pipeline::with_capacity(keys.len());
        for key in keys {
            pipe.cmd("GET").arg(key.bytes());
        }
        let answers: Vec<Option<Vec<u8>>> =
            pipe.query(&mut *self.connection.lock()).expect(ANSWERS);
        let parse = |answer: Option<Vec<u8>>| answer.map(|bytes| V::parse(&bytes));
        answers.into_iter().map(parse).collect()
    }

    fn insert_many<K: Key, V: Value>(&self, entries: impl IntoIterator<Item = (K, V)>) {
        let mut pipe = Pipeline::new();
        for (key, value) in entries {
            pipe.cmd("SET").arg(key.bytes()).arg(value.bytes());
            pipe.arg("PX").arg(self.ttl.as_millis() as u64).ignore();
        }
        pipe.exec(&mut *self.connection.lock()).expect(ANSWERS);
    }

    /// A number from the server's report on itself.
    fn report(&self, section: &str, name: &str) -> f64 {
        let mut command = redis::cmd("INFO");
        let report: String = command
            .arg(section)
            .query(&mut *self.connection.lock())
            .expect(ANSWERS);
        let mut lines = report.lines().filter_map(|line| line.split_once(':'));
        let number = lines.find(|(field, _)| *field == name);
        number.map_or(0.0, |(_, number)| number.trim().parse().unwrap_or(0.0))
    }

    fn usage(&self) -> Usage {
        let cpu = self.report("cpu", "used_cpu_user") + self.report("cpu", "used_cpu_sys");
        Usage {
            allocated: self.report("memory", "used_memory") as i64,
            resident: self.report("memory", "used_memory_rss") as i64,
            cpu: Duration::from_secs_f64(cpu),
        }
    }
}

impl<K: Key, V: Value> Peer<K, V> for Redis {
    fn get(&self, key: &K) -> Option<V> {
        let mut command = redis::cmd("GET");
        let answer: Option<Vec<u8>> = command
            .arg(key.bytes())
            .query(&mut *self.connection.lock())
            .expect(ANSWERS);
        answer.map(|bytes| V::parse(&bytes))
    }

    fn insert(&self, key: K, value: V) {
        let mut command = redis::cmd("SET");
        command.arg(key.bytes()).arg(value.bytes());
        if self.ttl < HOUR {
            command.arg("PX").arg(self.ttl.as_millis() as u64);
        } else {
            command.arg("EX").arg(self.ttl.as_secs());
        }
        command.exec(&mut *self.connection.lock()).expect(ANSWERS);
    }

    fn len(&self) -> usize {
        let size: redis::RedisResult<usize> =
            redis::cmd("DBSIZE").query(&mut *self.connection.lock());
        size.expect(ANSWERS)
    }

    fn fill(&self, entries: usize) {
        for first in (0..entries as u64).step_by(1000) {
            let numbers = first..(first + 1000).min(entries as u64);
            self.insert_many(numbers.map(|number| (K::make(number), V::make(number))));
        }
    }

    fn server_usage(&self) -> Option<Usage> {
        Some(self.usage())
    }
}

/// A client that sends a hundred commands before it reads their answers.
pub struct Pipelined(Redis);

impl Pipelined {
    pub fn start<V: Value>(options: Options) -> Result<Self, String> {
        Redis::start::<V>(options).map(Self)
    }
}

impl<K: Key, V: Value> Peer<K, V> for Pipelined {
    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key)
    }

    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn len(&self) -> usize {
        Peer::<K, V>::len(&self.0)
    }

    fn fill(&self, entries: usize) {
        Peer::<K, V>::fill(&self.0, entries);
    }

    fn run(&self, kind: Kind, ring: &[K], from: usize, operations: usize) -> u64 {
        let mut hits = 0;
        let places: Vec<usize> = (from..from + operations).collect();
        for batch in places.chunks(BATCH) {
            let is_write = |at: usize| match kind {
                Kind::Read | Kind::CacheAside => false,
                Kind::Insert => true,
                Kind::Mixed => at % 10 == 9,
                Kind::Churn => at.is_multiple_of(2),
            };
            let key = |at: usize| ring[at % ring.len()].clone();
            let read_key = |at: &usize| match kind {
                Kind::Churn => key(at + ring.len() - CHURN_LAG),
                _ => key(*at),
            };
            let (writes, reads): (Vec<usize>, Vec<usize>) =
                batch.iter().partition(|at| is_write(**at));
            let read: Vec<K> = reads.iter().map(read_key).collect();
            let found: Vec<Option<V>> = self.0.get_many(&read);
            hits += found.iter().flatten().count() as u64;
            let mut written: Vec<K> = writes.into_iter().map(key).collect();
            if kind == Kind::CacheAside {
                let missed = read.into_iter().zip(&found);
                written.extend(
                    missed
                        .filter(|(_, value)| value.is_none())
                        .map(|(key, _)| key),
                );
            }
            if !written.is_empty() {
                let entries = written.into_iter().map(|key| (key, V::make(0)));
                self.0.insert_many(entries);
            }
        }
        hits
    }

    fn server_usage(&self) -> Option<Usage> {
        Some(self.0.usage())
    }
}
