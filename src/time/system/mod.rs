//! The clocks of the system: a precise one, and one that may lag by less than [`GUARD`] and costs less.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod other;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use linux::{GUARD, coarse, now};
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use other::{GUARD, coarse, now};
