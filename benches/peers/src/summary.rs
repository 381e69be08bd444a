//! How haybox stands over all cells: geometric means of ratios.

use crate::peers::{self, Class};
use crate::results::{Cell, Ratio, Summary};
use crate::roles;
use crate::turns::{median, quartiles};
use crate::workload;

const OURS: &str = "haybox";

/// A cache that finds fewer of the keys that it was filled with has less to do: its reads are not
/// compared.
const FOUND: f64 = 0.99;

/// Nor is one compared that holds more than it was allowed to, and leaves evicting for later. (The
/// moment at which the entries are counted may see some that are on their way.)
pub const FULL: f64 = 1.02;

/// The ratios against the best rival in each cell, each rival alone, scc's cache and the bare map.
pub fn summarise(cells: &[Cell]) -> Vec<Summary> {
    let rivals: Vec<&str> = peers::ALL
        .iter()
        .filter(|info| info.class == Class::Rival)
        .map(|info| info.id)
        .collect();
    let mut summaries = vec![against(cells, "the best rival in each cell", &rivals)];
    // What haybox clears in the background is in nobody's figure there, and it is ahead by far.
    let others: Vec<Cell> = cells
        .iter()
        .filter(|cell| cell.workload != "ttl-churn")
        .cloned()
        .collect();
    if others.len() < cells.len() {
        summaries.push(against(&others, "the same without the churn", &rivals));
    }
    summaries.extend(
        rivals
            .iter()
            .map(|rival| against(cells, peers::label(rival), &[rival])),
    );
    summaries.push(against(cells, "scc HashCache", &["scc"]));
    // One thread needs no lock, several do.
    let maps = ["hashbrown", "hashbrown-lock", "dashmap", "papaya"];
    summaries.push(against(cells, "the best bare map in each cell", &maps));
    summaries.retain(|summary| !summary.cells.is_empty());
    summaries
}

/// The ratios of the other roles: against the best of what does that one thing, and against Redis.
pub fn of_roles(cells: &[Cell]) -> Vec<Summary> {
    let rivals = roles::PEERS
        .iter()
        .filter(|info| info.class == Class::Rival);
    let rivals: Vec<&str> = rivals.map(|info| info.id).collect();
    let mut summaries = vec![
        against(cells, "the specialised crate", &rivals),
        against(cells, "Redis", &["redis"]),
    ];
    summaries.retain(|summary| !summary.cells.is_empty());
    summaries
}

fn against(cells: &[Cell], what: &str, others: &[&str]) -> Summary {
    let ours = cells.iter().filter(|cell| cell.peer == OURS);
    let ratios: Vec<Ratio> = ours.filter_map(|cell| ratio(cell, cells, others)).collect();
    let sum: f64 = ratios.iter().map(|ratio| ratio.ratio.ln()).sum();
    Summary {
        against: what.to_string(),
        mean: (sum / ratios.len() as f64).exp(),
        cells: ratios,
    }
}

fn ratio(ours: &Cell, cells: &[Cell], others: &[&str]) -> Option<Ratio> {
    let of_cell = |cell: &&Cell| {
        cell.workload == ours.workload
            && cell.threads == ours.threads
            && others.contains(&cell.peer.as_str())
            && is_comparable(cell)
    };
    let rivals = cells.iter().filter(of_cell);
    let (ratios, best) = rivals
        .map(|rival| (times_as_fast(ours, rival), rival))
        .min_by(|a, b| median(&a.0).total_cmp(&median(&b.0)))?;
    Some(Ratio {
        workload: ours.workload.clone(),
        threads: ours.threads,
        haybox: ours.nanos,
        peer: best.peer.clone(),
        other: best.nanos,
        ratio: median(&ratios),
        quartiles: quartiles(&ratios),
    })
}

/// How many times as fast as another haybox is: a ratio for each round, or one of the medians.
fn times_as_fast(ours: &Cell, other: &Cell) -> Vec<f64> {
    if takes_turns(other) {
        by_round(ours, other)
    } else {
        vec![other.nanos / ours.nanos]
    }
}

/// Whether a peer ran in turns with the others: what lingers evicts in a process of its own, and its
/// rounds are at no time of theirs.
fn takes_turns(cell: &Cell) -> bool {
    let evicts = workload::ALL
        .iter()
        .any(|workload| workload.id == cell.workload && workload.evicts());
    !evicts || peers::info(&cell.peer).is_none_or(|info| !info.lingers)
}

/// The ratios of the rounds, in each of which both ran at about the same time. A virtual machine whose
/// two cores are near each other now
/// and far from each other some seconds later is three times as slow then for all who share memory,
/// and the medians of two contenders may come from different times.
fn by_round(ours: &Cell, other: &Cell) -> Vec<f64> {
    let rounds = other.rounds.iter().zip(&ours.rounds);
    rounds.map(|(other, ours)| other / ours).collect()
}

/// Whether a peer has done what the workload asks for. scc's cache may hold more, by its own rule.
pub fn is_comparable(cell: &Cell) -> bool {
    let by_own_rule = peers::info(&cell.peer).is_some_and(|info| info.class == Class::Plain);
    finds_enough(cell) && (keeps_bound(cell) || by_own_rule)
}

/// Whether a cache keeps to the bound that it was built with.
pub fn keeps_bound(cell: &Cell) -> bool {
    cell.fullness <= FULL || peers::info(&cell.peer).is_none_or(|info| !info.evicts)
}

/// Whether a peer has kept what it was filled with, where there was room for it.
pub fn finds_enough(cell: &Cell) -> bool {
    let had_room = ["read", "mixed"]
        .iter()
        .any(|kind| cell.workload.trim_start_matches("text-").starts_with(kind));
    !had_room || cell.hit_ratio.is_none_or(|ratio| ratio >= FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(peer: &str, workload: &str, nanos: f64, hit_ratio: f64) -> Cell {
        Cell {
            workload: workload.to_string(),
            threads: 1,
            peer: peer.to_string(),
            nanos,
            rounds: vec![nanos],
            hit_ratio: Some(hit_ratio),
            fullness: 1.0,
            processor: None,
        }
    }

    fn rounds<const N: usize>(peer: &str, workload: &str, rounds: [f64; N]) -> Cell {
        Cell {
            rounds: rounds.to_vec(),
            ..cell(peer, workload, median(&rounds), 1.0)
        }
    }

    #[test]
    fn the_mean_is_geometric_and_over_the_best_of_each_cell() {
        let cells = [
            cell("haybox", "read-a", 10.0, 1.0),
            cell("moka", "read-a", 40.0, 1.0),
            cell("quick_cache", "read-a", 20.0, 1.0),
            cell("haybox", "read-b", 10.0, 1.0),
            cell("moka", "read-b", 80.0, 1.0),
        ];
        let summaries = summarise(&cells);
        assert!((summaries[0].mean - 4.0).abs() < 1e-9);
        assert_eq!(summaries[0].cells.len(), 2);
    }

    #[test]
    fn a_ratio_is_of_what_ran_at_the_same_time() {
        // The machine was slow in one round of ours and in two of theirs.
        let cells = [
            rounds("haybox", "insert-a", [20.0, 20.0, 80.0]),
            rounds("moka", "insert-a", [40.0, 160.0, 160.0]),
            rounds("quick_cache", "insert-a", [500.0, 60.0, 240.0]),
        ];
        let best = &summarise(&cells)[0].cells[0];
        assert_eq!((best.peer.as_str(), best.ratio), ("moka", 2.0));
        assert_eq!(best.quartiles, (2.0, 5.0));
        assert!(!best.is_behind());
    }

    #[test]
    fn behind_is_who_is_slower_in_three_rounds_of_four() {
        let beside = |theirs: [f64; 5]| {
            let cells = [
                rounds("haybox", "insert-a", [10.0; 5]),
                rounds("moka", "insert-a", theirs),
            ];
            summarise(&cells)[0].cells[0].is_behind()
        };
        assert!(beside([9.0, 9.0, 9.0, 9.0, 20.0]));
        assert!(!beside([9.0, 9.0, 9.0, 11.0, 11.0]));
    }

    #[test]
    fn the_churn_is_left_out_of_a_second_mean() {
        let cells = [
            cell("haybox", "read-a", 10.0, 1.0),
            cell("moka", "read-a", 20.0, 1.0),
            cell("haybox", "ttl-churn", 10.0, 1.0),
            cell("moka", "ttl-churn", 80.0, 1.0),
        ];
        let means: Vec<f64> = summarise(&cells)
            .iter()
            .map(|summary| summary.mean)
            .collect();
        assert!(
            (means[0] - 4.0).abs() < 1e-9 && (means[1] - 2.0).abs() < 1e-9,
            "{means:?}"
        );
    }

    #[test]
    fn scc_is_compared_and_marked_where_it_holds_more_than_its_bound() {
        let scc = Cell {
            fullness: 1.3,
            ..cell("scc", "insert-a", 5.0, 1.0)
        };
        assert!(is_comparable(&scc) && !keeps_bound(&scc));
        let moka = Cell {
            peer: "moka".to_string(),
            ..scc
        };
        assert!(!is_comparable(&moka));
    }

    #[test]
    fn what_ran_by_itself_is_compared_by_its_median() {
        let ratio = |workload| {
            let cells = [
                rounds("haybox", workload, [10.0, 20.0, 30.0]),
                rounds("stretto", workload, [90.0, 20.0, 60.0]),
            ];
            summarise(&cells)[0].cells[0].ratio
        };
        // By rounds 9, 1 and 2; the medians are 60 and 20.
        assert_eq!(ratio("ttl-churn"), 2.0);
        assert_eq!(ratio("insert-evict"), 3.0);
    }

    #[test]
    fn who_has_lost_the_keys_is_not_compared() {
        let cells = [
            cell("haybox", "read-a", 10.0, 1.0),
            cell("stretto", "read-a", 1.0, 0.5),
            cell("haybox", "aside-a", 10.0, 0.5),
            cell("stretto", "aside-a", 20.0, 0.5),
        ];
        let best = &summarise(&cells)[0];
        assert_eq!(best.cells.len(), 1);
        assert_eq!(best.cells[0].workload, "aside-a");
    }
}
