//! Bytes for each entry, and what is left of them.

use super::table::{Table, duration, in_order, strings, thousands};
use crate::peers;
use crate::results::{Full, MemoryRow};

pub(super) fn memory(text: &mut String, rows: &[MemoryRow]) {
    text.push_str(
        "\n## Memory\n\nBytes for each entry that is kept, as allocated, and in parentheses by the \
         resident memory of the process; each peer in a process of its own. \"Evicted\": after as \
         many more were inserted as there is room for. The payload is 16 bytes for u64 to u64; with \
         values of 100 bytes it is 136 (with the two counters of an `Arc`).\n\n",
    );
    let most = rows.iter().map(|row| row.room).max().unwrap_or(0);
    let less = rows.iter().map(|row| row.room).find(|room| *room < most);
    let less = less.unwrap_or(most);
    let headings = [
        "peer".to_string(),
        format!("u64, room for {}", thousands(most)),
        "evicted".to_string(),
        format!("u64, room for {}", thousands(less)),
        "100 bytes".to_string(),
        "entries kept".to_string(),
        "% of a core at rest".to_string(),
    ];
    let mut table = Table::new(&headings);
    for peer in in_order(rows.iter().map(|row| row.peer.as_str())) {
        let of_kind = |room, payload| {
            rows.iter()
                .find(|row| row.peer == peer && row.room == room && row.payload == payload)
        };
        let bytes = |full: Option<Full>| {
            full.map_or("n/a".to_string(), |full| {
                format!("{:.1} ({:.1})", full.allocated, full.resident)
            })
        };
        let first = of_kind(most, false);
        let rest = first.and_then(|row| row.rest_percent);
        table.row(&[
            peers::label(peer).to_string(),
            bytes(first.map(|row| row.full)),
            bytes(first.and_then(|row| row.evicted)),
            bytes(of_kind(less, false).map(|row| row.full)),
            bytes(of_kind(most, true).map(|row| row.full)),
            first.map_or(String::new(), |row| thousands(row.full.entries)),
            rest.map_or("n/a".to_string(), |rest| format!("{rest:.3}")),
        ]);
    }
    text.push_str(&table.text);
    expired(text, rows);
}

pub(super) fn expired(text: &mut String, rows: &[MemoryRow]) {
    text.push_str(
        "\nMiB after the last entry has expired, allocated (resident), u64 to u64. The first call \
         after that looks a key up that was never there.\n\n",
    );
    let headings = [
        "peer",
        "before",
        "3 s after, without a call",
        "entries counted then",
        "the first call takes",
        "after it",
        "after the call for housekeeping",
    ];
    let mut table = Table::new(&strings(headings));
    let mib = |bytes: i64| bytes as f64 / f64::from(1 << 20);
    let both =
        |allocated: i64, resident: i64| format!("{:.1} ({:.1})", mib(allocated), mib(resident));
    for row in rows {
        let Some(expired) = row.expired else { continue };
        table.row(&[
            peers::label(&row.peer).to_string(),
            both(expired.allocated_before, expired.resident_before),
            both(expired.allocated_untouched, expired.resident_untouched),
            expired.entries_untouched.to_string(),
            duration(expired.first_call.as_nanos() as u64),
            both(expired.allocated_called, expired.resident_called),
            both(expired.allocated_settled, expired.resident_settled),
        ]);
    }
    text.push_str(&table.text);
}
