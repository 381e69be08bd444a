//! What came of it, for people.

use super::arguments::{Action, Command};
use super::outcome::{self, Done, Outcome, Problem};
use haybox::persist::check::{FileReport, Inspection, ManifestReport};
use haybox::persist::{Damage, RecoveryReport};
use indicatif::{BinaryBytes, HumanCount};
use std::fmt::Write;
use std::time::SystemTime;

/// What goes to the standard output.
pub fn of(outcome: &Outcome) -> String {
    let mut text = String::new();
    if let Some(inspection) = &outcome.inspection {
        describe(inspection, &mut text);
    }
    match &outcome.result {
        Ok(Done::Verified(report)) => verdict(report, &mut text),
        Ok(Done::Salvaged { to, report }) => {
            let _ = writeln!(
                text,
                "saved {} entries to {}, {}",
                HumanCount(report.entries),
                to.display(),
                size(report.written.bytes)
            );
            losses(&report.recovery, &mut text);
        }
        Ok(Done::Compacted(report)) => {
            let _ = writeln!(
                text,
                "compacted: {} entries in {}, {} freed",
                HumanCount(report.entries),
                size(report.bytes),
                size(report.freed)
            );
        }
        Err(_) => {}
    }
    text
}

/// What goes to stderr: what is wrong, and what to do.
pub fn problem(command: &Command, outcome: &Outcome) -> Option<String> {
    let problem = outcome.result.as_ref().err()?;
    let mut text = format!("error: {}", told(command, problem));
    if let Some(help) = help(command, problem) {
        let _ = write!(text, "\nhelp: {help}");
    }
    Some(text)
}

/// What is wrong, in one sentence.
pub fn told(command: &Command, problem: &Problem) -> String {
    let dir = command.dir.display();
    match problem {
        Problem::NoStore(_) if command.dir.as_os_str().is_empty() => {
            "there is no store: the path of the directory is empty".to_owned()
        }
        Problem::NoStore(found) => format!("there is no store at {dir}: {found}"),
        Problem::Unreadable(error) => format!("cannot read {dir}: {error}"),
        Problem::Check(error) => error.to_string(),
    }
}

/// What this program can do about it.
pub fn help(command: &Command, problem: &Problem) -> Option<String> {
    let dir = command.dir.display();
    match problem {
        Problem::NoStore(_) => Some(
            "give the directory that the program opens: it holds a file MANIFEST, snap-*.db and \
             log-*.wal"
                .to_owned(),
        ),
        Problem::Check(error) if outcome::is_target_taken(error) => {
            Some("give --salvage a directory that is empty or not there".to_owned())
        }
        Problem::Check(error) if outcome::is_salvageable(error) => match command.action {
            Action::Salvage { .. } => None,
            _ => Some(format!(
                "haybox-check {dir} --salvage NEW-DIRECTORY saves what can be read, and leaves \
                 this as it is"
            )),
        },
        _ => None,
    }
}

fn describe(inspection: &Inspection, text: &mut String) {
    match &inspection.manifest {
        Some(manifest) => describe_manifest(manifest, text),
        None => {
            let why = inspection.manifest_error.as_ref();
            let why = why.map_or_else(String::new, ToString::to_string);
            let _ = writeln!(text, "MANIFEST cannot be read: {why}");
        }
    }
    for file in &inspection.files {
        describe_file(file, text);
    }
}

fn describe_manifest(manifest: &ManifestReport, text: &mut String) {
    let kept = manifest.dir_kind.map_or_else(
        || "its kind not recorded".to_owned(),
        |kind| format!("kept for {kind}"),
    );
    let _ = writeln!(
        text,
        "store {}, {kept}, codec {}, schema version {}\nMANIFEST  written {} times, proven on disk \
         up to number {}",
        manifest.store,
        manifest.codec,
        manifest.schema,
        HumanCount(manifest.version),
        manifest.durable_seq
    );
    if manifest.is_distrusted {
        text.push_str("  a sync had failed: the next opening writes all anew\n");
    }
}

fn describe_file(file: &FileReport, text: &mut String) {
    let name = file.path.file_name().unwrap_or_default().display();
    let listed = if file.is_listed { "" } else { ", not listed" };
    let frames = HumanCount(file.frames);
    let _ = writeln!(
        text,
        "{name}  {}, {frames} frames{listed}",
        size(file.bytes)
    );
    let counts = [
        (file.puts, "entries"),
        (file.deletes, "deletions"),
        (file.deadlines, "moved deadlines"),
        (file.labels, "invalidated tags"),
        (file.clears, "discards of all"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts = counts.map(|(count, what)| format!("{} {what}", HumanCount(*count)));
    let mut facts: Vec<String> = counts.collect();
    if let Some((first, last)) = file.seqs {
        facts.push(format!("numbers {first} to {last}"));
    }
    if !facts.is_empty() {
        let _ = writeln!(text, "  {}", facts.join(", "));
    }
    if let Some((first, last)) = file.times {
        let _ = writeln!(text, "  written from {} to {}", time(first), time(last));
    }
    for damage in &file.damages {
        let _ = writeln!(text, "  {}", place(damage));
    }
    for part in &file.unreadable {
        let _ = writeln!(text, "  {part}");
    }
}

fn place(damage: &Damage) -> String {
    let Damage {
        offset,
        expected,
        found,
        ..
    } = damage;
    format!("at byte {offset}: expected {expected}, found {found}")
}

fn verdict(report: &RecoveryReport, text: &mut String) {
    if report.damages.is_empty() {
        let _ = writeln!(
            text,
            "sound: {} records of a snapshot and {} of logs, up to number {}",
            HumanCount(report.from_snapshot),
            HumanCount(report.from_log),
            report.last_seq
        );
        return;
    }
    let _ = writeln!(
        text,
        "sound up to number {}; behind it is what a crash cut short ({}), which the next opening \
         moves to quarantine",
        report.last_seq,
        size(report.dropped_bytes)
    );
    losses(report, text);
}

fn losses(report: &RecoveryReport, text: &mut String) {
    for damage in &report.damages {
        let _ = writeln!(text, "  {damage}");
    }
    for part in &report.unreadable {
        let _ = writeln!(text, "  {part}");
    }
    if let Some((first, last)) = report.dropped_seqs {
        let _ = writeln!(text, "  numbers {first} to {last} are left out");
    }
    if report.undecodable > 0 {
        let _ = writeln!(text, "  {} entries do not decode", report.undecodable);
    }
}

fn size(bytes: u64) -> BinaryBytes {
    BinaryBytes(bytes)
}

/// As `2026-02-03T04:05:06.789Z`.
pub fn time(time: SystemTime) -> impl std::fmt::Display {
    humantime::format_rfc3339_millis(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_utc() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_123);
        assert_eq!(time(at).to_string(), "2023-11-14T22:13:20.123Z");
    }
}
