//! What does the other roles.

use super::speed::{means, of_workload, ratios, speed_table};
use super::table::as_they_come;
use crate::results::{Results, Summary};
use crate::roles;

pub(super) fn roles(text: &mut String, results: &Results) {
    text.push_str(
        "\n## The other roles\n\nNanoseconds for each operation: wall-clock time over the \
         operations of all threads, the median of rounds in turns, and in parentheses the least \
         and the most. Redis is one client on the loopback interface that waits for each answer. \
         How many times as fast haybox is:\n\n",
    );
    means(text, &results.roles_summary);
    roles_ratios(text, &results.roles_summary);
    for job in roles::jobs() {
        let title = format!("{} (`{}`)", job.label, job.id);
        let cells = of_workload(&results.roles, job.id);
        let peers = as_they_come(cells.iter().map(|cell| cell.peer.as_str()));
        speed_table(text, &title, &peers, &cells);
    }
}

pub(super) fn roles_ratios(text: &mut String, summaries: &[Summary]) {
    for summary in summaries {
        text.push('\n');
        ratios(text, summary, ["job", "beside"]);
    }
}
