//! Nothing: see `build.rs` and `tests`.
