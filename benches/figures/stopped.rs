//! A process that was stopped, and what it serves when it goes on.

use crate::filled::fill;
use crate::table::{compare, note};
use haybox::Cache;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The argument that makes this program the child of `sigstop`.
pub const CHILD: &str = "stopped-child";
const CHILD_TTL: Duration = Duration::from_secs(2);
const STOPPED_FOR: Duration = Duration::from_secs(5);

pub fn sigstop() {
    if !cfg!(unix) {
        return note("sigstop", "needs Unix");
    }
    let program = std::env::current_exe().expect("the path of this program");
    let child = Command::new(program)
        .arg(CHILD)
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.expect("this program can be started again");
    let output = child.stdout.take().expect("its output is piped");
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    signal("-STOP", child.id());
    thread::sleep(STOPPED_FOR);
    signal("-CONT", child.id());
    let result = lines.next().expect("the child reports");
    let status = child.wait().expect("the child ends");
    assert!(status.success(), "the child failed");
    let numbers: Vec<f64> = result
        .split(' ')
        .filter_map(|number| number.parse().ok())
        .collect();
    note(
        "sigstop: the child stood still for",
        &format!("{:.2} s", numbers[0]),
    );
    note(
        "sigstop: from the deadline to the first read after it",
        &format!("{:.2} s", numbers[1]),
    );
    compare("sigstop: expired values served", numbers[2], 0.0, "values");
}

fn signal(name: &str, process: u32) {
    let sent = Command::new("kill")
        .args([name, &process.to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "kill {name}");
}

/// Reads without a pause, so that it is stopped between two reads and goes on with a read.
pub fn stopped_child() {
    let cache = Cache::builder()
        .time_to_live(CHILD_TTL)
        .build()
        .expect("a valid TTL");
    fill(&cache, 1000);
    let deadline = Instant::now() + CHILD_TTL;
    println!("ready");
    let (mut previous, mut gap, mut served) = (Instant::now(), Duration::ZERO, 0u64);
    let mut first_after = None;
    for key in (0..1000u64).cycle() {
        let before = Instant::now();
        let found = cache.get(&key).is_some();
        gap = gap.max(before - previous);
        previous = before;
        if before >= deadline {
            served += u64::from(found);
            first_after.get_or_insert(before - deadline);
        }
        if before >= deadline + Duration::from_secs(1) && gap > Duration::from_secs(1) {
            break;
        }
    }
    let first_after = first_after.unwrap_or_default();
    println!(
        "{} {} {served}",
        gap.as_secs_f64(),
        first_after.as_secs_f64()
    );
}
