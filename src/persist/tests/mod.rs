//! Tests of the files: with a map for what is kept, and a file system in memory that fails and
//! loses power.

mod crashes;
mod memory;
mod model;

/// How many cases to run: `HAYBOX_CASES` is a number, or `full` for what CI asks for.
fn cases(quick: u64, full: u64) -> u64 {
    match std::env::var("HAYBOX_CASES") {
        Ok(asked) if asked == "full" => full,
        Ok(asked) => asked.parse().expect("HAYBOX_CASES is a number or `full`"),
        Err(_) => quick,
    }
}
