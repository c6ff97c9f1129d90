//! A report as one page: nothing of it comes from elsewhere, and it reads in light and dark. Texts are escaped by `maud`; plots are inline SVG.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    plots::{self, PlotError},
    report::{Figure, Report, Segment},
    table::units,
    tally::{CUTS, FEW_UNITS, MEASURES},
};

const STYLE: &str = include_str!("report.css");

impl Report {
    /// The page; fails only where a plot cannot be drawn.
    pub fn html(&self) -> Result<String, PlotError> {
        let title = format!("inkling evaluate: {}, {}", self.data.name, self.data.task.name());
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    // What the page may load: nothing.
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { (title) }
                    (self.facts())
                    h2 { "How good the lists are" }
                    (plot(&plots::measure(self, "ndcg@10")?, "NDCG@10 of each, with 95 % intervals"))
                    (self.at_ten())
                    (plot(&plots::curves(self)?, "NDCG at each cut, of each"))
                    h2 { "inkling less each other" }
                    p { "Paired by question; where the interval holds 0, the difference may be chance." }
                    (plot(&plots::differences(self)?, "Differences of NDCG@10, with 95 % intervals"))
                    (self.difference_rows())
                    h2 { "What the lists show of the catalogue" }
                    p {
                        "Of the first ten items of all lists. Coverage: share of the catalogue that was shown at all. Gini: how unevenly places are spread, 0 (each item alike) to 1 (one item has all). "
                        "Novelty: how rare the items are among the events learned from, in bits. Diversity: how unlike each other the items of a list are (1 − cosine of embeddings)."
                    }
                    (self.catalogue())
                    (plot(&plots::lorenz(self)?, "Lorenz curves: share of the catalogue, least shown first, and of the places it has"))
                    @if !self.segments.is_empty() {
                        h2 { "By segment" }
                        p { "NDCG@10. Segments of fewer than " (FEW_UNITS) " units are marked *: they say little." }
                        (plot(&plots::segments(self)?, "NDCG@10 by segment, of each"))
                        (self.segment_rows())
                    }
                    h2 { "All measures" }
                    (self.everything())
                }
            }
        };
        Ok(page.into_string())
    }

    fn facts(&self) -> Markup {
        let data = &self.data;
        html! {
            dl {
                dt { "data" } dd { (data.name) ", task " (data.task.name()) }
                dt { "split" } dd { (data.split) }
                dt { "learned from" } dd { (data.events) " events on " (data.items) " items" }
                dt { "asked" } dd { "n = " (data.questions) " questions of " (data.units) " " (units(data.units)) " (users, or questions where nobody is known)" }
                dt { "ranking" } dd { "over the whole catalogue, no sampled negatives" }
                dt { "intervals" } dd { "95 %, percentile bootstrap over units, seed " (self.seed) }
                dt { "model" } dd { (data.model) }
                dt { "program" } dd { "inkling " (self.program) }
            }
            @for note in &self.notes { p.note { (note) } }
        }
    }

    fn at_ten(&self) -> Markup {
        let columns = ["ndcg@10", "recall@10", "hit@10", "mrr@10", "map@10", "recall@100"];
        html! {
            div.wide { table {
                thead { tr { th {} @for column in columns { th { (column) } } th { "n" } } }
                tbody {
                    @for policy in &self.policies {
                        tr { th { (policy.title) } @for column in columns { td { (optional(policy.measures.get(column))) } } td { (policy.n) } }
                    }
                }
            } }
        }
    }

    fn difference_rows(&self) -> Markup {
        html! {
            div.wide { table {
                thead { tr { th { "against" } th { "measure" } th { "difference" } th { "95 %" } th { "better" } th { "worse" } th { "n" } th { "units" } } }
                tbody {
                    @for one in &self.differences {
                        tr {
                            th { (one.against.title()) } td { (one.measure) } td { (signed(one.figure.mean)) }
                            td { (signed(one.figure.low)) " to " (signed(one.figure.high)) }
                            td { (one.better) } td { (one.worse) } td { (one.figure.n) } td { (one.figure.units) }
                        }
                    }
                }
            } }
        }
    }

    fn catalogue(&self) -> Markup {
        let told = |value: Option<f64>, digits: usize| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"));
        html! {
            div.wide { table {
                thead { tr { th {} th { "coverage" } th { "Gini" } th { "novelty, bits" } th { "diversity" } th { "empty lists" } th { "n" } } }
                tbody {
                    @for policy in &self.policies {
                        tr {
                            th { (policy.title) } td { (told(Some(policy.coverage_at_10), 4)) } td { (told(Some(policy.gini_at_10), 4)) }
                            td { (told(policy.novelty_bits_at_10, 2)) } td { (told(policy.diversity_at_10, 4)) } td { (policy.empty_lists) } td { (policy.n) }
                        }
                    }
                }
            } }
        }
    }

    fn segment_rows(&self) -> Markup {
        html! {
            div.wide { table {
                thead { tr { th { "by" } th { "segment" } th { "n" } th { "units" } @for policy in &self.policies { th { (policy.title) } } } }
                tbody {
                    @for segment in &self.segments {
                        tr {
                            th { (segment.by) } td { (name(segment)) } td { (segment.n) } td { (segment.units) }
                            @for one in &segment.ndcg_at_10 { td { (optional(Some(&one.figure))) } }
                        }
                    }
                }
            } }
        }
    }

    fn everything(&self) -> Markup {
        html! {
            div.wide { table {
                thead { tr { th { "measure" } @for policy in &self.policies { th { (policy.title) } } th { "n" } } }
                tbody {
                    @for measure in MEASURES { @for k in CUTS {
                        @let key = format!("{measure}@{k}");
                        tr { th { (key) } @for policy in &self.policies { td { (optional(policy.measures.get(&key))) } } td { (self.data.questions) } }
                    } }
                }
            } }
        }
    }
}

fn plot(svg: &str, says: &str) -> Markup {
    html! { figure role="img" aria-label=(says) { (PreEscaped(svg)) figcaption { (says) } } }
}

/// The segment, with a mark where it says little.
pub(super) fn name(segment: &Segment) -> String {
    format!("{}{}", segment.name, if segment.few_units { " *" } else { "" })
}

fn optional(figure: Option<&Figure>) -> Markup {
    html! { @if let Some(figure) = figure { (format!("{:.4}", figure.mean)) small { (format!(" {:.3}–{:.3}", figure.low, figure.high)) } } @else { "–" } }
}

fn signed(value: f64) -> String {
    format!("{value:+.4}")
}
