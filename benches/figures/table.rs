//! What is printed: a line for each figure, and its aim where there is one.

/// Prints a measurement without an aim.
pub fn note(what: &str, measured: &str) {
    println!("{what:<68} {measured:>16}");
}

/// Prints a measurement and whether it is within its aim.
pub fn compare(what: &str, measured: f64, most: f64, unit: &str) {
    let verdict = if measured <= most { "met" } else { "MISSED" };
    let (measured, most) = (
        format!("{measured:.1} {unit}"),
        format!("<= {most:.0} {unit}"),
    );
    println!("{what:<68} {measured:>16} {most:>14}  {verdict}");
}

pub fn nanos(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        _ => format!("{:.1} ms", nanos as f64 / 1e6),
    }
}
