//! Queues that end with their process.

use crate::queue::message::Entry;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::marker::PhantomData;

#[derive(Debug)]
pub(in crate::queue) struct Kept<T>(PhantomData<fn() -> T>);

pub(in crate::queue) type NotKept = Infallible;
pub(in crate::queue) type NotSure = Infallible;

/// What is to be waited for before a push is acknowledged: nothing.
#[derive(Debug, Default)]
pub(in crate::queue) struct Pending(());

impl<T> Kept<T> {
    pub(in crate::queue) fn nowhere() -> Self {
        Self(PhantomData)
    }

    #[inline(always)]
    pub(in crate::queue) fn reserve(&mut self, _id: u64) {}

    #[inline(always)]
    pub(in crate::queue) fn all_so_far(&self) -> Pending {
        Pending::default()
    }

    #[inline(always)]
    pub(in crate::queue) fn put(&mut self, _: &Entry<T>, _now: u64) -> Result<Pending, NotKept> {
        Ok(Pending::default())
    }

    #[inline(always)]
    pub(in crate::queue) fn rewrite(&mut self, _: &Entry<T>, _is_dead: bool, _now: u64) {}

    #[inline(always)]
    pub(in crate::queue) fn remove(&mut self, _id: u64) {}

    #[inline(always)]
    pub(in crate::queue) fn validate(&self, _ids: &BTreeSet<u64>) {}
}

#[inline(always)]
pub(in crate::queue) fn check(_is_kept: bool) {}

#[inline(always)]
pub(in crate::queue) fn check_not_keeping(_is_kept: bool) {}

#[inline(always)]
pub(in crate::queue) fn is_keeping(_is_kept: bool) -> bool {
    false
}

#[inline(always)]
pub(in crate::queue) fn is_off_limits(_is_kept: bool) -> bool {
    false
}

#[inline(always)]
pub(in crate::queue) fn wait(_: Pending) -> Result<(), NotSure> {
    Ok(())
}

pub(in crate::queue) async fn wait_async(_: Pending) -> Result<(), NotSure> {
    Ok(())
}

/// There is always room.
#[derive(Default)]
pub(in crate::queue) struct FullWait(());

impl FullWait {
    pub(in crate::queue) fn room(&mut self, refusal: &mut NotKept) -> Option<Room> {
        match *refusal {}
    }
}

pub(in crate::queue) enum Room {}

impl Room {
    pub(in crate::queue) fn wait(self) -> bool {
        match self {}
    }

    pub(in crate::queue) async fn wait_async(self) -> bool {
        match self {}
    }
}
