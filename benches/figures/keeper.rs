//! The processor time of the thread that clears what has expired.

use crate::filled::{MILLION, fill, unbounded};
use crate::table::{compare, note};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// The processor time that the keeper thread has used, `None` where the system does not tell.
pub fn keeper_time() -> Option<Duration> {
    let threads = fs::read_dir("/proc/self/task").ok()?.flatten();
    let keeper = threads.map(|thread| thread.path()).find(|path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "haybox-keeper")
    })?;
    let exact = fs::read_to_string(keeper.join("schedstat")).ok();
    let exact = exact.and_then(|text| text.split_whitespace().next()?.parse().ok());
    exact
        .map(Duration::from_nanos)
        .or_else(|| ticks(&fs::read_to_string(keeper.join("stat")).ok()?))
}

/// The processor time in a `stat` file, in ticks of 10 ms.
fn ticks(stat: &str) -> Option<Duration> {
    // The name of the thread, in parentheses, may hold spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some(Duration::from_millis(10 * (user + system)))
}

pub fn idle() {
    let cache = unbounded();
    fill(&cache, 10 * MILLION as u64);
    // The turn that the insertions caused is not part of being idle.
    thread::sleep(Duration::from_secs(2));
    let (Some(before), started) = (keeper_time(), Instant::now()) else {
        return note("idle: keeper", "needs Linux");
    };
    thread::sleep(Duration::from_secs(10));
    let used = keeper_time().unwrap_or_default().saturating_sub(before);
    let share = 100.0 * used.as_secs_f64() / started.elapsed().as_secs_f64();
    note(
        "idle: keeper, 10M entries not due, 10 s",
        &format!("{used:.1?}"),
    );
    compare("idle: keeper's share of a core", share, 1.0, "%");
}
