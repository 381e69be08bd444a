//! Bugs that other caches shipped. Each test names the issue that it is about.

mod bounds;
mod callbacks;
mod compute;
mod expiry;
mod hashing;
mod loading;
mod memory;
