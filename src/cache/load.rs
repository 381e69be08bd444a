//! Loading what is missing: for threads and for tasks.

use super::Cache;
use crate::engine::{Call, Offered, PlainLeader, Start};
use crate::hash::KeyHash;
use crate::load::{Form, LoadError, Loaded, Maybe, REENTRANT, Source, TIMED_OUT, Value, give};
use crate::to_key::ToKey;
use std::convert::Infallible;
use std::hash::{BuildHasher, Hash};

/// # Loading
///
/// | the loader | blocks | is a future |
/// | --- | --- | --- |
/// | brings the value | [`get_or_insert_with`](Self::get_or_insert_with) | [`get_or_load`](Self::get_or_load) |
/// | may fail | [`try_get_or_insert_with`](Self::try_get_or_insert_with) | [`try_get_or_load`](Self::try_get_or_load) |
/// | may find none | [`get_or_find_with`](Self::get_or_find_with) | [`get_or_find`](Self::get_or_find) |
/// | may fail or find none | [`try_get_or_find_with`](Self::try_get_or_find_with) | [`try_get_or_find`](Self::try_get_or_find) |
/// | brings several values | [`get_many_or_insert_with`](Self::get_many_or_insert_with) | [`get_many_or_load`](Self::get_many_or_load) |
/// | … and may fail | [`try_get_many_or_insert_with`](Self::try_get_many_or_insert_with) | [`try_get_many_or_load`](Self::try_get_many_or_load) |
/// | is bound to the cache | [`read_through`](Self::read_through) | [`read_through_async`](Self::read_through_async) |
/// | … and brings several values | [`read_through_many`](Self::read_through_many) | [`read_through_many_async`](Self::read_through_many_async) |
///
/// The left column stops its thread while somebody loads; tasks call the right one. Keys come by
/// reference, or as what [`ToKey`] can make one of: a `&str` where the key is a `String` or an
/// `Arc<str>`. Where it is a `&'static str`, a reference to one: `&"plum"`.
///
/// # What every loading call keeps
/// All of them share one load per key, threads and tasks together. Whoever misses first leads: its
/// loader runs, outside all locks, and the others wait for what it brings.
///
/// * A value whose key was written, removed, invalidated or cleared after the load began is given
///   to those who waited and is not stored. Who calls after that does not wait for it, and does
///   not get it.
/// * An error goes to all who wait, at once. It is not stored, unless there is an
///   [`error_ttl`](crate::CacheBuilder::error_ttl): the next caller loads anew. To a
///   waiter whose error type is another it means nothing; it loads for itself, and shares that load
///   with all others of its type.
/// * If the loader panics, if its future is dropped or its task aborted, one of those who wait
///   leads, with its own loader. While loaders go on panicking, they run one after the other: each
///   caller runs its own at most once, gets its panic, and may have waited for those before it, up
///   to the `lock_timeout`. So have a loader return what can go wrong as an error, which ends all
///   waits at once. Where a [`Freshness`](crate::Freshness#a-loader-that-panics) has an old value,
///   those who wait get that.
/// * No wait for one load of others outlasts the
///   [`lock_timeout`](crate::CacheBuilder::lock_timeout), on the clock of the cache. Then one of
///   those who wait loads, and the others wait for that for as long again, and so on, or are given
///   a stale value where there is one. So a source that hangs is asked by one more caller in each
///   time-out, however many wait, and a caller whose loader would not hang has an answer after the
///   loads before its own have had their time. The first answer of all these loads is stored and
///   given to all who still wait, if nothing has overtaken it. Eight late loads of a key may still
///   answer.
/// * A call that could never end, because the load that it would wait for is waiting for it,
///   directly or through other loads and caches, is [`LoadError::Reentrant`]. A blocking call
///   that would stop the very thread that polled the load of a task last does not wait but loads
///   for itself, and stores nothing.
/// * What is not seen, and ended only by the `lock_timeout`: a loader that waits for a lock of
///   yours, or for a task that it has spawned; a future that leads and that you keep without
///   polling it, as in a `select!` that lets another branch go first; a blocking call in a task
///   whose thread is to go on with the load, but has not polled it last: it has woken the task of
///   the load, which then waits in a queue that is the thread's alone, or it is inside of a
///   `block_on` within a task. So tasks do not call what blocks.
///
/// Where the cache was built with a [`Freshness`](crate::Freshness), the calls for one key go by
/// it, as far as a loader can that does not outlive its call: the caller that notices that a value
/// is due loads it, and if it cannot be loaded a stale one is served. So do the calls for several
/// keys, with one call of the loader for all that are missing or due: where it fails, and there is
/// an old value to serve for each key that it was given, these are the answer, and otherwise its
/// error is. For loads behind callers there are [`read_through`](Self::read_through) and
/// [`read_through_many`](Self::read_through_many), whose loader outlives each call.
///
/// A hit allocates nothing and takes one lock.
impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    /// The value, or what `load` returns, which is stored first. However many threads ask for one
    /// missing key at once, one of them loads, and the others wait for it. It stops its thread for
    /// that: in a task use [`get_or_load`](Self::get_or_load).
    ///
    /// `load` runs outside all locks and may use the cache. If it panics, another caller loads. A
    /// value whose key was written or removed while it was loaded is given to those who waited but
    /// not stored. When a load takes longer than the
    /// [`lock_timeout`](crate::CacheBuilder::lock_timeout), one of those who wait loads beside it: so
    /// a loader must not do what is to be done once, such as to charge a card. A hit allocates
    /// nothing.
    ///
    /// # Panics
    /// If `load` asks for a key that only it can provide, directly or through other loads.
    ///
    /// ```
    /// let squares = haybox::Cache::new(100);
    /// assert_eq!(squares.get_or_insert_with(&7, || 7 * 7), 49);
    /// assert_eq!(squares.get_or_insert_with(&7, || unreachable!("it is there")), 49);
    /// ```
    #[doc(alias = "get_with")]
    #[doc(alias = "computeIfAbsent")]
    #[doc(alias = "memoize")]
    pub fn get_or_insert_with<Q>(&self, key: &Q, load: impl FnOnce() -> V) -> V
    where
        Q: Hash + ToKey<K> + ?Sized,
        V: Clone,
    {
        match self.try_get_or_insert_with(key, || Ok::<V, Infallible>(load())) {
            Ok(value) => value,
            Err(error) => cannot_fail(error),
        }
    }

    /// As [`get_or_insert_with`](Self::get_or_insert_with), with a loader that may fail. An error
    /// is not stored: everybody who waited for the load gets it, and the next caller loads anew.
    ///
    /// # Errors
    /// [`LoadError::Failed`] with the loader's error, [`LoadError::Reentrant`] if the loader asks
    /// for a key that only it can provide.
    ///
    /// ```
    /// use haybox::{Cache, LoadError};
    ///
    /// let sizes: Cache<String, u64> = Cache::new(100);
    /// let size = |path: &str| sizes.try_get_or_insert_with(path, || std::fs::metadata(path).map(|found| found.len()));
    /// assert!(size("Cargo.toml")? > 0);
    /// assert!(matches!(size("no such file"), Err(LoadError::Failed(error)) if error.kind() == std::io::ErrorKind::NotFound));
    /// # Ok::<(), LoadError<std::io::Error>>(())
    /// ```
    #[doc(alias = "try_get_with")]
    pub fn try_get_or_insert_with<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
    {
        self.get_as::<Value, _, _>(key, load)
    }

    /// The value, or what the future of `load` returns, which is stored first: as
    /// [`get_or_insert_with`](Self::get_or_insert_with), for tasks, on any executor.
    ///
    /// `load` is called only when it is needed. The future that this returns does nothing before
    /// it is polled. When it is dropped while it leads a load, another caller loads: the one that
    /// has come last is woken first, since where callers have time-outs it has most time left. Each
    /// of them begins the load anew all the same, and of a thousand whose time is up in the same
    /// moment some hundred may. So where callers may be gone sooner than a load takes, bind the
    /// loader by [`read_through_async`](Self::read_through_async) in a cache with a
    /// [`spawner`](crate::CacheBuilder::spawner), which goes on with the load without them.
    ///
    /// # Panics
    /// If `load` asks for a key that only it can provide, directly or through other loads.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// let squares = haybox::Cache::new(100);
    /// assert_eq!(squares.get_or_load(&7, || async { 7 * 7 }).await, 49);
    /// assert_eq!(squares.get_or_load(&7, || async { unreachable!("it is there") }).await, 49);
    /// # });
    /// ```
    #[doc(alias = "get_with")]
    pub async fn get_or_load<Q, F>(&self, key: &Q, load: impl FnOnce() -> F) -> V
    where
        Q: Hash + ToKey<K> + ?Sized,
        V: Clone,
        F: Future<Output = V>,
    {
        let load = || async { Ok::<V, Infallible>(load().await) };
        self.try_get_or_load(key, load)
            .await
            .unwrap_or_else(cannot_fail)
    }

    /// As [`get_or_load`](Self::get_or_load), with a loader that may fail. An error is not stored:
    /// everybody who waited for the load gets it, and the next caller loads anew. Where callers have
    /// time-outs, a [`spawner`](crate::CacheBuilder::spawner) is needed, as said there.
    ///
    /// # Errors
    /// [`LoadError::Failed`] with the loader's error, [`LoadError::Reentrant`] if the loader asks
    /// for a key that only it can provide.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// # async fn query(_: &str) -> Result<u32, std::io::Error> { Ok(45) }
    /// let prices = haybox::Cache::<String, u32>::new(100);
    /// let plum = prices.try_get_or_load("plum", || query("SELECT price FROM fruit WHERE name = 'plum'")).await?;
    /// assert_eq!(plum, 45);
    /// # Ok::<(), haybox::LoadError<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    #[doc(alias = "try_get_with")]
    pub async fn try_get_or_load<Q, E, F>(
        &self,
        key: &Q,
        load: impl FnOnce() -> F,
    ) -> Result<V, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>>,
    {
        self.get_as_async::<Value, _, _, _>(key, load).await
    }

    // ---- loaders that may find no value ----

    /// As [`get_or_insert_with`](Self::get_or_insert_with), with a loader that may find that there
    /// is no value. That is remembered for the
    /// [`negative_ttl`](crate::CacheBuilder::negative_ttl), if there is one; in any case it goes to
    /// all who wait.
    ///
    /// # Panics
    /// If `load` asks for a key that only it can provide, directly or through other loads.
    ///
    /// ```
    /// use haybox::Cache;
    /// use std::time::Duration;
    ///
    /// let names: Cache<u32, &str> = Cache::builder()
    ///     .max_entries(100)
    ///     .negative_ttl(Duration::from_secs(5))
    ///     .build()?;
    /// assert_eq!(names.get_or_find_with(&7, || None), None);
    /// assert_eq!(names.get_or_find_with(&7, || unreachable!("nobody has number 7")), None);
    /// names.insert(7, "ada");
    /// assert_eq!(names.get_or_find_with(&7, || unreachable!("it is there")), Some("ada"));
    /// # Ok::<(), haybox::BuildError>(())
    /// ```
    #[doc(alias = "optionally_get_with")]
    pub fn get_or_find_with<Q>(&self, key: &Q, load: impl FnOnce() -> Option<V>) -> Option<V>
    where
        Q: Hash + ToKey<K> + ?Sized,
        V: Clone,
    {
        self.try_get_or_find_with(key, || Ok::<_, Infallible>(load()))
            .unwrap_or_else(cannot_fail)
    }

    /// As [`get_or_find_with`](Self::get_or_find_with), with a loader that may fail, too.
    ///
    /// # Errors
    /// Those of [`try_get_or_insert_with`](Self::try_get_or_insert_with).
    pub fn try_get_or_find_with<Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<V>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
    {
        self.get_as::<Maybe, _, _>(key, load)
    }

    /// As [`get_or_load`](Self::get_or_load), with a loader that may find that there is no value,
    /// which is remembered as for [`get_or_find_with`](Self::get_or_find_with).
    ///
    /// # Panics
    /// If `load` asks for a key that only it can provide, directly or through other loads.
    #[doc(alias = "optionally_get_with")]
    pub async fn get_or_find<Q, F>(&self, key: &Q, load: impl FnOnce() -> F) -> Option<V>
    where
        Q: Hash + ToKey<K> + ?Sized,
        V: Clone,
        F: Future<Output = Option<V>>,
    {
        let load = || async { Ok::<_, Infallible>(load().await) };
        let found = self.try_get_or_find(key, load).await;
        found.unwrap_or_else(cannot_fail)
    }

    /// As [`get_or_find`](Self::get_or_find), with a loader that may fail, too.
    ///
    /// # Errors
    /// Those of [`try_get_or_load`](Self::try_get_or_load).
    pub async fn try_get_or_find<Q, E, F>(
        &self,
        key: &Q,
        load: impl FnOnce() -> F,
    ) -> Result<Option<V>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
        F: Future<Output = Result<Option<V>, E>>,
    {
        self.get_as_async::<Maybe, _, _, _>(key, load).await
    }

    /// The value, or what `load` brings, in the form that is asked for.
    #[inline]
    fn get_as<F, Q, E>(
        &self,
        key: &Q,
        load: impl FnOnce() -> Result<F::Brought, E>,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: Hash + ToKey<K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
    {
        let hash = self.hash(key);
        match self.engine.start(hash, key, false, self.engine.terms(None)) {
            Start::Hit(value) => Ok(give::<F, V>(Some(value), Source::Hit)),
            Start::Missed(leader) => self.load_missing::<F, _, _>(leader, (hash, key), load),
        }
    }

    /// The same for a task.
    async fn get_as_async<F, Q, E, L>(
        &self,
        key: &Q,
        load: impl FnOnce() -> L,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: Hash + ToKey<K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
        L: Future<Output = Result<F::Brought, E>>,
    {
        let hash = self.hash(key);
        match self.engine.start(hash, key, true, self.engine.terms(None)) {
            Start::Hit(value) => Ok(give::<F, V>(Some(value), Source::Hit)),
            Start::Missed(leader) => {
                self.load_missing_async::<F, _, _, _>(leader, (hash, key), load)
                    .await
            }
        }
    }

    /// Loads what a look-up has not found.
    #[inline(never)]
    fn load_missing<F, Q, E>(
        &self,
        leader: Option<PlainLeader<'_, K, V>>,
        (hash, key): (KeyHash, &Q),
        load: impl FnOnce() -> Result<F::Brought, E>,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: ToKey<K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
    {
        let loaded = match leader {
            Some(leader) => leader.run::<F, Q, E>(key, load),
            None => {
                self.grow_for_loads(1);
                self.engine.load::<F, _, _>(
                    Call::new(false, self.engine.terms(None)),
                    (hash, key),
                    |_| load(),
                    |leader, _| Offered::NoTaker(leader),
                )
            }
        };
        self.grow();
        loaded
    }

    /// The same for a task.
    async fn load_missing_async<F, Q, E, L>(
        &self,
        leader: Option<PlainLeader<'_, K, V>>,
        (hash, key): (KeyHash, &Q),
        load: impl FnOnce() -> L,
    ) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V>,
        Q: ToKey<K> + ?Sized,
        V: Clone,
        E: Send + Sync + 'static,
        L: Future<Output = Result<F::Brought, E>>,
    {
        let loaded = match leader {
            Some(leader) => leader.run_async::<F, Q, E, L>(key, load).await,
            None => {
                self.grow_for_loads(1);
                let loading = self.engine.load_async::<F, _, _, _>(
                    Call::new(true, self.engine.terms(None)),
                    (hash, key),
                    |_| load(),
                    |leader, _| Offered::NoTaker(leader),
                );
                loading.await
            }
        };
        self.grow();
        loaded
    }

    // ---- several keys ----

    /// The values of several keys, in their order: those that are missing by one call of `load`,
    /// which is given the keys that nobody else is loading. For keys that others are loading it
    /// waits, after that. What `load` does not bring is `None`, remembered as for
    /// [`get_or_find_with`](Self::get_or_find_with); what it brings unasked is dropped, and of two
    /// pairs for one key the last counts.
    ///
    /// `load` brings pairs of a key and a value, or a [`Loaded`], which can say more of it: a TTL,
    /// tags, a weight. It is called once more for keys that this call had to leave to others, if
    /// their loader panics, is dropped or takes too long. Where all calls have the same loader,
    /// bind it: [`read_through_many`](Self::read_through_many).
    ///
    /// # Panics
    /// If `load` asks for a key that only it can provide, directly or through other loads, or brings
    /// [`Loaded::not_modified`], since it is shown no old values.
    ///
    /// ```
    /// let squares = haybox::Cache::new(100);
    /// squares.insert(2, 4);
    /// let load = |missing: Vec<u32>| missing.into_iter().map(|n| (n, n * n));
    /// assert_eq!(squares.get_many_or_insert_with([&1, &2, &3], load), [Some(1), Some(4), Some(9)]);
    /// ```
    #[doc(alias = "getAll")]
    #[track_caller]
    pub fn get_many_or_insert_with<'k, Q, I, T>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
        mut load: impl FnMut(Vec<K>) -> I,
    ) -> Vec<Option<V>>
    where
        Q: Hash + ToKey<K> + ?Sized + 'k,
        V: Clone,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
    {
        match self.try_get_many_or_insert_with(keys, |missing| Ok::<_, Infallible>(load(missing))) {
            Ok(found) => found,
            Err(error) => cannot_fail(error),
        }
    }

    /// As [`get_many_or_insert_with`](Self::get_many_or_insert_with), with a loader that may fail.
    /// Its error goes to all who wait for one of the keys that it was given.
    ///
    /// # Errors
    /// Those of [`try_get_or_insert_with`](Self::try_get_or_insert_with), also where it is the load
    /// of another caller that fails.
    pub fn try_get_many_or_insert_with<'k, Q, E, I, T>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
        load: impl FnMut(Vec<K>) -> Result<I, E>,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized + 'k,
        V: Clone,
        E: Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
    {
        let keys = self.hashed(keys);
        let number = keys.len();
        let call = Call::new(false, self.engine.terms(None));
        let nobody = |_: &[&Q], leaders| Offered::NoTaker(leaders);
        let grow = |missing| self.grow_for_loads(missing);
        let loaded = self.engine.load_many(call, keys, grow, load, nobody);
        self.grow_for(number);
        loaded
    }

    /// As [`get_many_or_insert_with`](Self::get_many_or_insert_with), for tasks. When the future
    /// that this returns is dropped, its loads end with it, also where the cache has a
    /// [`spawner`](crate::CacheBuilder::spawner): that can only run loaders that are bound, by
    /// [`read_through_many_async`](Self::read_through_many_async).
    ///
    /// # Panics
    /// If `load` asks for a key that only it can provide, directly or through other loads, or brings
    /// [`Loaded::not_modified`], since it is shown no old values.
    pub async fn get_many_or_load<'k, Q, I, T, F>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
        mut load: impl FnMut(Vec<K>) -> F,
    ) -> Vec<Option<V>>
    where
        Q: Hash + ToKey<K> + ?Sized + 'k,
        V: Clone,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
        F: Future<Output = I>,
    {
        let load = |missing| {
            let load = load(missing);
            async { Ok::<_, Infallible>(load.await) }
        };
        let loaded = self.try_get_many_or_load(keys, load).await;
        loaded.unwrap_or_else(cannot_fail)
    }

    /// As [`try_get_many_or_insert_with`](Self::try_get_many_or_insert_with), for tasks.
    ///
    /// # Errors
    /// As there.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// # use haybox::Loaded;
    /// # async fn query(ids: Vec<u32>) -> Result<Vec<(u32, String)>, std::io::Error> {
    /// #     Ok(ids.into_iter().map(|id| (id, id.to_string())).collect())
    /// # }
    /// let names = haybox::Cache::<u32, String>::new(100);
    /// // SELECT id, name FROM people WHERE id IN (…)
    /// let found = names.try_get_many_or_load(&[1, 2, 3], query).await?;
    /// assert_eq!(found[2].as_deref(), Some("3"));
    ///
    /// // With tags, as for a loader of one key.
    /// let tagged = async |ids: Vec<u32>| {
    ///     let rows = query(ids).await?;
    ///     let tag = |(id, name)| (id, Loaded::new(name).tag(&("team", id % 2)));
    ///     Ok::<_, std::io::Error>(rows.into_iter().map(tag))
    /// };
    /// names.try_get_many_or_load(&[4, 5, 6], tagged).await?;
    /// names.invalidate_tag(&("team", 0));
    /// assert_eq!(names.get_many(&[4, 5, 6]), [None, Some("5".into()), None]);
    /// # Ok::<(), haybox::LoadError<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn try_get_many_or_load<'k, Q, E, I, T, F>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
        load: impl FnMut(Vec<K>) -> F,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized + 'k,
        V: Clone,
        E: Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
        F: Future<Output = Result<I, E>>,
    {
        let keys = self.hashed(keys);
        let number = keys.len();
        let call = Call::new(true, self.engine.terms(None));
        let nobody = |_: &[&Q], leaders| Offered::NoTaker(leaders);
        let grow = |missing| self.grow_for_loads(missing);
        let loading = self.engine.load_many_async(call, keys, grow, load, nobody);
        let loaded = loading.await;
        self.grow_for(number);
        loaded
    }

    pub(crate) fn hashed<'k, Q>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
    ) -> Vec<(KeyHash, &'k Q)>
    where
        Q: Hash + ?Sized + 'k,
    {
        keys.into_iter().map(|key| (self.hash(key), key)).collect()
    }

    /// Has the table grow before so many loads begin.
    pub(crate) fn grow_for_loads(&self, loads: usize) {
        self.engine.expect_more(loads, |key| self.hash(key));
        (0..loads).for_each(|_| self.engine.grow_for_loads(|key| self.hash(key)));
    }

    pub(crate) fn grow_for(&self, entries: usize) {
        (0..entries).for_each(|_| self.grow());
    }
}

/// Of loaders that cannot fail there is one error left.
#[track_caller]
fn cannot_fail<V>(error: LoadError<Infallible>) -> V {
    match error {
        LoadError::Failed(never) => match *never {},
        LoadError::Reentrant => panic!("{REENTRANT}"),
        LoadError::TimedOut => panic!("{TIMED_OUT}"),
    }
}
