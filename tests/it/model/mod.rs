//! Random operations under a mock clock, against a map that knows what must be there.
//!
//! What a cache evicts is its own choice, so the map learns of it from the removal listener; all
//! else it predicts, to the microsecond.

mod op;
mod world;

use proptest::test_runner::{Config, TestRunner};
use world::World;

/// What a run in CI asks for. A plain `cargo test` makes fewer, to stay quick.
const ASKED: u32 = 10_000;
const QUICK: u32 = 1_000;

#[test]
fn random_operations_agree_with_a_map() {
    let cases = crate::common::cases(QUICK, ASKED);
    println!("model: {cases} random cases (asked for: {ASKED})");
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&(op::setups(), op::ops()), |(setup, ops)| {
        let mut world = World::new(setup);
        for op in ops {
            world.run(&op);
        }
        world.finish();
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
