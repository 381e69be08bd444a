//! A loader of several keys bound to a cache.
//!
//! What concerns one key is left to a [`ReadThrough`] whose loader asks for that key alone.

use super::{ReadThrough, ReadThroughAsync};
use crate::build_error::BuildError;
use crate::cache::Cache;
use crate::engine::{Behind, Call, Left, Offered, OwnLeader};
use crate::equivalent::Equivalent;
use crate::hash::DefaultHashBuilder;
use crate::load::{Freshness, LoadError, Loaded, Source, in_order};
use crate::to_key::ToKey;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;

type Brought<K, V> = Vec<(K, Loaded<V>)>;
type Loader<K, V, E> = dyn Fn(Vec<K>) -> Result<Brought<K, V>, E> + Send + Sync;
type Loading<K, V, E> = Pin<Box<dyn Future<Output = Result<Brought<K, V>, E>> + Send>>;
type LoaderAsync<K, V, E> = dyn Fn(Vec<K>) -> Loading<K, V, E> + Send + Sync;

/// A cache with a loader that brings several values with one query. From
/// [`Cache::read_through_many`](crate::Cache::read_through_many).
///
/// For what shows lists, or resolves many fields at once: of a hundred rows the three that are not
/// there come with one `SELECT … WHERE id = ANY(…)`, and a row that somebody else is loading is
/// waited for, not asked for again.
///
/// A handle, cheap to clone. The cache can be used by itself as well, and all handles of one share
/// its loads, those of a [`ReadThrough`] too.
///
/// ```
/// use haybox::{Cache, LoadError, ReadThroughMany};
///
/// # type Error = std::io::Error;
/// # fn query(ids: Vec<u32>) -> Result<Vec<(u32, String)>, Error> {
/// #     Ok(ids.into_iter().filter(|id| *id < 4).map(|id| (id, format!("user {id}"))).collect())
/// # }
/// struct Users {
///     by_id: ReadThroughMany<u32, String, Error>,
/// }
///
/// let users = Users {
///     // SELECT id, name FROM users WHERE id = ANY($1)
///     by_id: Cache::new(10_000).read_through_many(|ids| query(ids)),
/// };
/// assert_eq!(users.by_id.get(&2)?.as_deref(), Some("user 2"));
/// // One query for 1 and 9.
/// let names = users.by_id.get_many(&[1, 2, 9])?;
/// assert_eq!(names, [Some("user 1".into()), Some("user 2".into()), None]);
/// # Ok::<(), LoadError<Error>>(())
/// ```
pub struct ReadThroughMany<K, V, E, S = DefaultHashBuilder> {
    one: ReadThrough<K, V, E, S>,
    loader: Arc<Loader<K, V, E>>,
}

/// As [`ReadThroughMany`], for tasks. From
/// [`Cache::read_through_many_async`](crate::Cache::read_through_many_async).
pub struct ReadThroughManyAsync<K, V, E, S = DefaultHashBuilder> {
    one: ReadThroughAsync<K, V, E, S>,
    loader: Arc<LoaderAsync<K, V, E>>,
}

/// Binding a loader of several keys to a cache.
impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + 'static,
    V: 'static,
    S: BuildHasher + Clone,
{
    /// Binds a loader of several keys to the cache. It is given the keys to load, each once, and
    /// returns a `Result` of pairs of a key and a value, in any order: a `Vec`, a `HashMap`, an
    /// iterator. Instead of a value there may be an `Option` of one, or a [`Loaded`], which can say
    /// more: a TTL, tags, a weight. The error is `Send` and `Sync`, as for
    /// [`read_through`](Self::read_through).
    ///
    /// What it does not bring is absent, remembered for the
    /// [`negative_ttl`](crate::CacheBuilder::negative_ttl); what it brings unasked is dropped, and
    /// of two pairs for one key the last counts. It is shown no old values, so it cannot answer
    /// [`Loaded::not_modified`].
    ///
    /// The loader is kept as long as the handle, so it owns what it uses: give it a clone of the
    /// connection pool, and `move`. For an example see [`ReadThroughMany`].
    #[must_use = "a bound loader loads nothing before it is asked"]
    pub fn read_through_many<E, I, T>(
        &self,
        load: impl Fn(Vec<K>) -> Result<I, E> + Send + Sync + 'static,
    ) -> ReadThroughMany<K, V, E, S>
    where
        E: Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
    {
        let loader = move |keys: Vec<K>| load(keys).map(collect);
        let loader: Arc<Loader<K, V, E>> = Arc::new(loader);
        let of_many = Arc::clone(&loader);
        let of_one = move |key: &K| of_many(vec![key.clone()]).map(|brought| only(key, brought));
        ReadThroughMany {
            one: self.read_through(of_one),
            loader,
        }
    }

    /// As [`read_through_many`](Self::read_through_many), with a loader whose result is a future.
    /// The future owns what it uses, too, so the loader makes a clone for each.
    ///
    /// ```
    /// # let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # executor.block_on(async {
    /// # #[derive(Clone)]
    /// # struct Pool;
    /// # async fn query(_: &Pool, ids: Vec<u64>) -> Result<Vec<(u64, String)>, std::io::Error> {
    /// #     Ok(ids.into_iter().map(|id| (id, format!("user {id}"))).collect())
    /// # }
    /// # let pool = Pool;
    /// let cache = haybox::Cache::<u64, String>::new(10_000);
    /// let people = cache.read_through_many_async(move |ids: Vec<u64>| {
    ///     let pool = pool.clone();
    ///     async move { query(&pool, ids).await }
    /// });
    /// let names = people.get_many(&[1, 2, 3]).await?;
    /// assert_eq!(names[2].as_deref(), Some("user 3"));
    /// assert_eq!(people.get(&7).await?.as_deref(), Some("user 7"));
    /// # Ok::<(), haybox::LoadError<std::io::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use = "a bound loader loads nothing before it is asked"]
    pub fn read_through_many_async<E, I, T, F>(
        &self,
        load: impl Fn(Vec<K>) -> F + Send + Sync + 'static,
    ) -> ReadThroughManyAsync<K, V, E, S>
    where
        E: Send + Sync + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
        F: Future<Output = Result<I, E>> + Send + 'static,
        K: Send,
    {
        let loader = move |keys| -> Loading<K, V, E> {
            let load = load(keys);
            Box::pin(async { load.await.map(collect) })
        };
        let loader: Arc<LoaderAsync<K, V, E>> = Arc::new(loader);
        let of_many = Arc::clone(&loader);
        let of_one = move |key: K| {
            let load = of_many(vec![key.clone()]);
            async move { load.await.map(|brought| only(&key, brought)) }
        };
        ReadThroughManyAsync {
            one: self.read_through_async(of_one),
            loader,
        }
    }
}

fn collect<K, V, T: Into<Loaded<V>>>(brought: impl IntoIterator<Item = (K, T)>) -> Brought<K, V> {
    let brought = brought.into_iter();
    brought.map(|(key, loaded)| (key, loaded.into())).collect()
}

/// What was brought for the only key that was asked for.
fn only<K: Hash + Eq + Clone, V>(key: &K, brought: Brought<K, V>) -> Loaded<V> {
    let loaded = in_order([key], brought).pop();
    loaded.expect("there is something for each key")
}

macro_rules! handles {
    ($($name:ident, $one:ident;)*) => {$(
        impl<K, V, E, S: Clone> Clone for $name<K, V, E, S> {
            fn clone(&self) -> Self {
                Self {
                    one: self.one.clone(),
                    loader: Arc::clone(&self.loader),
                }
            }
        }

        impl<K, V, E, S> fmt::Debug for $name<K, V, E, S> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.one.debug_as(stringify!($name), f)
            }
        }

        impl<K, V, E, S> $name<K, V, E, S> {
            /// The cache behind it.
            #[must_use]
            pub fn cache(&self) -> &Cache<K, V, S> {
                self.one.cache()
            }
        }

        impl<K, V, E, S> $name<K, V, E, S>
        where
            K: Hash + Eq,
            V: Clone,
            S: BuildHasher + Clone,
        {
            /// Another handle, whose calls go by this freshness instead of the cache's own. As
            #[doc = concat!("[`", stringify!($one), "::with_freshness`].")]
            ///
            /// # Errors
            /// If the freshness makes no sense; the error names the setting.
            pub fn with_freshness(&self, freshness: Freshness) -> Result<Self, BuildError> {
                Ok(Self {
                    one: self.one.with_freshness(freshness)?,
                    loader: Arc::clone(&self.loader),
                })
            }

            /// Removes the value, and overtakes a load that is under way; see
            /// [`Cache::invalidate`].
            pub fn invalidate<Q>(&self, key: &Q)
            where
                Q: Hash + Equivalent<K> + ?Sized,
            {
                self.one.invalidate(key);
            }
        }
    )*};
}
handles! {
    ReadThroughMany, ReadThrough;
    ReadThroughManyAsync, ReadThroughAsync;
}

impl<K, V, E, S> ReadThroughMany<K, V, E, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: BuildHasher + Clone,
{
    /// The value of one key, for which the loader is asked alone. As [`ReadThrough::get`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// If the loader brings [`Loaded::not_modified`] and there is no old value.
    pub fn get<Q>(&self, key: &Q) -> Result<Option<V>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.one.get(key)
    }

    /// As [`get`](Self::get), and where the answer has come from; as
    /// [`ReadThrough::get_with_source`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As [`get`](Self::get).
    pub fn get_with_source<Q>(&self, key: &Q) -> Result<(Option<V>, Source), LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.one.get_with_source(key)
    }

    /// The values of several keys, in their order, those that are missing or not fresh enough by
    /// one call of the loader; `None` where there is none.
    ///
    /// It keeps what [every loading call](Cache#what-every-loading-call-keeps) of a cache does, for
    /// each key by itself. The loader is given the keys that nobody else is loading; for the others
    /// the call waits, after that. It is called once more for keys that the call had to leave to
    /// others, if their loader panics, is dropped or takes too long.
    ///
    /// | what is to be loaded | how |
    /// | --- | --- |
    /// | values that are [due](Freshness::refresh_after) | the call returns the old ones at once, and one call of the loader behind it brings all of them |
    /// | values that are missing, or both | with one call of the loader, for which the call waits |
    ///
    /// What is loaded behind callers runs on the threads that [`ReadThrough::get`] uses, and is
    /// refused by them, and counted for each key, in the same way.
    ///
    /// # Errors
    /// [`LoadError::Failed`] with the loader's error, which goes to all who wait for one of the keys
    /// that it was given; [`LoadError::TimedOut`] if the freshness has a time-out,
    /// [`LoadError::Reentrant`] if the loader asks for a key that only it can provide. It is no
    /// error where the call has an old value to serve for each key that its loader was given. A
    /// load of another caller that fails is one as well.
    ///
    /// # Panics
    /// If the loader brings [`Loaded::not_modified`].
    pub fn get_many<'k, Q>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized + 'k,
    {
        self.load(keys, Call::new(false, self.one.terms()))
    }

    /// Loads the value of one key anew, even if it is fresh. As [`ReadThrough::refresh`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// If the loader brings [`Loaded::not_modified`] and there is no old value.
    pub fn refresh<Q>(&self, key: &Q) -> Result<Option<V>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.one.refresh(key)
    }

    /// Loads the values of several keys anew, even if they are fresh, with one call of the loader,
    /// or waits for loads that are under way. Everybody else gets the old ones meanwhile, and goes
    /// on with them if the load fails.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many), also where there are old values.
    ///
    /// # Panics
    /// As there.
    pub fn refresh_many<'k, Q>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized + 'k,
    {
        self.load(keys, Call::new(false, self.one.terms()).insisting())
    }

    fn load<'e, 'k, Q>(
        &'e self,
        keys: impl IntoIterator<Item = &'k Q>,
        call: Call<'e, V>,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized + 'k,
    {
        let cache = self.cache();
        let keys = cache.hashed(keys);
        let number = keys.len();
        let load = |keys| (self.loader)(keys);
        let offer = |keys: &[&'k Q], leaders| self.offer(keys, leaders);
        let grow = |missing| cache.grow_for_loads(missing);
        let loaded = cache.engine().load_many(call, keys, grow, load, offer);
        cache.grow_for(number);
        loaded
    }

    /// Has a thread of the pool go on with the loads of some keys.
    fn offer<'e, Q>(
        &'e self,
        keys: &[&Q],
        leaders: Vec<OwnLeader<'e, K, V>>,
    ) -> Offered<Vec<OwnLeader<'e, K, V>>>
    where
        Q: ToKey<K> + ?Sized,
    {
        let loader = Arc::clone(&self.loader);
        let load = move |loads: &[Left<K, V>]| {
            let keys = loads.iter().map(|load| &load.key);
            let brought = loader(keys.clone().cloned().collect());
            brought.map(|brought| in_order(keys, brought))
        };
        let keys = keys.iter().map(|key| (*key).to_key());
        let loads = keys.zip(leaders).map(|(key, leader)| (key, leader, None));
        let behind = Behind::new(&self.cache().shared_engine(), loads, self.one.terms());
        match behind.give_to_pool(load) {
            Ok(()) => Offered::Taken,
            Err(behind) => Offered::Refused(behind.attach(self.cache().engine())),
        }
    }
}

impl<K, V, E, S> ReadThroughManyAsync<K, V, E, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
    S: BuildHasher + Clone,
{
    /// The value of one key, for which the loader is asked alone. As [`ReadThroughAsync::get`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// If the loader brings [`Loaded::not_modified`] and there is no old value; and if it panics in a
    /// task that was spawned for this call, unless there is an old value to serve.
    pub async fn get<Q>(&self, key: &Q) -> Result<Option<V>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.one.get(key).await
    }

    /// As [`get`](Self::get), and where the answer has come from; as
    /// [`ReadThrough::get_with_source`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As [`get`](Self::get).
    pub async fn get_with_source<Q>(&self, key: &Q) -> Result<(Option<V>, Source), LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.one.get_with_source(key).await
    }

    /// The values of several keys, in their order; as [`ReadThroughMany::get_many`].
    ///
    /// Without a [`spawner`](crate::CacheBuilder::spawner) the caller that notices that values are
    /// missing or due loads them, and if its future is dropped its load ends with it, for all of
    /// the keys. With one, all that a call is to load runs there, with one call of the loader, and
    /// to its end when all callers have gone. The call waits for the values that are missing; those
    /// that are due it returns as they are, also where it waits for others.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), haybox::BuildError> {
    /// let cache = haybox::Cache::<u32, String>::builder()
    ///     .max_entries(10_000)
    ///     .spawner(|load| drop(tokio::spawn(load)))
    ///     .build()?;
    /// let users = cache.read_through_many_async(|ids: Vec<u32>| async move {
    ///     let rows = ids.into_iter().map(|id| (id, format!("user {id}")));
    ///     Ok::<_, std::io::Error>(rows)
    /// });
    /// tokio::select! {
    ///     biased;
    ///     _ = users.get_many(&[1, 2, 3]) => unreachable!("the load has not run yet"),
    ///     () = std::future::ready(()) => println!("the client hangs up"),
    /// }
    /// tokio::task::yield_now().await;
    /// assert_eq!(cache.get(&3).as_deref(), Some("user 3"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there, and if the loader panics in a task that was spawned for this call, unless there are
    /// old values to serve.
    pub async fn get_many<'k, Q>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized + 'k,
    {
        self.load(keys, Call::new(true, self.one.terms())).await
    }

    /// Loads the value of one key anew, even if it is fresh. As [`ReadThrough::refresh`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// If the loader brings [`Loaded::not_modified`] and there is no old value; and if it panics in a
    /// task that was spawned for this call, also where there is one.
    pub async fn refresh<Q>(&self, key: &Q) -> Result<Option<V>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized,
    {
        self.one.refresh(key).await
    }

    /// Loads the values of several keys anew, even if they are fresh; as
    /// [`ReadThroughMany::refresh_many`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As [`get_many`](Self::get_many), also where there are old values.
    pub async fn refresh_many<'k, Q>(
        &self,
        keys: impl IntoIterator<Item = &'k Q>,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized + 'k,
    {
        let call = Call::new(true, self.one.terms()).insisting();
        self.load(keys, call).await
    }

    async fn load<'e, 'k, Q>(
        &'e self,
        keys: impl IntoIterator<Item = &'k Q>,
        call: Call<'e, V>,
    ) -> Result<Vec<Option<V>>, LoadError<E>>
    where
        Q: Hash + ToKey<K> + ?Sized + 'k,
    {
        let cache = self.cache();
        let engine = cache.engine();
        let keys = cache.hashed(keys);
        let number = keys.len();
        let is_left_behind = engine.spawner().is_some();
        if is_left_behind {
            // For entries that were stored for callers that had gone, as this one may.
            cache.grow_for(number);
        }
        let call = call.leaving_behind(is_left_behind);
        let load = |keys| (self.loader)(keys);
        let offer = |keys: &[&'k Q], leaders| self.offer(keys, leaders);
        let grow = |missing| cache.grow_for_loads(missing);
        let loading = engine.load_many_async(call, keys, grow, load, offer);
        let loaded = loading.await;
        cache.grow_for(number);
        loaded
    }

    /// Has a task go on with the loads of some keys.
    fn offer<'e, Q>(
        &'e self,
        keys: &[&Q],
        leaders: Vec<OwnLeader<'e, K, V>>,
    ) -> Offered<Vec<OwnLeader<'e, K, V>>>
    where
        Q: ToKey<K> + ?Sized,
    {
        let Some(spawner) = self.cache().engine().spawner() else {
            return Offered::NoTaker(leaders);
        };
        let loader = Arc::clone(&self.loader);
        let keys: Vec<K> = keys.iter().map(|key| (*key).to_key()).collect();
        let loads = keys.iter().cloned().zip(leaders);
        let loads = loads.map(|(key, leader)| (key, leader, None));
        let behind = Behind::new(&self.cache().shared_engine(), loads, self.one.terms());
        let load = move || async move {
            let brought = loader(keys.clone()).await;
            brought.map(|brought| in_order(&keys, brought))
        };
        behind.spawn(spawner, load);
        Offered::Taken
    }
}
