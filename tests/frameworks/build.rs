//! Takes the tests of the frameworks' own stores out of their published packages, where cargo has
//! unpacked them, and puts this crate's store in the place of theirs. Nothing else is changed, and
//! what is to be changed must be found: a release that words its tests differently fails to build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    println!("cargo::rerun-if-changed=build.rs");
    let packages = Packages::of_this_build();
    for version in ["0.14", "0.15"] {
        let name = format!("tower_sessions_{}.rs", version.replace('.', "_"));
        write(&name, &tower_sessions(&packages, version));
    }
    write("actix_session.rs", &actix_session(&packages));
}

/// The tests of the layer (`tests/`), of the service in it, and of the store in memory.
fn tower_sessions(packages: &Packages, version: &str) -> String {
    let layer = packages.find("tower-sessions", version);
    let store = packages.find("tower-sessions-memory-store", version);
    let ours = "use haybox::session::Sessions as MemoryStore;";

    let routes = replace(
        &read(&layer.join("tests/integration-tests.rs")),
        &[
            (
                "mod common;",
                &format!(
                    "mod common {{ {} }}",
                    read(&layer.join("tests/common/mod.rs"))
                ),
            ),
            (
                "#[cfg(all(test, feature = \"axum-core\", feature = \"memory-store\"))]",
                "",
            ),
            (
                "use tower_sessions::{MemoryStore, SessionManagerLayer};",
                &format!("{ours} use tower_sessions::SessionManagerLayer;"),
            ),
        ],
    );
    let service = replace(
        &from(&read(&layer.join("src/service.rs")), "mod tests {"),
        &[
            ("use tower_sessions_memory_store::MemoryStore;", ours),
            (
                "use crate::session::{Id, Record};",
                "use tower_sessions::session::{Id, Record};",
            ),
        ],
    );
    let memory = from(&read(&store.join("src/lib.rs")), "mod tests {");
    format!(
        "{routes}
        mod service {{
            use http::{{Request, Response}};
            use tower::{{Layer, Service}};
            use tower_cookies::{{Cookie, cookie::SameSite}};
            use tower_sessions::{{Expiry, Session, SessionManagerLayer, SessionStore}};
            {service}
        }}
        mod memory_store {{
            {ours}
            use time::OffsetDateTime;
            use tower_sessions::{{session::Record, SessionStore}};
            {memory}
        }}"
    )
}

/// The acceptance tests for any store, and what actix-session runs beside them against its own in
/// Redis; but for one that writes into Redis by itself.
fn actix_session(packages: &Packages) -> String {
    let package = packages.find("actix-session", "0.11");
    let helpers = replace(
        &from(&read(&package.join("src/lib.rs")), "pub mod test_helpers {"),
        &[
            (
                "use crate::{config::CookieContentSecurity, storage::SessionStore};",
                "use actix_session::{config::CookieContentSecurity, storage::SessionStore};",
            ),
            (
                "use crate::{\n            config",
                "use crate::test_helpers::key; use actix_session::{\n            config",
            ),
            ("test_helpers::key,\n", ""),
        ],
    );
    let redis = read(&package.join("src/storage/redis_rs.rs"));
    let tests: String = [
        "test_session_workflow",
        "loading_a_missing_session_returns_none",
        "updating_of_an_expired_state_is_handled_gracefully",
    ]
    .iter()
    .map(|name| {
        function(
            &redis,
            &format!("    #[actix_web::test]\n    async fn {name}"),
        )
    })
    .collect();
    format!("{helpers}\n{tests}")
}

/// Where cargo has unpacked what this package is built from.
struct Packages(String);

impl Packages {
    fn of_this_build() -> Self {
        let cargo = env::var_os("CARGO").expect("cargo says which cargo it is");
        let target = env::var_os("TARGET").expect("cargo says what it builds for");
        let output = Command::new(cargo)
            .args([
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--filter-platform",
            ])
            .arg(target)
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self(String::from_utf8(output.stdout).expect("JSON is UTF-8"))
    }

    fn find(&self, name: &str, version: &str) -> PathBuf {
        let paths = self.0.split("\"manifest_path\":\"").skip(1);
        let mut paths = paths.map(|rest| Path::new(rest.split('"').next().unwrap_or_default()));
        let folder = format!("{name}-{version}.");
        let found = paths.find_map(|path| {
            let parent = path.parent()?;
            let own = parent.file_name()?.to_str()?;
            own.starts_with(&folder).then(|| parent.to_owned())
        });
        found.unwrap_or_else(|| panic!("{name} {version} is not among the dependencies"))
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(name: &str, text: &str) {
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to write"));
    fs::write(folder.join(name), text).expect("cargo's folder can be written to");
}

/// All from the only place where `start` stands.
fn from(text: &str, start: &str) -> String {
    let (_, rest) = once(text, start);
    format!("{start}{rest}")
}

/// From the only place where `start` stands to the end of that function.
fn function(text: &str, start: &str) -> String {
    let (_, rest) = once(text, start);
    let end = "\n    }\n";
    let (body, _) = rest.split_once(end).expect("a function ends");
    format!("{start}{body}{end}")
}

fn replace(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (old, new)| {
        let (before, after) = once(&text, old);
        format!("{before}{new}{after}")
    })
}

fn once<'t>(text: &'t str, part: &str) -> (&'t str, &'t str) {
    assert_eq!(
        text.matches(part).count(),
        1,
        "this is to be there once: {part}"
    );
    text.split_once(part).expect("it is there")
}
