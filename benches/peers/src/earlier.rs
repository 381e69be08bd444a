//! What an earlier run has left where this one writes its results, of parts that this one does not
//! measure.

use crate::results::Results;
use crate::settings::Part;
use clap::ValueEnum;

/// Puts the parts of an earlier run, given as its JSON, beside those that a run will measure, if both
/// are of one machine, one code and one size.
///
/// # Errors
/// Why it has to go, where it has something that this run has not.
pub fn keep(
    results: &mut Results,
    json: &str,
    is_measured: impl Fn(Part) -> bool,
) -> Result<(), String> {
    let mut earlier: Results =
        serde_json::from_str(json).map_err(|error| format!("not of this version: {error}"))?;
    let parts = Part::value_variants().iter().copied();
    let kept: Vec<Part> = parts
        .filter(|part| !is_measured(*part) && !earlier.lacks(*part))
        .collect();
    if kept.is_empty() {
        return Ok(());
    }
    if let Some(difference) = results.machine.difference(&earlier.machine) {
        return Err(difference.to_string());
    }
    if results.settings != earlier.settings {
        return Err("of other sizes or rounds".to_string());
    }
    for part in &kept {
        results.take_over(*part, &mut earlier);
    }
    let names: Vec<String> = kept.into_iter().map(Part::name).collect();
    results.notes.push(format!(
        "Of an earlier run, on {} with the options {}: {}.",
        earlier.machine.date,
        earlier.machine.options(),
        names.join(", ")
    ));
    let notes = earlier.notes.into_iter();
    results
        .notes
        .extend(notes.map(|note| format!("The earlier run: {note}")));
    results.machine.join(&earlier.machine);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::results::{HitRow, SizeCell};

    fn size() -> SizeCell {
        SizeCell {
            entries: 1,
            peer: "haybox".to_string(),
            nanos: 1.0,
            rounds: Vec::new(),
            hit_ratio: 1.0,
            in_turns: true,
        }
    }

    fn hits() -> HitRow {
        HitRow {
            trace: "zipf".to_string(),
            requests: 1,
            distinct: 1,
            share: 1.0,
            capacity: 1,
            peer: "haybox".to_string(),
            effective_capacity: None,
            held: None,
            percent: 1.0,
        }
    }

    /// The results of a commit and a command, with nothing in them.
    fn of(commit: &str, command: &str) -> Results {
        let machine = Machine {
            commit: Some(commit.to_string()),
            command: command.to_string(),
            date: command.to_string(),
            ..Machine::default()
        };
        Results {
            machine,
            ..Results::default()
        }
    }

    fn earlier() -> Results {
        Results {
            size: vec![size()],
            hits: vec![hits()],
            notes: vec!["Redis was left out.".to_string()],
            ..of("a", "--brief")
        }
    }

    fn json(results: &Results) -> String {
        serde_json::to_string(results).unwrap()
    }

    #[test]
    fn other_parts_of_the_same_code_stay_and_are_said_to_be_of_an_earlier_run() {
        let mut results = of("a", "--only hits");
        keep(&mut results, &json(&earlier()), |part| part == Part::Hits).unwrap();
        assert_eq!((results.size.len(), results.hits.len()), (1, 0));
        let notes = results.notes.join(" ");
        assert!(notes.contains("the options --brief: size."), "{notes}");
        assert!(notes.contains("Redis was left out."), "{notes}");
        assert_eq!(results.machine.options(), "--brief ; then --only hits");
        assert_eq!(results.machine.date, "--brief and --only hits");
    }

    #[test]
    fn parts_of_another_code_or_size_go_and_the_reason_is_given() {
        let kept = |results: &mut Results| keep(results, &json(&earlier()), |_| false);
        let mut results = of("b", "--only speed");
        assert!(kept(&mut results).unwrap_err().contains("commit"));
        assert!(results.lacks(Part::Size));
        let mut results = of("a", "--only speed");
        results.settings.rounds = 7;
        assert!(kept(&mut results).unwrap_err().contains("rounds"));
        assert!(results.lacks(Part::Size));
        assert!(keep(&mut of("a", ""), "{}", |_| false).is_err());
    }

    #[test]
    fn what_is_measured_again_is_no_reason_to_say_anything() {
        let mut results = of("b", "");
        assert_eq!(keep(&mut results, &json(&earlier()), |_| true), Ok(()));
        assert!(results.notes.is_empty() && results.lacks(Part::Hits));
    }
}
