//! Hands the compiler's version to the program, which states it beside the figures.

use std::process::Command;

fn main() {
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_string());
    let version = Command::new(compiler).arg("--version").output();
    let version = version.map_or_else(
        |_| "rustc of an unknown version".to_string(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_string(),
    );
    println!("cargo:rustc-env=PEERS_RUSTC={version}");
    println!("cargo:rerun-if-changed=build.rs");
}
