//! The first steps: bound a cache, fill it, read it, load what is missing, let it expire.
//!
//! `cargo run --example quickstart`

use std::time::Duration;

use haybox::{BuildError, Cache, MockClock};

fn main() -> Result<(), BuildError> {
    let prices: Cache<String, u32> = Cache::builder()
        .max_entries(1_000)
        .time_to_live(Duration::from_secs(60))
        .build()?;

    prices.insert("apple".to_string(), 30);
    println!("apple: {:?}", prices.get("apple")); // Some(30)
    println!("grape: {:?}", prices.get("grape")); // None

    // Loads what is missing. Threads that ask for the same key meanwhile wait for this one load.
    let plum = prices.get_or_insert_with("plum", || 45);
    println!("plum:  {plum}, now cached: {}", prices.contains_key("plum"));

    // An entry may have its own time to live; its value is changed in place.
    prices.insert_with_ttl("melon".to_string(), 250, Duration::from_secs(3_600));
    prices.update("melon", |price| *price -= 50);
    let (price, ttl) = (prices.get("melon"), prices.ttl("melon"));
    println!("melon: {price:?}, {ttl:?}");

    // A clone is a handle to the same cache, for a thread or a task.
    let handle = prices.clone();
    let thread = std::thread::spawn(move || handle.insert("fig".to_string(), 20));
    thread.join().expect("the thread ends well");
    let stats = prices.stats();
    println!("{} hits, {} misses", stats.hits, stats.misses);

    // A test moves the time itself: here a minute passes at once.
    let time = MockClock::new();
    let prices = Cache::builder().time_to_live(Duration::from_secs(60));
    let prices = prices.clock(time.clock()).build()?;
    prices.insert("apple", 30);
    time.advance(Duration::from_secs(60));
    println!("apple: {:?}", prices.get("apple")); // None
    Ok(())
}
