//! Running a scenario under many schedules.

use crate::common::known;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use std::io::Write as _;
use std::sync::Mutex;

/// The simulated threads of two checks have the same names, and the registry of who waits for whose
/// load is one for the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a scenario under three kinds of schedules, a third of each: chosen at random; of few
/// preemptions (Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding
/// Bugs", ASPLOS 2010); at random with one thread that sleeps at some point.
pub fn check(name: &str, scenario: fn()) {
    let _alone = known(&ONE_AT_A_TIME);
    let share = iterations().div_ceil(3);
    let schedules = run(RandomScheduler::new(share), scenario)
        + run(PctScheduler::new(3, share), scenario)
        + run(Sleeper::new(share), scenario);
    // Written past the capture of the test harness, so that a run says what it covered.
    let line = format!("interleavings: {name} {schedules} schedules\n");
    std::io::stdout()
        .write_all(line.as_bytes())
        .expect("the standard output is open");
}

pub fn run(scheduler: impl Scheduler + 'static, scenario: fn()) -> usize {
    let mut config = shuttle::Config::new();
    config.silence_warnings = true;
    config.stack_size = 1 << 18;
    config.max_steps = shuttle::MaxSteps::FailAfter(200_000);
    shuttle::Runner::new(scheduler, config).run(scenario)
}

/// Schedules at random, but lets one thread sleep until the others have ended, or wait for it: what
/// a call has read before it took a lock may be as old as that.
struct Sleeper {
    random: RandomScheduler,
    asleep: Option<TaskId>,
    has_slept: bool,
}

impl Sleeper {
    fn new(iterations: usize) -> Self {
        Self {
            random: RandomScheduler::new(iterations),
            asleep: None,
            has_slept: false,
        }
    }
}

impl Scheduler for Sleeper {
    fn new_execution(&mut self) -> Option<Schedule> {
        (self.asleep, self.has_slept) = (None, false);
        self.random.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        yields: bool,
    ) -> Option<TaskId> {
        let others = |asleep| {
            runnable
                .iter()
                .copied()
                .filter(move |task| Some(task.id()) != asleep)
        };
        // Who yields may wait for the sleeper.
        if yields || others(self.asleep).next().is_none() {
            self.asleep = None;
        }
        if !self.has_slept && runnable.len() > 1 && self.random.next_u64().is_multiple_of(16) {
            (self.asleep, self.has_slept) = (current, true);
        }
        let awake: Vec<&Task> = others(self.asleep).collect();
        let choices = if awake.is_empty() { runnable } else { &awake };
        self.random.next_task(choices, current, yields)
    }

    fn next_u64(&mut self) -> u64 {
        self.random.next_u64()
    }
}

fn iterations() -> usize {
    match std::env::var("HAYBOX_SHUTTLE_ITERATIONS") {
        Ok(iterations) => iterations.parse().expect("a number of iterations"),
        Err(_) => 10_000,
    }
}
