//! Many callers for one key, in front of a real table.

use super::{Gate, Wakes, assert_settled, poll};
use crate::common::{is_full, timed};
use haybox::{Cache, LoadError};
use rusqlite::Connection;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{JoinSet, yield_now};

/// A table in a database, and how often it was asked.
struct Shop {
    database: Mutex<Connection>,
    queries: AtomicU32,
}

impl Shop {
    fn open() -> Arc<Self> {
        let database = Connection::open_in_memory().unwrap();
        let fill = "CREATE TABLE fruit (id INTEGER PRIMARY KEY, price INTEGER); \
                    INSERT INTO fruit VALUES (1, 30), (2, 45);";
        database.execute_batch(fill).unwrap();
        Arc::new(Self {
            database: Mutex::new(database),
            queries: AtomicU32::new(0),
        })
    }

    fn price(&self, id: u32) -> Result<u32, rusqlite::Error> {
        self.queries.fetch_add(1, SeqCst);
        let query = "SELECT price FROM fruit WHERE id = ?1";
        let database = self.database.lock().unwrap();
        database.query_row(query, [id], |row| row.get(0))
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap()
}

type Prices = Arc<Cache<u32, u32>>;

async fn price(prices: &Prices, shop: &Shop) -> Result<u32, LoadError<rusqlite::Error>> {
    let query = || async {
        // Others come while the query is on its way.
        yield_now().await;
        shop.price(1)
    };
    prices.try_get_or_load(&1, query).await
}

#[test] // "a stampede must not drain the pool"
fn a_thousand_tasks_on_a_cold_key_make_one_query() {
    let (shop, prices) = (Shop::open(), Prices::new(Cache::new(10)));
    runtime().block_on(async {
        let start = Arc::new(Barrier::new(1_000));
        let mut tasks = JoinSet::new();
        for _ in 0..1_000 {
            let (shop, prices, start) =
                (Arc::clone(&shop), Arc::clone(&prices), Arc::clone(&start));
            tasks.spawn(async move {
                start.wait().await;
                price(&prices, &shop).await.unwrap()
            });
        }
        assert!(tasks.join_all().await.into_iter().all(|price| price == 30));
    });
    assert_eq!(shop.queries.load(SeqCst), 1);
    assert_settled(&prices);
}

#[test]
fn threads_and_tasks_together_make_one_query() {
    let (shop, prices) = (Shop::open(), Prices::new(Cache::new(10)));
    let start = std::sync::Barrier::new(17);
    thread::scope(|scope| {
        for _ in 0..16 {
            let (shop, prices, start) = (&shop, &prices, &start);
            scope.spawn(move || {
                start.wait();
                assert_eq!(
                    prices.try_get_or_insert_with(&1, || shop.price(1)).unwrap(),
                    30
                );
            });
        }
        scope.spawn(|| {
            runtime().block_on(async {
                let mut tasks = JoinSet::new();
                start.wait();
                for _ in 0..1_000 {
                    let (shop, prices) = (Arc::clone(&shop), Arc::clone(&prices));
                    tasks.spawn(async move { price(&prices, &shop).await.unwrap() });
                }
                assert!(tasks.join_all().await.into_iter().all(|price| price == 30));
            });
        });
    });
    assert_eq!(shop.queries.load(SeqCst), 1);
    assert_settled(&prices);
}

#[test] // moka#59
fn aborted_leaders_cost_one_query_each_and_nobody_else_anything() {
    let rounds = if is_full() { 50 } else { 5 };
    for _ in 0..rounds {
        let (shop, prices) = (Shop::open(), Prices::new(Cache::new(10)));
        let aborted = runtime().block_on(abort_leaders(&shop, &prices));
        assert!((1..=100).contains(&aborted));
        assert_eq!(
            shop.queries.load(SeqCst),
            aborted + 1,
            "one query for each leader"
        );
        assert_settled(&prices);
    }
}

/// Has a thousand tasks and sixteen threads ask for one price. A tenth of the tasks is aborted in the
/// middle of a load that it leads; how many came to that.
async fn abort_leaders(shop: &Arc<Shop>, prices: &Prices) -> u32 {
    let mut tasks = JoinSet::new();
    let (tell_lead, mut leads) = unbounded_channel();
    let mut handles = Vec::new();
    for number in 0..1_000 {
        let (shop, prices, tell_lead) = (Arc::clone(shop), Arc::clone(prices), tell_lead.clone());
        handles.push(tasks.spawn(async move {
            let is_doomed = number % 10 == 0;
            let query = || async {
                let price = shop.price(1);
                yield_now().await;
                if is_doomed {
                    tell_lead.send(number).unwrap();
                    pending::<()>().await;
                }
                price
            };
            prices.try_get_or_load(&1, query).await.unwrap()
        }));
        if number == 0 {
            // The first that leads is one that is aborted, once the others wait for it.
            assert_eq!(leads.recv().await, Some(0));
        }
    }
    drop(tell_lead);
    let ask = |_| {
        let (shop, prices) = (Arc::clone(shop), Arc::clone(prices));
        thread::spawn(move || prices.try_get_or_insert_with(&1, || shop.price(1)).unwrap())
    };
    let threads: Vec<_> = (0..16).map(ask).collect();
    handles[0].abort();
    let mut aborted = 1;
    while let Some(number) = leads.recv().await {
        handles[number].abort();
        aborted += 1;
    }
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(price) => assert_eq!(price, 30),
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
    }
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 30);
    }
    aborted
}

#[test]
fn a_hundred_thousand_tasks_wait_for_one_key() {
    let (cache, time) = timed(|builder| builder.max_entries(10));
    let gate = Gate::default();
    let mut leader = pin!(cache.get_or_load(&1, || async {
        gate.pass().await;
        7
    }));
    assert!(super::poll_once(leader.as_mut()).is_pending());
    let wait = || Box::pin(cache.get_or_load(&1, || async { unreachable!("it is loaded") }));
    let mut waiters: Vec<_> = (0..100_000).map(|_| wait()).collect();
    let (wakes, waker) = Wakes::new();
    for waiter in &mut waiters {
        assert!(poll(waiter.as_mut(), &waker).is_pending());
    }
    assert_eq!(time.timers(), 100_000);
    // A third of them leaves, in another order than they came.
    for at in (0..33_333).rev() {
        drop(waiters.swap_remove(at * 3));
    }
    gate.open();
    assert!(super::poll_once(leader.as_mut()).is_ready());
    assert_eq!(wakes.count(), 66_667);
    for waiter in &mut waiters {
        assert_eq!(poll(waiter.as_mut(), &waker), Poll::Ready(7));
    }
    assert_eq!(time.timers(), 0);
    assert_settled(&cache);
}
