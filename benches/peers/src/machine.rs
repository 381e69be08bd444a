//! Where and with what was measured.

use crate::peers::{self, redis};
use crate::roles;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub system: String,
    pub kernel: String,
    pub rustc: String,
    /// The commit of the working copy, with a plus where files differ from it.
    pub commit: Option<String>,
    pub date: String,
    pub versions: BTreeMap<String, String>,
    pub command: String,
}

impl Machine {
    pub fn here() -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let system = field(&release, "PRETTY_NAME=")
            .trim_matches('"')
            .to_string();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: processor(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (number_in("/proc/meminfo", "MemTotal:") + (1 << 19)) >> 20,
            system: known(system, std::env::consts::OS),
            kernel: kernel.trim().to_string(),
            rustc: env!("PEERS_RUSTC").to_string(),
            commit: commit(),
            date: today(),
            versions: versions(include_str!("../Cargo.lock")),
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        }
    }

    /// What a chart says below itself, in lines: where, with what, and by which command.
    pub fn caption(&self) -> [String; 3] {
        let commit = self.commit.as_deref().unwrap_or("unknown");
        let versions = self.versions.iter();
        let versions: Vec<_> = versions
            .filter(|(name, _)| *name != "haybox")
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        [
            format!(
                "haybox at commit {commit}, {} on {} × {}, {}, {}",
                self.date,
                self.cores,
                self.processor,
                self.system,
                self.rustc_version(),
            ),
            versions.join(", "),
            format!("Options: {}", self.options()),
        ]
    }

    /// The options of the command, without folders.
    pub fn options(&self) -> String {
        known(options(&self.command), "none")
    }

    /// In what figures of two runs differ before anything is measured; none where one can stand for
    /// the other.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let place = |machine: &Self| {
            let (processor, system) = (machine.processor.clone(), machine.system.clone());
            let kernel = machine.kernel.clone();
            (processor, machine.cores, machine.memory_gib, system, kernel)
        };
        let is_known = |commit: &String| !commit.ends_with('+');
        if place(self) != place(other) {
            Some("of another machine")
        } else if self.rustc != other.rustc || self.versions != other.versions {
            Some("of another compiler, or of other versions of the peers")
        } else if self.commit != other.commit || !self.commit.as_ref().is_some_and(is_known) {
            Some("of another commit, or of changes that are in none")
        } else {
            None
        }
    }

    /// Says of a run that has taken over figures of an earlier one when and how both were.
    pub fn join(&mut self, earlier: &Self) {
        self.command = format!("{} ; then {}", earlier.command, self.command);
        if self.date != earlier.date {
            self.date = format!("{} and {}", earlier.date, self.date);
        }
    }

    pub fn rustc_version(&self) -> String {
        self.rustc
            .split(" (")
            .next()
            .unwrap_or_default()
            .to_string()
    }
}

/// The command's options without what tells of the machine's folders: traces are named by the stems
/// of their files, and where the results went is left out.
fn options(command: &str) -> String {
    let stem = |word: &str| {
        let stem = Path::new(word).file_stem();
        stem.map_or(String::new(), |stem| stem.to_string_lossy().into_owned())
    };
    let mut shown = Vec::new();
    let mut option = "";
    for word in command.split_whitespace() {
        // The next command begins.
        if word == ";" {
            option = "";
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ if word.starts_with("--") => (word, None),
            _ => ("", Some(word)),
        };
        if !name.is_empty() {
            option = name;
            if option != "--out" {
                shown.push(option.to_string());
            }
        }
        match (option, value) {
            ("--out", _) | (_, None) => {}
            ("--trace", Some(path)) => shown.push(stem(path)),
            (_, Some(value)) => shown.push(value.to_string()),
        }
    }
    shown.join(" ")
}

fn known(text: String, otherwise: &str) -> String {
    if text.is_empty() {
        otherwise.to_string()
    } else {
        text
    }
}

/// The rest of the first line that starts so.
fn field<'t>(text: &'t str, name: &str) -> &'t str {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines.next().unwrap_or_default().trim()
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name| {
        field(&info, name)
            .trim_start_matches([':', ' ', '\t'])
            .to_string()
    };
    let model = known(value("model name"), std::env::consts::ARCH);
    match value("cpu family").as_str() {
        // Some hypervisors leave the model's number out; the family tells the generation.
        "26" if model == "AMD EPYC" => "AMD EPYC (Zen 5)".to_string(),
        "25" if model == "AMD EPYC" => "AMD EPYC (Zen 3 or 4)".to_string(),
        _ => model,
    }
}

/// A field of a file of the kernel's (sizes are in KiB there), 0 where there is none.
pub fn number_in(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let number = field(&text, name).split_whitespace().next();
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The time that all threads of the process have had a processor.
pub fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let here = env!("CARGO_MANIFEST_DIR");
        let output = Command::new("git")
            .args(["-C", here])
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
        output.status.success().then_some(text)
    };
    let hash = git(&["rev-parse", "--short=10", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--", ":/src"])?;
    Some(if changes.is_empty() { hash } else { hash + "+" })
}

/// The versions of the peers that were built, out of `Cargo.lock`.
fn versions(lock: &str) -> BTreeMap<String, String> {
    let packages: Vec<&str> = lock.split("[[package]]").collect();
    let quoted = |line: &str| line.trim().trim_matches([',', '"']).to_string();
    let value = |package: &str, name| quoted(field(package, name));
    // Where there are several versions of a package, our own list of dependencies names ours.
    let ours = packages
        .iter()
        .find(|package| value(package, "name = ") == env!("CARGO_PKG_NAME"));
    let ours: Vec<String> =
        ours.map_or(Vec::new(), |package| package.lines().map(quoted).collect());
    let mut versions = BTreeMap::new();
    for package in packages {
        let (name, version) = (value(package, "name = "), value(package, "version = "));
        let mut peers = peers::ALL.iter().chain(&roles::PEERS);
        let is_peer = peers.any(|info| info.package == name);
        if is_peer && (ours.contains(&name) || ours.contains(&format!("{name} {version}"))) {
            versions.insert(name, version);
        }
    }
    if let Some(version) = redis::version() {
        versions.insert("redis-server".to_string(), version);
    }
    versions
}

/// The date in UTC.
fn today() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (year, month, day) = civil(since.as_secs() / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// Year, month and day, by counting off years and months.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_454), (2026, 1, 1));
    }

    #[test]
    fn a_caption_ends_with_the_options_and_names_no_folder() {
        let command = "--only hits,speed --out /home/me/results --rounds=9 \
                       --trace /data/me/w36.u64 ../sprite.u64 --quick --out=/tmp/x --trace=/a/b.u64";
        let machine = Machine {
            command: command.to_string(),
            ..Machine::default()
        };
        let caption = machine.caption();
        assert_eq!(
            caption[2],
            "Options: --only hits,speed --rounds 9 --trace w36 sprite --quick --trace b"
        );
        assert_eq!(Machine::default().caption()[2], "Options: none");
    }

    #[test]
    fn figures_of_two_commits_do_not_stand_for_each_other() {
        let machine = |commit: Option<&str>| Machine {
            commit: commit.map(str::to_string),
            ..Machine::default()
        };
        let differ = |one, other| machine(one).difference(&machine(other)).is_some();
        assert!(!differ(Some("a"), Some("a")));
        assert!(differ(Some("a"), Some("b")));
        assert!(differ(Some("a+"), Some("a+")));
        assert!(differ(None, None));
        let more = Machine {
            cores: 2,
            ..machine(Some("a"))
        };
        assert!(more.difference(&machine(Some("a"))).is_some());
    }

    #[test]
    fn of_two_versions_the_one_that_was_built_counts() {
        let lock = "[[package]]\nname = \"dashmap\"\nversion = \"6.2.1\"\n\
                    [[package]]\nname = \"dashmap\"\nversion = \"5.10.3\"\n\
                    [[package]]\nname = \"scc\"\nversion = \"3.1.0\"\n\
                    [[package]]\nname = \"haybox-peers\"\ndependencies = [\n \
                    \"dashmap 5.10.3\",\n \"scc\",\n]\n";
        let versions = versions(lock);
        assert_eq!(versions["dashmap"], "5.10.3");
        assert_eq!(versions["scc"], "3.1.0");
    }
}
