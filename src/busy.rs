//! What a thread is in the middle of, so that code of the user's which it runs there and which
//! comes back to the same thing does not wait for its own thread.

use crate::sync::thread_cell;
use std::cell::Cell;
use std::ptr;

/// Who nests deeper is taken to be in the middle of everything.
const DEPTH: usize = 8;

/// The addresses of things, and how many they are.
#[derive(Clone, Copy)]
struct Stack {
    addresses: [usize; DEPTH],
    len: usize,
}

thread_cell!(UNDER_WAY: Stack = Stack { addresses: [0; DEPTH], len: 0 });

/// Marks this thread as one that is in the middle of something, until it is dropped.
pub(crate) struct Busy(Stack);

impl Busy {
    pub(crate) fn with<T>(thing: &T) -> Self {
        let before = UNDER_WAY.with(Cell::get);
        let mut stack = before;
        if let Some(address) = stack.addresses.get_mut(stack.len) {
            *address = ptr::from_ref(thing).addr();
        }
        stack.len += 1;
        UNDER_WAY.with(|under_way| under_way.set(stack));
        Self(before)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        UNDER_WAY.with(|under_way| under_way.set(self.0));
    }
}

/// Whether this thread is in the middle of something.
pub(crate) fn is_busy_with<T>(thing: &T) -> bool {
    let stack = UNDER_WAY.with(Cell::get);
    let address = ptr::from_ref(thing).addr();
    stack.len > DEPTH || stack.addresses[..stack.len].contains(&address)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_busy_with_what_it_is_in_the_middle_of_and_with_nothing_else() {
        let things = [0u8; 3];
        let [a, b, c] = &things;
        let busy = |expected| assert_eq!([a, b, c].map(is_busy_with), expected);
        let outer = Busy::with(a);
        busy([true, false, false]);
        let inner = Busy::with(c);
        busy([true, false, true]);
        drop(inner);
        busy([true, false, false]);
        let deep: Vec<_> = (0..DEPTH).map(|_| Busy::with(a)).collect();
        busy([true; 3]);
        deep.into_iter().rev().for_each(drop);
        busy([true, false, false]);
        drop(outer);
        busy([false; 3]);
    }
}
