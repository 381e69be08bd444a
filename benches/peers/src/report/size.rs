//! Reads by the number of entries.

use super::table::{Table, in_order, number, thousands};
use crate::peers;
use crate::results::SizeCell;

pub(super) fn size(text: &mut String, cells: &[SizeCell]) {
    text.push_str(
        "\n## Cost against size\n\nNanoseconds for a read of one thread, uniform over all entries, \
         u64 to u64.\n\n",
    );
    let mut sizes: Vec<usize> = cells.iter().map(|cell| cell.entries).collect();
    sizes.dedup();
    let mut headings = vec!["peer".to_string()];
    headings.extend(sizes.iter().map(|size| thousands(*size)));
    let mut table = Table::new(&headings);
    for peer in in_order(cells.iter().map(|cell| cell.peer.as_str())) {
        let of_size = |size: &usize| {
            let found = cells
                .iter()
                .find(|cell| cell.peer == peer && cell.entries == *size);
            found.map_or("n/a".to_string(), |cell| {
                let star = if cell.hit_ratio < 0.99 { "*" } else { "" };
                number(cell.nanos) + star
            })
        };
        let mut row = vec![peers::label(peer).to_string()];
        row.extend(sizes.iter().map(of_size));
        table.row(&row);
    }
    text.push_str(&table.text);
    if cells.iter().any(|cell| !cell.in_turns) {
        text.push_str(
            "\nAt sizes where the peers do not fit into memory together, each was measured by \
             itself and not in turns.\n",
        );
    }
}
