//! A report as tables for a terminal.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use super::report::{Figure, Report};

/// Measures of the first table, with their columns' heads.
const COLUMNS: [(&str, &str); 6] =
    [("ndcg@10", "NDCG@10"), ("recall@10", "Recall@10"), ("hit@10", "Hit@10"), ("mrr@10", "MRR@10"), ("map@10", "MAP@10"), ("recall@100", "Recall@100")];

impl Report {
    /// Tables of contenders, differences and segments, each figure with its interval and its number of questions.
    pub fn table(&self) -> String {
        let data = &self.data;
        let mut text = format!(
            "{}, task {}, split {}: {} questions of {} {}, {} items, learned from {} events, model {}\n",
            data.name,
            data.task.name(),
            data.split,
            data.questions,
            data.units,
            units(data.units),
            data.items,
            data.events,
            data.model
        );
        let _ = writeln!(text, "{}", self.contenders());
        let _ = writeln!(
            text,
            "inkling less each other, NDCG@10, paired by question, 95 % intervals over {} {}:\n{}",
            data.units,
            units(data.units),
            self.paired()
        );
        if !self.segments.is_empty() {
            let _ = writeln!(text, "NDCG@10 by segment (* fewer than {} units: says little):\n{}", super::tally::FEW_UNITS, self.parts());
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }

    fn contenders(&self) -> Table {
        let heads = ["", "NDCG@10 [95 %]"].into_iter().chain(COLUMNS.iter().skip(1).map(|(_, head)| *head));
        let mut table = table(heads.chain(["coverage", "Gini", "novelty", "diversity", "n"]));
        for policy in &self.policies {
            let mut row = vec![policy.title.clone()];
            for (place, (measure, _)) in COLUMNS.iter().enumerate() {
                let figure = policy.measures.get(*measure);
                row.push(figure.map_or_else(String::new, |figure| if place == 0 { with_interval(figure) } else { short(figure.mean) }));
            }
            let optional = |value: Option<f64>, digits| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"));
            row.extend([short(policy.coverage_at_10), short(policy.gini_at_10), optional(policy.novelty_bits_at_10, 1), optional(policy.diversity_at_10, 3)]);
            row.push(policy.n.to_string());
            table.add_row(row);
        }
        aligned(table)
    }

    fn paired(&self) -> Table {
        let mut table = table(["against", "difference [95 %]", "better", "worse", "n"]);
        for one in self.differences.iter().filter(|one| one.measure == "ndcg@10") {
            let figure = &one.figure;
            let signed = format!("{:+.4} [{:+.4}, {:+.4}]", figure.mean, figure.low, figure.high);
            table.add_row([one.against.title().to_owned(), signed, one.better.to_string(), one.worse.to_string(), figure.n.to_string()]);
        }
        aligned(table)
    }

    fn parts(&self) -> Table {
        let mut table = table(["by", "segment", "n", "units"].into_iter().chain(self.policies.iter().map(|policy| policy.title.as_str())));
        for segment in &self.segments {
            let star = if segment.few_units { " *" } else { "" };
            let mut row = vec![segment.by.clone(), format!("{}{star}", segment.name), segment.n.to_string(), segment.units.to_string()];
            for (place, one) in segment.ndcg_at_10.iter().enumerate() {
                row.push(if place == 0 { with_interval(&one.figure) } else { short(one.figure.mean) });
            }
            table.add_row(row);
        }
        aligned(table)
    }
}

pub(super) fn units(count: usize) -> &'static str {
    if count == 1 { "unit" } else { "units" }
}

fn table<'a>(heads: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'))).set_header(heads);
    table
}

/// Numbers to the right, names to the left.
fn aligned(mut table: Table) -> Table {
    let numbers = |text: &str| text.starts_with(|first: char| first.is_ascii_digit() || "+-–".contains(first));
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let left: Vec<usize> = (0..table.column_count())
        .filter(|column| table.row(0).is_none_or(|row| row.cell_iter().nth(*column).is_none_or(|cell| !numbers(&cell.content()))))
        .collect();
    for column in left {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Left);
        }
    }
    table
}

fn short(value: f64) -> String {
    format!("{value:.4}")
}

fn with_interval(figure: &Figure) -> String {
    format!("{:.4} [{:.4}, {:.4}]", figure.mean, figure.low, figure.high)
}
