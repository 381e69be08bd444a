//! What came of it, for programs: one object, whose fields are only ever added to.

use super::arguments::Command;
use super::outcome::{Done, Outcome};
use super::text;
use haybox::persist::check::{FileKind, FileReport, ManifestReport};
use haybox::persist::{CompactReport, Damage, DirKind, RecoveryReport, Unreadable};
use serde_json::{Value, json};
use std::time::SystemTime;

pub fn of(command: &Command, outcome: &Outcome) -> String {
    let exit = outcome.exit();
    let mut object = json!({
        "dir": command.dir.display().to_string(),
        "action": command.action.name(),
        "status": exit.name(),
        "exit": exit as u8,
    });
    if let Some(inspection) = &outcome.inspection {
        object["manifest"] = inspection.manifest.as_ref().map_or(Value::Null, manifest);
        object["files"] = inspection.files.iter().map(file).collect();
    }
    match &outcome.result {
        Ok(Done::Verified(report)) => object["recovery"] = recovery(report),
        Ok(Done::Salvaged { to, report }) => {
            object["to"] = to.display().to_string().into();
            object["entries"] = report.entries.into();
            object["recovery"] = recovery(&report.recovery);
            object["written"] = written(&report.written);
        }
        Ok(Done::Compacted(report)) => object["written"] = written(report),
        Err(problem) => {
            object["error"] = text::told(command, problem).into();
            object["help"] = text::help(command, problem).into();
        }
    }
    format!("{object:#}\n")
}

fn manifest(manifest: &ManifestReport) -> Value {
    json!({
        "store": manifest.store.to_string(),
        "dir_kind": dir_kind(manifest.dir_kind),
        "codec": manifest.codec.to_string(),
        "schema_version": manifest.schema,
        "version": manifest.version,
        "durable_seq": manifest.durable_seq,
        "distrusted": manifest.is_distrusted,
        "snapshots": manifest.snapshots,
        "logs": manifest.logs,
    })
}

fn dir_kind(kind: Option<DirKind>) -> Value {
    match kind {
        Some(DirKind::Cache) => "cache".into(),
        Some(DirKind::Store) => "store".into(),
        Some(DirKind::Counters) => "counters".into(),
        Some(DirKind::Queue) => "queue".into(),
        Some(DirKind::Sessions) => "sessions".into(),
        Some(_) => "other".into(),
        None => Value::Null,
    }
}

fn file(file: &FileReport) -> Value {
    json!({
        "path": file.path.display().to_string(),
        "kind": match file.kind {
            FileKind::Snapshot => "snapshot",
            FileKind::Log => "log",
            _ => "other",
        },
        "generation": file.generation,
        "listed": file.is_listed,
        "bytes": file.bytes,
        "store": file.store.map(|store| store.to_string()),
        "dir_kind": dir_kind(file.dir_kind),
        "codec": file.codec.map(|codec| codec.to_string()),
        "schema_version": file.schema,
        "frames": file.frames,
        "puts": file.puts,
        "deadlines": file.deadlines,
        "deletes": file.deletes,
        "labels": file.labels,
        "clears": file.clears,
        "first_seq": file.seqs.map(|seqs| seqs.0),
        "last_seq": file.seqs.map(|seqs| seqs.1),
        "first_time": file.times.map(|times| time(times.0)),
        "last_time": file.times.map(|times| time(times.1)),
        "durable_seq": file.durable_seq,
        "damages": damages(&file.damages),
        "unreadable": unreadable(&file.unreadable),
    })
}

fn recovery(report: &RecoveryReport) -> Value {
    json!({
        "frames": report.frames,
        "from_snapshot": report.from_snapshot,
        "from_log": report.from_log,
        "bytes": report.bytes,
        "last_seq": report.last_seq,
        "durable_seq": report.durable_seq,
        "damages": damages(&report.damages),
        "unreadable": unreadable(&report.unreadable),
        "dropped_bytes": report.dropped_bytes,
        "dropped_first_seq": report.dropped_seqs.map(|seqs| seqs.0),
        "dropped_last_seq": report.dropped_seqs.map(|seqs| seqs.1),
        "undecodable": report.undecodable,
        "seconds": report.total_time.as_secs_f64(),
    })
}

fn written(report: &CompactReport) -> Value {
    json!({
        "generation": report.generation,
        "entries": report.entries,
        "bytes": report.bytes,
        "freed": report.freed,
        "last_seq": report.last_seq,
        "seconds": report.took.as_secs_f64(),
    })
}

fn damages(damages: &[Damage]) -> Value {
    damages.iter().map(damage).collect()
}

fn damage(damage: &Damage) -> Value {
    json!({
        "file": damage.file.display().to_string(),
        "offset": damage.offset,
        "expected": damage.expected,
        "found": damage.found,
        "next_seq": damage.next_seq,
        "durable_seq": damage.durable_seq,
    })
}

fn unreadable(parts: &[Unreadable]) -> Value {
    let parts = parts.iter().map(|part| {
        json!({
            "file": part.file.display().to_string(),
            "offset": part.bytes.start,
            "bytes": part.bytes.end - part.bytes.start,
            "error": part.error.to_string(),
        })
    });
    parts.collect()
}

fn time(time: SystemTime) -> String {
    text::time(time).to_string()
}
