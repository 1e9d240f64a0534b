//! Owns the output: the tables of the README, and whether the targets were reached. Knows nothing
//! of how the figures were measured.

use crate::driver::Row;
use crate::engine::Workload;
use crate::engines::{ENTRIES, Kind};
use crate::workload::Figure;

/// Returns the median; for an even number of values, the upper of the two middle ones.
fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Row {
    fn median(&self, figure: Figure) -> Option<f64> {
        median(self.figures.get(&figure)?)
    }
}

fn title(workload: Workload) -> &'static str {
    match workload {
        Workload::Lone => "One caller, each put of 8 to 56 bytes durable on return",
        Workload::Blocked => "64 callers, each put of 8 to 56 bytes durable on return",
        Workload::Values => "1 M entries of 100 bytes, random keys, a sync per 4,096 puts",
        Workload::Thousands => "The same entries, one transaction of 1,000 puts at a time",
        Workload::Reads => "Random reads of 1 M entries of 100 bytes, one thread",
    }
}

fn columns(workload: Workload) -> &'static [Figure] {
    match workload {
        Workload::Lone => &[
            Figure::P50Micros,
            Figure::P99Micros,
            Figure::P999Micros,
            Figure::PutsPerSecond,
            Figure::FlushesPerPut,
        ],
        Workload::Blocked | Workload::Values | Workload::Thousands => {
            &[Figure::PutsPerSecond, Figure::FlushesPerPut]
        }
        Workload::Reads => &[Figure::EachReadNanos, Figure::PinnedReadNanos],
    }
}

/// The figure by which rows are compared.
fn leading(workload: Workload) -> Figure {
    match workload {
        Workload::Lone => Figure::P50Micros,
        Workload::Blocked | Workload::Values | Workload::Thousands => Figure::PutsPerSecond,
        Workload::Reads => Figure::EachReadNanos,
    }
}

/// Returns how many times as good as `other` a value is.
fn times_as_good(figure: Figure, value: f64, other: f64) -> f64 {
    if figure == Figure::PutsPerSecond { value / other } else { other / value }
}

fn show(figure: Figure, value: f64) -> String {
    match figure {
        Figure::PutsPerSecond => thousands(value),
        Figure::FlushesPerPut if value < 1e-6 => "0".to_owned(),
        Figure::FlushesPerPut if value < 0.1 => format!("1 / {:.0}", 1.0 / value),
        Figure::FlushesPerPut => format!("{value:.2}"),
        _ if value < 10.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Prints a workload's table, best row first.
pub fn print(workload: Workload, rows: &[Row]) {
    let figure = leading(workload);
    let ours = find(rows, our_name(workload)).and_then(|row| row.median(figure));
    println!("\n### {}\n", title(workload));
    let columns = columns(workload);
    let names: Vec<_> = columns.iter().map(|column| column.name()).collect();
    println!("| engine | {} | spread of {} | × prevalence |", names.join(" | "), figure.name());
    println!("|---|{}", "---:|".repeat(columns.len() + 2));
    let mut rows: Vec<_> = rows.iter().filter_map(|row| Some((row.median(figure)?, row))).collect();
    rows.sort_by(|(one, _), (other, _)| times_as_good(figure, *other, *one).total_cmp(&1.0));
    for (value, row) in rows {
        let cell =
            |column: &Figure| row.median(*column).map_or("–".to_owned(), |v| show(*column, v));
        let cells: Vec<_> = columns.iter().map(cell).collect();
        let all = row.figures.get(&figure).map_or(&[][..], Vec::as_slice);
        let least = all.iter().copied().fold(f64::INFINITY, f64::min);
        let most = all.iter().copied().fold(0.0, f64::max);
        let name = match row.entry.kind {
            Kind::Prevalence => format!("**{}**", row.entry.name),
            Kind::Floor => format!("*{}*", row.entry.name),
            Kind::Log | Kind::Store => row.entry.name.to_owned(),
        };
        let ratio = ours
            .map_or("–".to_owned(), |ours| format!("{:.2}", times_as_good(figure, value, ours)));
        let spread = format!("{}–{}", show(figure, least), show(figure, most));
        println!("| {name} | {} | {spread} | {ratio} |", cells.join(" | "));
    }
}

pub fn print_notes(rows: &[Row]) {
    println!(
        "\n“× prevalence” is how many times as good as prevalence a row is: above 1, we lose.\n"
    );
    for entry in ENTRIES.iter().filter(|entry| find(rows, entry.name).is_some()) {
        println!("- {}: {}.", entry.name, entry.setting);
    }
}

/// Returns the row to which the others are compared.
fn our_name(workload: Workload) -> &'static str {
    if workload == Workload::Thousands { "prevalence-batch" } else { "prevalence" }
}

fn find<'a>(rows: &'a [Row], name: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.entry.name == name)
}

/// Prints the targets of this workload, and whether they were reached.
pub fn print_targets(workload: Workload, rows: &[Row]) {
    let figure = leading(workload);
    let of = |name| find(rows, name)?.median(figure);
    let best = |wanted: &dyn Fn(&Row) -> bool| {
        let rows = rows.iter().filter(|row| wanted(row));
        let values = rows.filter_map(|row| row.median(figure).map(|value| (value, row.entry.name)));
        values.max_by(|(one, _), (other, _)| one.total_cmp(other))
    };
    let Some(ours) = of(our_name(workload)) else { return };
    let line = |what: &str, ratio: f64, reached: bool| {
        println!("| {what} | {ratio:.2} | {} |", if reached { "yes" } else { "**no**" });
    };
    match workload {
        Workload::Lone => {
            if let Some(floor) = of("floor-write") {
                let ratio = ours / floor;
                line("1 caller, p50 ≤ 1.05 × bare write and fdatasync", ratio, ratio <= 1.05);
            }
        }
        Workload::Blocked => {
            if let Some(floor) = of("floor-group") {
                let ratio = ours / floor;
                line("64 callers ≥ 1.3 × plain group commit", ratio, ratio >= 1.3);
            }
            for (peer, goal) in [("okaywal", 1.2), ("redis", 1.5)] {
                let Some(theirs) = of(peer) else { continue };
                let what = format!("64 callers ≥ {goal} × {peer}");
                line(&what, ours / theirs, ours / theirs >= goal);
            }
            if let Some((peer, name)) = best(&is_embedded_store) {
                let what = format!("64 callers ≥ 8 × the best embedded store ({name})");
                line(&what, ours / peer, ours / peer >= 8.0);
            }
        }
        Workload::Values => {
            let stores = |row: &Row| row.entry.kind == Kind::Store;
            for (peers, best) in [
                ("the best store", best(&stores)),
                ("the best embedded database", best(&is_embedded_store)),
            ] {
                let Some((peer, name)) = best else { continue };
                let what = format!("1 M × 100 bytes ≥ 2 × {peers} ({name})");
                line(&what, ours / peer, ours / peer >= 2.0);
            }
        }
        Workload::Thousands => {
            if let Some((peer, name)) = best(&|row| row.entry.kind == Kind::Store) {
                let what = format!("commands of 1,000 puts ≥ 1.5 × the best store ({name})");
                line(&what, ours / peer, ours / peer >= 1.5);
            }
        }
        Workload::Reads => {}
    }
}

fn is_embedded_store(row: &Row) -> bool {
    ["fjall", "redb", "sqlite", "lmdb"].contains(&row.entry.name)
}
