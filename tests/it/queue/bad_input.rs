//! Settings that cannot be.

use crate::common::{HOUR, SECOND};
use haybox::queue::{PopError, PushError, Queue, QueueBuilder, ReceiptError, RequeueError};
use std::time::Duration;

#[test]
fn an_impossible_setting_is_an_error_that_names_it() {
    let setting = |built: Result<Queue<u32>, haybox::BuildError>| built.unwrap_err();
    let built =
        |set: fn(QueueBuilder<u32>) -> QueueBuilder<u32>| setting(set(Queue::builder(1)).build());
    let table = [
        (setting(Queue::new(0)), "capacity"),
        (
            built(|b| b.visibility_timeout(Duration::ZERO)),
            "visibility_timeout",
        ),
        (built(|b| b.watchdog(SECOND)), "watchdog"),
        (built(|b| b.max_attempts(0)), "max_attempts"),
        (built(|b| b.backoff(HOUR, SECOND)), "backoff"),
    ];
    for (error, setting) in table {
        assert_eq!(error.setting(), setting, "{error}");
    }
}

#[test]
fn the_greatest_settings_are_possible() {
    let builder = Queue::builder(usize::MAX)
        .max_attempts(u32::MAX)
        .dead_letters(usize::MAX)
        .dedup_window(Duration::MAX)
        .backoff(Duration::MAX, Duration::MAX)
        .watchdog(Duration::MAX);
    let queue = builder.build().unwrap();
    queue.push(1).unwrap();
    queue.try_pop().unwrap().nack().unwrap();
    assert_eq!(queue.stats().delayed, 1);
}

#[test]
fn a_queue_that_is_kept_nowhere_may_be_used_under_a_lock() {
    let queue = super::at_once(Queue::builder(10)).build().unwrap();
    let cache = haybox::Cache::<u32, u32>::new(10);
    cache.insert(1, 1);
    cache.update(&1, |_| {
        queue.push(1).unwrap();
        drop(queue.try_pop().unwrap());
        assert_eq!(
            (queue.len(), queue.stats().ready),
            (1, 1),
            "it was given back"
        );
        queue.close();
    });
}

#[test]
fn the_errors_are_sentences() {
    let errors: [(&dyn std::error::Error, &str); 9] = [
        (&PopError::Empty, "no message is ready"),
        (&PopError::Closed, "closed"),
        (&PushError::Full(1), "full"),
        (&PushError::Closed(1), "closed"),
        (&ReceiptError::Stale { id: 7 }, "message 7 is over"),
        (&ReceiptError::Unknown, "not from this queue"),
        (&RequeueError::NotDead, "no dead letter"),
        (&RequeueError::Full, "full"),
        (&RequeueError::Closed, "closed"),
    ];
    for (error, part) in errors {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn everything_can_be_printed() {
    let queue = Queue::new(3).unwrap();
    queue.push("a secret").unwrap();
    let delivery = queue.try_pop().unwrap();
    let shown = format!("{queue:?} {delivery:?}");
    assert!(
        shown.contains("capacity: 3") && shown.contains("in_flight: 1"),
        "{shown}"
    );
    delivery.bury("poison").unwrap();
    let shown = format!(
        "{shown} {:?} {:?}",
        queue.dead_letters(),
        PushError::Full("a secret")
    );
    assert!(!shown.contains("secret"), "{shown}");
}
