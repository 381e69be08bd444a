//! Queues that are opened with another type of messages than they were written with.

use super::done;
use crate::common::HOUR;
use haybox::MockClock;
use haybox::persist::{Codec, MessagePack, OpenError, Persistence};
use haybox::queue::{PopError, PushOptions, Pushed, Queue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[derive(Serialize, Deserialize)]
struct MailV1 {
    to: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mail {
    copies: u32,
    to: Vec<String>,
}

fn old(to: &str) -> MailV1 {
    MailV1 { to: to.into() }
}

fn new(to: &str) -> Mail {
    Mail {
        copies: 1,
        to: vec![to.into()],
    }
}

/// Mails to nobody are not sent any more.
fn migrating<C: Codec>(options: Persistence<C>) -> Persistence<C> {
    options.migrate(|old| match old.schema_version() {
        1 => old.with_message(|MailV1 { to }| Ok((to != "nobody").then(|| new(&to)))),
        _ => Err(old.unknown()),
    })
}

struct World(TempDir, MockClock);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), MockClock::new())
    }

    fn open<T, C: Codec>(&self, options: Persistence<C>) -> Result<Queue<T>, OpenError>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let Self(dir, time) = self;
        let builder = super::at_once(Queue::builder(100)).clock(time.clock());
        builder.open_with(dir.path(), options)
    }
}

fn check<C: Codec>(codec: C) {
    let world = World::new();
    let options = |version| {
        let options = Persistence::new().codec(codec.clone());
        options.schema_version(version)
    };
    let queue = world.open::<MailV1, _>(options(1)).unwrap();
    queue.push(old("dead")).unwrap();
    queue.try_pop().unwrap().bury("poison").unwrap();
    queue.push(old("tried")).unwrap();
    queue.try_pop().unwrap().fail("no such host").unwrap();
    let later = PushOptions::new().delay(HOUR).priority(3).dedup_key("late");
    let late = queue.push_with(old("late"), later.clone()).unwrap().id();
    let last = queue.push(old("nobody")).unwrap();
    drop(queue);

    let refused = world.open::<Mail, _>(options(2)).unwrap_err().to_string();
    assert!(refused.contains("Persistence::migrate"), "{refused}");

    let queue = world.open::<Mail, _>(migrating(options(2))).unwrap();
    let dead = queue.dead_letters();
    let told = dead.iter().map(|dead| ((**dead).clone(), dead.error()));
    assert_eq!(told.collect::<Vec<_>>(), [(new("dead"), Some("poison"))]);
    let again = queue.push_with(new("late"), later).unwrap();
    assert_eq!(again, Pushed::Duplicate(late));
    assert!(queue.push(new("new")).unwrap() > last);
    drop(queue);

    // All of it is of today's type by now.
    let queue = world.open::<Mail, _>(options(2)).unwrap();
    assert_eq!((queue.len(), queue.stats().dead), (3, 1));
    world.1.advance(HOUR * 2);
    let next = || {
        let delivery = queue.try_pop().unwrap();
        let attempt = delivery.attempt();
        let mail = (*delivery).clone();
        delivery.ack().unwrap();
        (mail, attempt)
    };
    assert_eq!(next(), (new("late"), 1), "of the highest priority");
    assert_eq!(next(), (new("tried"), 2));
    assert_eq!(next(), (new("new"), 1));
}

#[test]
fn messages_of_another_type_are_migrated_with_what_the_queue_knows_of_them() {
    check(MessagePack);
    #[cfg(feature = "postcard")]
    check(haybox::persist::Postcard);
    #[cfg(feature = "json")]
    check(haybox::persist::Json);
}

#[test]
fn a_queue_whose_messages_are_gone_gives_no_number_twice() {
    let world = World::new();
    let queue = world.open::<MailV1, _>(Persistence::new()).unwrap();
    let last = queue.push(old("ada")).unwrap();
    drop(queue);
    let options = Persistence::new().schema_version(1);
    let options = options.migrate(|old| Ok(old.gone()));
    let queue = world.open::<u32, _>(options).unwrap();
    assert_eq!(queue.try_pop().unwrap_err(), PopError::Empty);
    assert!(queue.push(7).unwrap() > last);
    assert_eq!(done(queue.try_pop()), 7);
}

#[test]
fn a_migration_that_takes_a_record_for_a_message_is_told_what_to_use() {
    let world = World::new();
    let queue = world.open::<MailV1, _>(Persistence::new()).unwrap();
    queue.push(old("ada")).unwrap();
    drop(queue);
    let options = Persistence::new().schema_version(1).migrate(|old| {
        let MailV1 { to } = old.value()?;
        old.with_value(&new(&to))
    });
    let error = world.open::<Mail, _>(options).unwrap_err();
    assert!(matches!(error, OpenError::Undecodable { .. }), "{error:?}");
    assert!(error.to_string().contains("Old::with_message"), "{error}");
}
