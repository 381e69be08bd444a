//! All that reads the files of a store, on arbitrary files.
//!
//! ```text
//! TMPDIR=/dev/shm cargo +nightly fuzz run -s none reader fuzz/corpus/reader tests/persist/corpus
//! ```
//!
//! New inputs go to the first directory. An input that fails is in `fuzz/artifacts/reader`; put it
//! into `tests/persist/corpus`, which the test `corpus` reads.

#![no_main]

#[path = "../../tests/persist/reader.rs"]
#[allow(dead_code, reason = "the tests make inputs with it, too")]
mod reader;

libfuzzer_sys::fuzz_target!(|input: &[u8]| reader::read(input));
