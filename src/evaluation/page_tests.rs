//! The views of a report: what they say, and what they must not.

use std::collections::BTreeMap;

use super::{
    policies::Contender,
    replay::Task,
    report::{DataFacts, Difference, Figure, PolicyReport, Report, Segment, SegmentFigure},
};

fn figure(mean: f64, units: usize) -> Figure {
    Figure { mean, low: mean - 0.01, high: mean + 0.01, n: 2 * units, units }
}

fn policy(name: Contender, ndcg: f64) -> PolicyReport {
    let measures: BTreeMap<String, Figure> =
        ["ndcg@1", "ndcg@10", "ndcg@100", "recall@10"].into_iter().map(|measure| (measure.to_owned(), figure(ndcg, 40))).collect();
    let lorenz = (0..=50).map(|step| (f64::from(step) / 50.0, (f64::from(step) / 50.0).powi(3))).collect();
    PolicyReport {
        name,
        title: name.title().to_owned(),
        n: 80,
        units: 40,
        measures,
        coverage_at_10: 0.5,
        gini_at_10: 0.25,
        novelty_bits_at_10: Some(7.5),
        diversity_at_10: None,
        empty_lists: 1,
        lorenz,
    }
}

fn report() -> Report {
    let segment = |name: &str, units: usize| Segment {
        by: "history".to_owned(),
        name: name.to_owned(),
        n: 2 * units,
        units,
        few_units: units < 30,
        ndcg_at_10: [Contender::Ours, Contender::Popularity].map(|name| SegmentFigure { name, figure: figure(0.2, units) }).to_vec(),
    };
    Report {
        program: "0.1.0".to_owned(),
        data: DataFacts {
            name: "<script src=\"http://bad.example\">&</script>".to_owned(),
            task: Task::Sequence,
            split: "before and from 2026-11-01".to_owned(),
            items: 10,
            events: 20,
            questions: 80,
            units: 40,
            model: "small".to_owned(),
        },
        seed: 7,
        policies: vec![policy(Contender::Ours, 0.1234), policy(Contender::Popularity, 0.05)],
        differences: vec![Difference { against: Contender::Popularity, measure: "ndcg@10".to_owned(), figure: figure(-0.0734, 40), better: 50, worse: 10 }],
        segments: vec![segment("cold (no events)", 5), segment("many <b>", 35)],
        notes: vec!["a note & more".to_owned()],
    }
}

#[test]
fn the_page_refers_to_nothing_outside_and_escapes_what_data_say() {
    let page = report().html().unwrap();

    assert!(page.contains("&lt;script src=&quot;http://bad.example&quot;&gt;&amp;&lt;/script&gt;") && !page.contains("<script"));
    assert!(page.contains("many &lt;b&gt;") && !page.contains("many <b>"), "in tables and in plots");
    let outside = page.replace("http://www.w3.org/2000/svg", "").replace("http://bad.example", "");
    for reference in ["http:", "https:", "//", "src=", "href=", "url(", "@import"] {
        let found = outside.find(reference).filter(|at| !(reference == "src=" && outside[..*at].ends_with("&lt;script ")));
        assert!(found.is_none(), "{reference}: {:?}", found.map(|at| &outside[at.saturating_sub(40)..at + 40]));
    }
}

#[test]
fn the_page_has_its_plots_in_the_pages_own_ink_and_every_table_says_n() {
    let page = report().html().unwrap();

    assert_eq!(page.matches("<svg").count(), 5);
    assert_eq!(page.matches("</svg>").count(), 5);
    assert!(page.contains("currentColor") && !page.contains("#010203") && page.contains("prefers-color-scheme: dark"));
    assert!(!page.contains("NaN"));
    for table in page.split("<table>").skip(1) {
        assert!(table.split("</thead>").next().unwrap().contains("<th>n</th>"), "{}", &table[..200.min(table.len())]);
    }
    for plot in page.split("<svg").skip(1) {
        assert!(plot.split("</svg>").next().unwrap().contains("n = "));
    }
    assert!(page.contains("cold (no events) *") && !page.contains("many &lt;b&gt; *"), "few units are marked, enough are not");
}

#[test]
fn the_table_shows_each_contender_with_its_interval_and_what_says_little() {
    let table = report().table();

    for said in ["0.1234 [0.1134, 0.1334]", "-0.0734 [-0.0834, -0.0634]", "cold (no events) *", "note: a note & more", "80 questions of 40 units", "popularity"]
    {
        assert!(table.contains(said), "{said}: {table}");
    }
    assert!(!table.contains("many <b> *"));
}

#[test]
fn a_report_of_nothing_much_can_be_drawn_and_the_document_read_again() {
    let mut bare = report();
    bare.policies.truncate(1);
    bare.policies[0].measures.clear();
    bare.policies[0].lorenz.clear();
    bare.differences.clear();
    bare.segments.clear();

    assert!(bare.html().unwrap().contains("</html>") && !bare.table().is_empty());
    let document = serde_json::to_string(&report()).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&document).unwrap(), report());
}
