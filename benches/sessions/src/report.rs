//! The medians, with the least and the most of all rounds.

use crate::client::Run;

pub fn print(runs: &[(&str, Vec<Run>)]) {
    println!("\n| store | requests/s | p50 | p99 |\n| --- | --- | --- | --- |");
    for (name, runs) in runs {
        let rate = spread(runs, |run| run.rate, 0);
        let p50 = spread(runs, |run| run.p50.as_secs_f64() * 1e3, 2);
        let p99 = spread(runs, |run| run.p99.as_secs_f64() * 1e3, 2);
        println!("| {name} | {rate} | {p50} ms | {p99} ms |");
    }
}

fn spread(runs: &[Run], of: impl Fn(&Run) -> f64, digits: usize) -> String {
    let mut values: Vec<_> = runs.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else {
        return "none".to_owned();
    };
    let median = values[values.len() / 2];
    format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
}
