//! A loader bound to a cache, so that who reads has one value to hold and cannot forget either.

mod many;

pub use many::{ReadThroughMany, ReadThroughManyAsync};

use crate::build_error::BuildError;
use crate::cache::Cache;
use crate::engine::{Behind, Call, Left, Offered, OwnLeader, Start};
use crate::equivalent::Equivalent;
use crate::hash::DefaultHashBuilder;
use crate::load::{Form, Freshness, Full, LoadError, Loaded, Source, Sourced, give};
use crate::to_key::ToKey;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;

type Loader<K, V, E> = dyn Fn(&K, Option<&V>) -> Result<Loaded<V>, E> + Send + Sync;
type Loading<V, E> = Pin<Box<dyn Future<Output = Result<Loaded<V>, E>> + Send>>;
type LoaderAsync<K, V, E> = dyn Fn(K, Option<V>) -> Loading<V, E> + Send + Sync;

/// A cache with the loader of what is missing. From
/// [`Cache::read_through`](crate::Cache::read_through).
///
/// A handle, cheap to clone. The cache can be used by itself as well.
///
/// ```
/// use haybox::{Cache, LoadError, ReadThrough};
///
/// # type Error = std::io::Error;
/// # fn query(_: &u32) -> Result<Option<String>, Error> { Ok(Some("ada".into())) }
/// struct Users {
///     by_id: ReadThrough<u32, String, Error>,
/// }
///
/// let users = Users {
///     // SELECT name FROM users WHERE id = ?1
///     by_id: Cache::new(10_000).read_through(|id| query(id)),
/// };
/// assert_eq!(users.by_id.get(&7)?.as_deref(), Some("ada"));
/// users.by_id.invalidate(&7);
/// # Ok::<(), LoadError<Error>>(())
/// ```
pub struct ReadThrough<K, V, E, S = DefaultHashBuilder> {
    cache: Cache<K, V, S>,
    loader: Arc<Loader<K, V, E>>,
    freshness: Option<Arc<Freshness>>,
}

/// As [`ReadThrough`], for tasks. From
/// [`Cache::read_through_async`](crate::Cache::read_through_async).
///
/// Both kinds may share one cache, and then share its loads, too.
pub struct ReadThroughAsync<K, V, E, S = DefaultHashBuilder> {
    cache: Cache<K, V, S>,
    loader: Arc<LoaderAsync<K, V, E>>,
    freshness: Option<Arc<Freshness>>,
}

/// Binding a loader to a cache.
impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher + Clone,
{
    /// Binds a loader to the cache. It returns a `Result` of a value, of an `Option` of one, or of
    /// a [`Loaded`], which can say more: a TTL, tags, a weight. The error goes to all who wait for
    /// the load, on whatever threads, so it is `Send` and `Sync`: a `Box<dyn Error + Send + Sync>`,
    /// for one, and not a `Box<dyn Error>`.
    ///
    /// ```compile_fail,E0277
    /// # use std::error::Error;
    /// let cache = haybox::Cache::<u32, u32>::new(10);
    /// let users = cache.read_through(|id| Ok::<_, Box<dyn Error>>(*id));
    /// ```
    ///
    /// The loader is kept as long as the handle, so it owns what it uses: give it a clone of the
    /// connection pool, and `move`. For an example see [`ReadThrough`].
    #[must_use = "a bound loader loads nothing before it is asked"]
    pub fn read_through<E, T>(
        &self,
        load: impl Fn(&K) -> Result<T, E> + Send + Sync + 'static,
    ) -> ReadThrough<K, V, E, S>
    where
        E: Send + Sync + 'static,
        T: Into<Loaded<V>>,
    {
        self.read_through_revalidating(move |key, _| load(key))
    }

    /// As [`read_through`](Self::read_through), with a loader that is shown the old value, if there
    /// is one, and may answer [`Loaded::not_modified`].
    ///
    /// There is an old value when a live one is refreshed, and when one is kept beyond its TTL by
    /// [`Freshness::stale_if_error`].
    ///
    /// ```
    /// use haybox::{Cache, Freshness, Loaded};
    /// use std::time::Duration;
    ///
    /// #[derive(Clone)]
    /// struct Page { etag: String, text: String }
    /// # struct Answer { status: u16, page: Page }
    /// # fn request(_: &str, _: Option<&str>) -> Result<Answer, std::io::Error> {
    /// #     let page = Page { etag: "v1".into(), text: "hay".into() };
    /// #     Ok(Answer { status: 200, page })
    /// # }
    ///
    /// let cache: Cache<String, Page> = Cache::builder()
    ///     .max_entries(1_000)
    ///     .time_to_live(Duration::from_secs(60))
    ///     .freshness(Freshness::new().stale_if_error(Duration::from_secs(3600)))
    ///     .build()?;
    /// let pages = cache.read_through_revalidating(|url, old| {
    ///     // GET, with If-None-Match where there is an old page.
    ///     let answer = request(url, old.map(|page| page.etag.as_str()))?;
    ///     Ok::<_, std::io::Error>(match answer.status {
    ///         304 => Loaded::not_modified(),
    ///         _ => Loaded::new(answer.page),
    ///     })
    /// });
    /// assert_eq!(pages.get("/")?.map(|page| page.text).as_deref(), Some("hay"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "a bound loader loads nothing before it is asked"]
    pub fn read_through_revalidating<E, T>(
        &self,
        load: impl Fn(&K, Option<&V>) -> Result<T, E> + Send + Sync + 'static,
    ) -> ReadThrough<K, V, E, S>
    where
        E: Send + Sync + 'static,
        T: Into<Loaded<V>>,
    {
        ReadThrough {
            cache: self.clone(),
            loader: Arc::new(move |key, old| load(key, old).map(T::into)),
            freshness: None,
        }
    }

    /// As [`read_through`](Self::read_through), with a loader whose result is a future. The future
    /// owns what it uses, too, so the loader makes a clone for each. The error is `Send` and `Sync`,
    /// as there.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// # #[derive(Clone)]
    /// # struct Pool;
    /// # async fn query(_: &Pool, _: u32) -> Result<Option<String>, std::io::Error> { Ok(Some("ada".into())) }
    /// # let pool = Pool;
    /// let cache = haybox::Cache::<u32, String>::new(10_000);
    /// let users = cache.read_through_async(move |id| {
    ///     let pool = pool.clone();
    ///     async move { query(&pool, id).await }
    /// });
    /// assert_eq!(users.get(&7).await?.as_deref(), Some("ada"));
    /// # Ok::<(), haybox::LoadError<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// What only one request has, such as its body, its headers or a trace id, comes in by a handle
    /// that is made for this request. That takes two small allocations, and the loads of all
    /// handles of a cache are shared: one of those who ask at once loads, with its own loader. So
    /// the key has to say all that the value depends on.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// use haybox::{Cache, Loaded};
    /// use std::time::Duration;
    ///
    /// struct Request { path: String, body: String }
    /// # async fn send(path: String, body: String) -> Result<String, std::io::Error> { Ok(path + &body) }
    /// let cache = Cache::<(String, u64), String>::new(10_000);
    /// let answer = async |request: Request, digest: u64| {
    ///     let key = (request.path, digest);
    ///     let upstream = cache.read_through_async(move |(path, _)| {
    ///         let body = request.body.clone();
    ///         async move { send(path, body).await.map(|text| Loaded::new(text).ttl(Duration::from_secs(9))) }
    ///     });
    ///     upstream.get(&key).await
    /// };
    /// let request = Request { path: "/ask".into(), body: "hay?".into() };
    /// assert_eq!(answer(request, 7).await?.as_deref(), Some("/askhay?"));
    /// # Ok::<(), haybox::LoadError<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use = "a bound loader loads nothing before it is asked"]
    pub fn read_through_async<E, T, F>(
        &self,
        load: impl Fn(K) -> F + Send + Sync + 'static,
    ) -> ReadThroughAsync<K, V, E, S>
    where
        E: Send + Sync + 'static,
        T: Into<Loaded<V>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.read_through_revalidating_async(move |key, _| load(key))
    }

    /// As [`read_through_async`](Self::read_through_async), with a loader that is given the old
    /// value, as for [`read_through_revalidating`](Self::read_through_revalidating).
    #[must_use = "a bound loader loads nothing before it is asked"]
    pub fn read_through_revalidating_async<E, T, F>(
        &self,
        load: impl Fn(K, Option<V>) -> F + Send + Sync + 'static,
    ) -> ReadThroughAsync<K, V, E, S>
    where
        E: Send + Sync + 'static,
        T: Into<Loaded<V>>,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let load = move |key, old| -> Loading<V, E> {
            let load = load(key, old);
            Box::pin(async { load.await.map(T::into) })
        };
        ReadThroughAsync {
            cache: self.clone(),
            loader: Arc::new(load),
            freshness: None,
        }
    }
}

macro_rules! handles {
    ($($name:ident)*) => {$(
        impl<K, V, E, S: Clone> Clone for $name<K, V, E, S> {
            fn clone(&self) -> Self {
                Self {
                    cache: self.cache.clone(),
                    loader: Arc::clone(&self.loader),
                    freshness: self.freshness.clone(),
                }
            }
        }

        impl<K, V, E, S> fmt::Debug for $name<K, V, E, S> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.debug_as(stringify!($name), f)
            }
        }

        impl<K, V, E, S> $name<K, V, E, S> {
            /// The cache behind it.
            #[must_use]
            pub fn cache(&self) -> &Cache<K, V, S> {
                &self.cache
            }

            pub(super) fn debug_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(name)
                    .field("cache", &self.cache)
                    .field("freshness", &self.freshness)
                    .finish_non_exhaustive()
            }
        }

        impl<K, V, E, S> $name<K, V, E, S>
        where
            K: Hash + Eq,
            V: Clone,
            S: BuildHasher + Clone,
        {
            /// Another handle, whose calls go by this freshness instead of the cache's own. It may
            /// be made for a single call.
            ///
            /// How long a value is kept beyond its TTL is decided by the call that loads it, so a
            /// longer [`stale_if_error`](Freshness::stale_if_error) counts from the next load on.
            /// Nor is an age known of values that were stored by other calls, unless the cache has
            /// a freshness itself. Costs 24 bytes per entry, as that does, which
            /// [`max_memory`](crate::CacheBuilder::max_memory) counts only where the cache has one.
            /// What a loader says of a value goes before it: [`Loaded::refresh_after`].
            ///
            /// # Errors
            /// If the freshness makes no sense; the error names the setting.
            ///
            /// ```
            /// # fn query(id: &u32) -> Result<u32, std::io::Error> { Ok(id * 2) }
            /// use haybox::{Cache, Freshness};
            /// use std::time::Duration;
            ///
            /// let refresh_after = |seconds| Freshness::new().refresh_after(Duration::from_secs(seconds));
            /// let cache = Cache::builder().max_entries(1_000).freshness(refresh_after(60)).build()?;
            /// let stock = cache.read_through(query);
            /// // The till has what is older than a second loaded behind it, all others after a minute.
            /// let stock_at_till = stock.with_freshness(refresh_after(1))?;
            /// assert_eq!(stock_at_till.get(&7)?, Some(14));
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            pub fn with_freshness(&self, freshness: Freshness) -> Result<Self, BuildError> {
                freshness.check()?;
                Ok(Self {
                    freshness: Some(Arc::new(freshness)),
                    ..self.clone()
                })
            }

            /// Removes the value, and overtakes a load that is under way; see
            /// [`Cache::invalidate`].
            pub fn invalidate<Q>(&self, key: &Q)
            where
                Q: Hash + Equivalent<K> + ?Sized,
            {
                self.cache.invalidate(key);
            }

            pub(super) fn terms(&self) -> Option<&Freshness> {
                self.cache.engine().terms(self.freshness.as_deref())
            }
        }
    )*};
}
handles!(ReadThrough ReadThroughAsync);

impl<K, V, E, S> ReadThrough<K, V, E, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: BuildHasher + Clone,
{
    /// The value, loaded if it is missing or not fresh enough; `None` if there is none.
    ///
    /// It keeps what [every loading call](Cache#what-every-loading-call-keeps) of a cache does.
    /// What is loaded behind callers runs on threads of the process's own, up to eight, which start
    /// as they are needed and are there for all caches; 256 more loads may wait for one of them. One
    /// more is not begun: the caller gets the old value, it counts as
    /// [refused](crate::Stats::refused_refreshes), and the next caller offers it again. Who comes
    /// when the old value has expired, and its load has not begun, loads it instead of waiting.
    ///
    /// # Errors
    /// [`LoadError::Failed`] with the loader's error, [`LoadError::TimedOut`] if the freshness has
    /// a time-out, [`LoadError::Reentrant`] if the loader asks for a key that only it can provide.
    pub fn get<Q>(&self, key: &Q) -> Result<Option<V>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.get_as::<Full, _>(key)
    }

    /// As [`get`](Self::get), and where the answer has come from.
    ///
    /// ```
    /// # fn query(id: &u32) -> Result<String, std::io::Error> { Ok(format!("user {id}")) }
    /// use haybox::{Cache, Source};
    ///
    /// let users = Cache::<u32, String>::new(10_000).read_through(query);
    /// assert_eq!(users.get_with_source(&7)?.1, Source::Loaded);
    /// let (user, source) = users.get_with_source(&7)?;
    /// assert_eq!(user.as_deref(), Some("user 7"));
    /// assert_eq!(format!("X-Cache: {source}"), "X-Cache: hit");
    /// # Ok::<(), haybox::LoadError<std::io::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn get_with_source<Q>(&self, key: &Q) -> Result<(Option<V>, Source), LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.get_as::<Sourced, _>(key)
    }

    fn get_as<F, Q>(&self, key: &Q) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V, Brought = Loaded<V>>,
        Q: Hash + ToKey<K> + ?Sized,
    {
        let hash = self.cache.hash(key);
        let terms = self.terms();
        match self.cache.engine().start(hash, key, false, terms) {
            Start::Hit(value) => Ok(give::<F, V>(Some(value), Source::Hit)),
            Start::Missed(None) => self.load::<F, _>(key, Call::new(false, terms)),
            Start::Missed(Some(leader)) => {
                let load = || (self.loader)(&key.to_key(), None);
                let loaded = leader.run::<F, _, _>(key, load);
                self.cache.grow();
                loaded
            }
        }
    }

    /// Loads the value anew, even if it is fresh, or waits for a load that is under way. Everybody
    /// else gets the old one meanwhile, and goes on with it if the load fails.
    ///
    /// # Errors
    /// As [`get`](Self::get), also where there is an old value.
    pub fn refresh<Q>(&self, key: &Q) -> Result<Option<V>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.load::<Full, _>(key, Call::new(false, self.terms()).insisting())
    }

    fn load<F, Q>(&self, key: &Q, call: Call<'_, V>) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V, Brought = Loaded<V>>,
        Q: Hash + ToKey<K> + ?Sized,
    {
        let load = |old: Option<V>| (self.loader)(&key.to_key(), old.as_ref());
        let at = (self.cache.hash(key), key);
        self.cache.grow_for_loads(1);
        let loaded = self
            .cache
            .engine()
            .load::<F, _, _>(call, at, load, |leader, old| self.offer(key, leader, old));
        self.cache.grow();
        loaded
    }

    /// Has a thread of the pool go on with a load.
    fn offer<'e, Q>(
        &'e self,
        key: &Q,
        leader: OwnLeader<'e, K, V>,
        old: Option<V>,
    ) -> Offered<OwnLeader<'e, K, V>>
    where
        Q: ToKey<K> + ?Sized,
    {
        let engine = self.cache.shared_engine();
        let loader = Arc::clone(&self.loader);
        let load = move |loads: &[Left<K, V>]| {
            let Left { key, old, .. } = &loads[0];
            loader(key, old.as_ref()).map(|loaded| vec![loaded])
        };
        let behind = Behind::new(&engine, [(key.to_key(), leader, old)], self.terms());
        match behind.give_to_pool(load) {
            Ok(()) => Offered::Taken,
            Err(behind) => {
                let leader = behind.attach(self.cache.engine()).pop();
                Offered::Refused(leader.expect("one was offered"))
            }
        }
    }
}

impl<K, V, E, S> ReadThroughAsync<K, V, E, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: BuildHasher + Clone,
{
    /// The value, loaded if it is missing or not fresh enough; `None` if there is none.
    ///
    /// As [`ReadThrough::get`]. Without a [`spawner`](crate::CacheBuilder::spawner) the caller that
    /// notices that a value is missing or due loads it, and if its future is dropped its load ends
    /// with it. Where those who ask may be gone sooner than a load takes, as the clients of a web
    /// server, nothing might ever be stored. With one, loads run there: behind callers that are
    /// given an old value, and to their end when all callers have gone.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), haybox::BuildError> {
    /// let cache = haybox::Cache::<u32, String>::builder()
    ///     .max_entries(10_000)
    ///     .spawner(|load| drop(tokio::spawn(load)))
    ///     .build()?;
    /// let users = cache.read_through_async(|id| async move { Ok::<_, std::io::Error>(format!("user {id}")) });
    /// tokio::select! {
    ///     biased;
    ///     _ = users.get(&7) => unreachable!("the load has not run yet"),
    ///     () = std::future::ready(()) => println!("the client hangs up"),
    /// }
    /// tokio::task::yield_now().await;
    /// assert_eq!(cache.get(&7).as_deref(), Some("user 7"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn get<Q>(&self, key: &Q) -> Result<Option<V>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.get_as::<Full, _>(key).await
    }

    /// As [`get`](Self::get), and where the answer has come from; as
    /// [`ReadThrough::get_with_source`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_with_source<Q>(&self, key: &Q) -> Result<(Option<V>, Source), LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.get_as::<Sourced, _>(key).await
    }

    async fn get_as<F, Q>(&self, key: &Q) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V, Brought = Loaded<V>>,
        Q: Hash + ToKey<K> + ?Sized,
    {
        let engine = self.cache.engine();
        let hash = self.cache.hash(key);
        let terms = self.terms();
        if engine.spawner().is_some() {
            return match engine.read_fresh(hash, key, terms) {
                Some(value) => {
                    // As in `load`: what a burst has stored may be all that is ever asked for.
                    self.cache.grow();
                    Ok(give::<F, V>(Some(value), Source::Hit))
                }
                None => self.load::<F, _>(key, Call::new(true, terms)).await,
            };
        }
        match engine.start(hash, key, true, terms) {
            Start::Hit(value) => Ok(give::<F, V>(Some(value), Source::Hit)),
            Start::Missed(None) => self.load::<F, _>(key, Call::new(true, terms)).await,
            Start::Missed(Some(leader)) => {
                let load = || (self.loader)(key.to_key(), None);
                let loaded = leader.run_async::<F, _, _, _>(key, load).await;
                self.cache.grow();
                loaded
            }
        }
    }

    /// Loads the value anew, even if it is fresh; as [`ReadThrough::refresh`].
    ///
    /// # Errors
    /// As there.
    pub async fn refresh<Q>(&self, key: &Q) -> Result<Option<V>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.load::<Full, _>(key, Call::new(true, self.terms()).insisting())
            .await
    }

    async fn load<F, Q>(&self, key: &Q, call: Call<'_, V>) -> Result<F::Given, LoadError<E>>
    where
        F: Form<V, Brought = Loaded<V>>,
        Q: Hash + ToKey<K> + ?Sized,
    {
        let load = |old| (self.loader)(key.to_key(), old);
        let at = (self.cache.hash(key), key);
        let engine = self.cache.engine();
        let is_left_behind = engine.spawner().is_some();
        if is_left_behind {
            // For an entry that was stored for a caller that had gone: its task has no hasher. Now,
            // since this caller may go as well.
            self.cache.grow();
        }
        self.cache.grow_for_loads(1);
        let call = call.leaving_behind(is_left_behind);
        let loaded = engine
            .load_async::<F, _, _, _>(call, at, load, |leader, old| self.offer(key, leader, old));
        let loaded = loaded.await;
        self.cache.grow();
        loaded
    }

    /// Has a task go on with a load.
    fn offer<'e, Q>(
        &'e self,
        key: &Q,
        leader: OwnLeader<'e, K, V>,
        old: Option<V>,
    ) -> Offered<OwnLeader<'e, K, V>>
    where
        Q: ToKey<K> + ?Sized,
    {
        let Some(spawner) = self.cache.engine().spawner() else {
            return Offered::NoTaker(leader);
        };
        let engine = self.cache.shared_engine();
        let (owned, loader, shown) = (key.to_key(), Arc::clone(&self.loader), old.clone());
        let load = move || async move { loader(owned, shown).await.map(|loaded| vec![loaded]) };
        let behind = Behind::new(&engine, [(key.to_key(), leader, old)], self.terms());
        behind.spawn(spawner, load);
        Offered::Taken
    }
}
