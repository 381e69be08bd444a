use super::*;
use crate::contain::Fragile;
use crate::persist::contents::{Spot, Walked};
use crate::persist::effect::{Effects, Meta, Unencodable};
use crate::persist::frame::{FrameReader, Kind, Stamp, framed};
use crate::persist::header::{self, CodecId};
use crate::persist::settings::Settings;
use std::io::Write;
use std::sync::Mutex;

/// What is applied, by the set.
struct Seen(Vec<Mutex<Vec<u64>>>, AtomicU64);

impl Seen {
    fn new(sets: usize) -> Self {
        let sets = (0..sets).map(|_| Mutex::default()).collect();
        Self(sets, AtomicU64::new(0))
    }
}

impl Contents for Seen {
    fn expect(&self, entries: u64) {
        self.1.store(entries, Relaxed);
    }

    fn len(&self) -> u64 {
        self.0
            .iter()
            .map(|set| set.lock().unwrap().len() as u64)
            .sum()
    }

    fn sets(&self) -> usize {
        self.0.len()
    }

    fn hash_of(&self, key: &[u8]) -> usize {
        if key == FRAGILE {
            Fragile::throw();
        }
        usize::from(key[0])
    }

    fn apply(&self, seq: u64, effect: Effect<'_>, _: &mut Tally) -> Result<(), Undecodable> {
        let key = effect.key().unwrap();
        assert!(!PANICS.contains(&key), "this key does not decode");
        if key == FRAGILE {
            Fragile::throw();
        }
        if key == COLLIDES {
            return Err(Undecodable::set_full());
        }
        self.0[self.hash_of(key) % self.sets()]
            .lock()
            .unwrap()
            .push(seq);
        Ok(())
    }

    fn clear(&self) {
        self.0.iter().for_each(|set| set.lock().unwrap().clear());
    }

    fn recovered(&self, _: u64) {}

    fn write_set(&self, _: &Spot, _: &mut Effects) -> Result<Walked, Unencodable> {
        Ok(Walked::to(None))
    }

    fn write_labels(&self, _: &mut Effects) {}
}

/// One whose set is full.
const COLLIDES: &[u8] = &[9, 9, 9, 8];

/// One that is applied first, and one that is not.
const PANICS: [&[u8]; 2] = [&[0, 9, 9, 9], &[9; 4]];

/// One that panics with what panics again as it is dropped, as it is hashed and as it is applied.
const FRAGILE: &[u8] = &[9, 9, 9, 7];

fn worker(contents: &Seen, is_salvage: bool) -> Worker<'_> {
    Worker {
        contents,
        schema: 0,
        believed: Believed::by(&Settings::new(CodecId(*b"test")), 1),
        is_salvage,
        undecodable: AtomicU64::new(0),
    }
}

/// Keys whose sets have nothing to do with their order.
fn keys(count: u32) -> impl Iterator<Item = [u8; 4]> {
    (0..count).map(|number| number.wrapping_mul(0x9E37_79B1).to_be_bytes())
}

/// A frame that says that there are `more` effects than there are.
fn job(first: u64, keys: impl Iterator<Item = [u8; 4]>, more: u32) -> Job {
    let (mut effects, mut count) = (Effects::new(), more);
    for key in keys {
        let (key, value, meta) = (&key, &[0; 20], Meta::default());
        effects.push(Effect::Put { key, value, meta });
        count += 1;
    }
    job_of(Kind::Batch, first, count, effects.bytes())
}

fn clear(seq: u64) -> Job {
    job_of(Kind::Clear, seq, 1, &[])
}

fn job_of(kind: Kind, first: u64, count: u32, payload: &[u8]) -> Job {
    let stamp = Stamp {
        kind,
        count,
        first,
        durable: 0,
        wall_ms: 0,
    };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0; header::LENGTH]).unwrap();
    file.write_all(&framed(payload, stamp, 0)).unwrap();
    let frame = FrameReader::new(Arc::new(file), 0).unwrap().next();
    Job {
        path: Path::new("a log").into(),
        schema: 0,
        frame: frame.unwrap().unwrap(),
        limit: count,
    }
}

#[test]
fn effects_of_a_set_come_in_their_order_whatever_the_number_of_threads() {
    for threads in [1, 2, 3, 8, 100] {
        // So many that several frames are sorted at once, and by several threads.
        let seen = Seen::new(4096);
        let mut feed = Feed::new(worker(&seen, false), threads, u64::MAX);
        for frame in 0..30 {
            feed.give(job(frame * 5000, keys(5000), 0)).unwrap();
        }
        feed.apply().unwrap();
        let sets: Vec<_> = seen
            .0
            .into_iter()
            .map(|set| set.into_inner().unwrap())
            .collect();
        assert!(sets.iter().all(|set| set.is_sorted()), "{threads} threads");
        let mut all = sets.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..150_000), "{threads} threads");
    }
}

#[test]
fn what_clears_all_comes_behind_what_is_before_it_and_before_what_is_behind() {
    for threads in [1, 4] {
        let seen = Seen::new(1024);
        let mut feed = Feed::new(worker(&seen, false), threads, u64::MAX);
        for first in [0, 5000, 10_000] {
            feed.give(job(first, keys(5000), 0)).unwrap();
        }
        feed.give(clear(15_000)).unwrap();
        feed.give(job(15_001, keys(10), 0)).unwrap();
        feed.apply().unwrap();
        let sets = seen.0.into_iter().map(|set| set.into_inner().unwrap());
        let mut all = sets.collect::<Vec<_>>().concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(15_001..15_011), "{threads} threads");
    }
}

#[test]
fn a_frame_that_is_corrupt_counts_once_for_a_salvage_whatever_the_number_of_threads() {
    for threads in [1, 4] {
        let seen = Seen::new(64);
        let mut feed = Feed::new(worker(&seen, true), threads, u64::MAX);
        feed.give(job(0, keys(20_000), 1)).unwrap();
        feed.apply().unwrap();
        assert_eq!(feed.worker.undecodable.into_inner(), 1, "{threads} threads");
        assert_eq!(seen.len(), 20_000);
    }
}

#[test]
fn a_frame_that_is_corrupt_is_refused_whatever_the_number_of_threads() {
    for (threads, frame) in [1, 4]
        .into_iter()
        .flat_map(|threads| (0..4).map(move |at| (threads, at)))
    {
        let seen = Seen::new(1024);
        let mut feed = Feed::new(worker(&seen, false), threads, u64::MAX);
        let given = (0..4).try_for_each(|at| {
            let first = 1 + at * 5000;
            feed.give(job(first, keys(5000), u32::from(at == frame)))
        });
        let Err(OpenError::Damaged(damage)) = given.and_then(|()| feed.apply()) else {
            panic!("{threads} threads, frame {frame}");
        };
        assert_eq!(damage.next_seq, 1 + frame * 5000);
    }
}

#[test]
fn what_panics_is_named_with_what_it_says_and_a_salvage_leaves_it_out() {
    let said = "it panics: this key does not decode";
    let panics = [
        (PANICS[0], said),
        (PANICS[1], said),
        (FRAGILE, "it panics: no reason given"),
    ];
    for (threads, (panics, said)) in [1, 4]
        .into_iter()
        .flat_map(|threads| panics.map(|panics| (threads, panics)))
    {
        let panics = panics.try_into().unwrap();
        let keys = || keys(15_000).chain([panics]).chain(keys(10));
        let seen = Seen::new(64);
        let mut feed = Feed::new(worker(&seen, false), threads, u64::MAX);
        let result = feed.give(job(100, keys(), 0)).and_then(|()| feed.apply());
        let Err(OpenError::Undecodable { seq, reason, .. }) = result else {
            panic!("{result:?}");
        };
        assert_eq!((seq, &*reason), (15_100, said));
        // As the error advises.
        let seen = Seen::new(64);
        let mut feed = Feed::new(worker(&seen, true), threads, u64::MAX);
        feed.give(job(100, keys(), 0)).unwrap();
        feed.apply().unwrap();
        let left_out = feed.worker.undecodable.into_inner();
        assert_eq!((left_out, seen.len()), (1, 15_010), "{threads} threads");
    }
}

#[test]
fn a_hasher_that_tells_too_few_keys_apart_is_named_and_nothing_is_salvaged_without_them() {
    for is_salvage in [false, true] {
        let seen = Seen::new(64);
        let mut feed = Feed::new(worker(&seen, is_salvage), 1, u64::MAX);
        let keys = keys(10).chain([COLLIDES.try_into().unwrap()]);
        let result = feed.give(job(100, keys, 0)).and_then(|()| feed.apply());
        let Err(error @ OpenError::HashesCollide { seq: 110, .. }) = result else {
            panic!("{result:?}");
        };
        assert!(
            error
                .to_string()
                .contains("the hasher puts more than 65534 keys")
        );
    }
}

#[test]
fn a_window_is_one_threads_work_unless_it_is_large() {
    let windows = |sets: usize, frames: u64| {
        let seen = Seen::new(sets);
        let mut feed = Feed::new(worker(&seen, false), 4, u64::MAX);
        for frame in 0..frames {
            feed.give(job(frame * 1000, keys(1000), 0)).unwrap();
        }
        feed.apply().unwrap();
        // Each thread that has something to do has a place to sort at.
        feed.sorted.len()
    };
    // Many windows of 1,000 effects, and one of 150,000.
    assert_eq!((windows(16, 150), windows(1 << 13, 150)), (0, 4));
}

#[test]
fn a_large_frame_is_applied_where_it_lies_behind_what_came_before_it() {
    let seen = Seen::new(1 << 14);
    let mut feed = Feed::new(worker(&seen, false), 4, u64::MAX);
    let mut large = job(1000, keys(1), 0);
    let mut effects = Effects::new();
    for key in keys(2) {
        let (key, value) = (&key, &vec![7; LARGE_FRAME / 2]);
        let meta = Meta::default();
        effects.push(Effect::Put { key, value, meta });
    }
    large.frame.payload = effects.bytes().to_vec();
    (large.frame.header.count, large.limit) = (2, 2);
    feed.give(job(0, keys(1000), 0)).unwrap();
    assert_eq!(seen.len(), 0);
    feed.give(large).unwrap();
    assert_eq!((seen.len(), feed.window.len(), feed.bytes), (1002, 0, 0));
    let held: usize = feed.sorted.iter().map(Sorted::held).sum();
    assert!(held < LARGE_FRAME / 2, "{held}");
    assert!(seen.0.iter().all(|set| set.lock().unwrap().is_sorted()));
}

impl Sorted {
    fn held(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.capacity()).sum()
    }
}

/// As where the number of threads of a user, or the memory of a container, is used up.
#[test]
fn steps_for_which_there_is_no_thread_are_taken_all_the_same() {
    let no_thread = || thread::Builder::new().stack_size(usize::MAX / 4);
    assert!(no_thread().spawn(|| ()).is_err());
    let taken = AtomicUsize::new(0);
    let step = |at: usize| {
        let taken = &taken;
        move || {
            taken.fetch_add(1, Relaxed);
            match at {
                2 => Err(OpenError::Missing { file: "x".into() }),
                _ => Ok(()),
            }
        }
    };
    assert!(on_threads_of(no_thread, (0..2).map(step)).is_ok());
    let failed = on_threads_of(no_thread, (0..4).map(step));
    assert!(matches!(failed, Err(OpenError::Missing { .. })));
    assert_eq!(taken.into_inner(), 6);
}

/// Uses up so many bytes of the stack below an address.
fn go_down(from: usize, bytes: usize) -> usize {
    let part = std::hint::black_box([1u8; 1024]);
    let used = from.abs_diff(part.as_ptr().addr());
    let deepest = match used < bytes {
        true => go_down(from, bytes),
        false => used,
    };
    deepest * usize::from(std::hint::black_box(part)[7])
}

/// Where the stack does not reach, that ends the process.
#[test]
fn what_the_first_thread_of_a_program_can_decode_the_threads_of_a_recovery_can() {
    let steps = || {
        let step = || {
            let here = 0u8;
            assert!(go_down((&raw const here).addr(), 7 << 20) >= 7 << 20);
            Ok(())
        };
        on_threads((0..3).map(|_| step)).unwrap();
    };
    let first = thread::Builder::new().stack_size(STACK).spawn(steps);
    first.unwrap().join().unwrap();
}

#[test]
fn a_window_is_bounded_by_all_that_it_takes_up() {
    let seen = Seen::new(64);
    let mut feed = Feed::new(worker(&seen, false), 1, 20_000);
    for (number, effects) in [1; 100].into_iter().chain([50; 20]).enumerate() {
        feed.give(job(number as u64, keys(effects), 0)).unwrap();
        let held: usize = feed.window.iter().map(Job::bytes).sum();
        assert!(held < feed.enough, "{held} bytes are left waiting");
    }
    assert!(seen.len() > 500);
}

#[test]
fn room_is_made_for_nearly_all_of_a_large_window_and_for_no_more() {
    for (effects, least) in [(20_000, 0), (100_000, 90_000)] {
        let seen = Seen::new(64);
        let mut feed = Feed::new(worker(&seen, false), 2, u64::MAX);
        feed.give(job(0, keys(effects), 0)).unwrap();
        let expected = seen.1.load(Relaxed);
        assert!(
            (least..=u64::from(effects)).contains(&expected),
            "{expected}"
        );
        assert_eq!(seen.len(), u64::from(effects));
    }
}
