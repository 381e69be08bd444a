//! Leases by key: one holder at a time (or as many as there are permits), for a limited time.
//!
//! ```
//! use haybox::lock::Locks;
//! use std::time::Duration;
//!
//! let locks = Locks::<String>::new(Duration::from_secs(30))?;
//! let lease = locks.acquire("nightly-report")?;
//! // write_report(lease.token())
//! assert!(locks.clone().try_acquire("nightly-report").is_err(), "somebody is at it");
//! lease.release()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Tasks take the calls that end in `_async`: [`acquire_async`](Locks::acquire_async),
//! [`acquire_timeout_async`](Locks::acquire_timeout_async) and
//! [`with_lock_async`](Locks::with_lock_async). Their namesakes block the thread, and so all tasks
//! of it; [`try_acquire`](Locks::try_acquire) waits for nothing.
//!
//! # What a lease promises, and what not
//! - At no moment do two leases of a key *count*: a lease ends when it is released or dropped, or
//!   when its time has passed without a renewal, whichever is first, and the next is granted only
//!   after that.
//! - A lease does not stop its holder. A thread that is paused for longer than its lease (by the
//!   scheduler, a debugger, a suspended machine, a slow disk) goes on afterwards as if it still
//!   held it, while another one does. No lock with a time limit can do anything about that, Redis's
//!   neither, but the thing that it protects can: see the next section. [`Lease::is_held`] is true
//!   only for the moment of the look.
//! - A holder that never ends holds others up for one lease time, not for ever.
//! - Locks know nothing of other processes, and a restart forgets them.
//!
//! # Fencing tokens
//! Each lease has a [`token`](Lease::token), a number greater than that of every lease granted
//! before it. Let the holder show it with each write, and the protected thing refuse a smaller one
//! than it has seen; then a holder that comes too late does no harm:
//!
//! ```
//! use haybox::MockClock;
//! use haybox::lock::Locks;
//! use std::time::Duration;
//!
//! #[derive(Default)]
//! struct Ledger { newest: u64, lines: Vec<&'static str> }
//! impl Ledger {
//!     fn write(&mut self, token: u64, line: &'static str) -> Result<(), &'static str> {
//!         if token < self.newest {
//!             return Err("somebody else has taken over");
//!         }
//!         self.newest = token;
//!         self.lines.push(line);
//!         Ok(())
//!     }
//! }
//!
//! let (time, mut ledger) = (MockClock::new(), Ledger::default());
//! let lease_time = Duration::from_secs(10);
//! let locks = Locks::<&str>::builder(lease_time).clock(time.clock()).build()?;
//! let slow = locks.try_acquire(&"ledger")?;
//! time.advance(Duration::from_secs(10)); // It sleeps, and does not know it.
//! let next = locks.try_acquire(&"ledger")?;
//! ledger.write(next.token(), "next")?;
//! assert!(ledger.write(slow.token(), "slow").is_err());
//! assert!(slow.renew().is_err() && slow.release().is_err(), "it is told, if it asks");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A thing that outlives the process (a file, a table) needs tokens that go on from the last one it
//! has seen: [`LocksBuilder::first_token`].
//!
//! # Waiting
//! Waiters of a key, threads and tasks alike, are served in the order in which they came. When a
//! lease ends by its time, the next waiter gets it then, though nobody calls. A thread that already
//! holds a lease of the key never waits for another one: that is
//! [`LockError::Reentrant`], not a deadlock. A task has no identity to know it by, so a task that
//! asks for what it holds waits until its own lease has ended; give it a time-out.
//!
//! The time of a lease runs from the moment at which it is granted, which for one who waits may be
//! before its thread or task runs again. Where it has run out by then, the call gives the lease
//! back and waits once more, at the end of the queue. Only where that happens a second time does it
//! return a lease that is [over](Lease::is_held): leases have to last longer than scheduling takes.
//!
//! Leases of several keys can deadlock like any locks, until the first of them expires: take them
//! in one order.
//!
//! # Semaphores
//! With [`LocksBuilder::permits`] a key has several permits, and a lease holds one of them, or as
//! many as [`Locks::taking`] says:
//!
//! ```
//! use haybox::lock::{LockError, Locks};
//! use std::time::Duration;
//!
//! // At most two downloads from a host at a time.
//! let hosts = Locks::<&str>::builder(Duration::from_secs(60)).permits(2).build()?;
//! let first = hosts.try_acquire(&"example.org")?;
//! let second = hosts.try_acquire(&"example.org")?;
//! assert_eq!(hosts.available(&"example.org"), 0);
//! drop(first);
//! assert_eq!(hosts.available(&"example.org"), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cost
//! Taking is O(1), and so is giving back with one permit: the lock of one part of the keys each
//! time, and one coarse look at the clock. With more permits, giving back is O(leases held of the
//! key), as is whatever finds that one of them has ended, and a call that has to wait. To give up
//! waiting is O(waiters of the key).
//!
//! A key in use takes up the key twice and about 100 bytes, up to 150 where their table has just
//! grown, and about 150 for each waiter; an idle one is cleared in the background within 11 s of
//! its last lease.
//!
//! # Time
//! Lease times run on the crate's [`Clock`](crate::Clock): steps of the wall clock change nothing,
//! and time that the machine is suspended counts.

mod error;
mod lease;
mod locks;
mod shared;
mod slot;
mod stats;
mod waiter;
mod watchdog;

pub use error::{LeaseLost, LockError};
pub use lease::Lease;
pub use locks::{Locks, LocksBuilder};
pub use stats::LocksStats;
pub use waiter::Acquire;
