//! Why an item is there: the score's own parts, the history items behind them, the words that matched, and one sentence.

use crate::domain::{Feature, FeatureVector, ItemId};

use super::request::Explanation;

/// What the sentence is made of.
pub(super) struct Reasons<'a> {
    /// What each feature contributed.
    pub(super) parts: FeatureVector,
    /// What the request's boosts contributed.
    pub(super) boost: f32,
    /// History items with their share of the collaborative part, largest first.
    pub(super) because: Vec<(ItemId, f32)>,
    /// The title (else the id) of the first of them.
    pub(super) because_title: Option<String>,
    /// Words of the request that the item has.
    pub(super) matched: Vec<String>,
    /// Language of the request: `zh` gives a Chinese sentence, all else an English one.
    pub(super) language: Option<&'a str>,
}

/// The parts of the score by the names of API.md; they add up to it.
fn contributions(parts: &FeatureVector, boost: f32) -> Vec<(&'static str, f32)> {
    let mut named: Vec<(&'static str, f32)> = Vec::new();
    let groups = Feature::ALL.iter().zip(parts).map(|(feature, part)| (group(*feature), *part)).chain([("boost", boost)]);
    for (name, part) in groups.filter(|(_, part)| *part != 0.0) {
        match named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += part,
            None => named.push((name, part)),
        }
    }
    named
}

fn group(feature: Feature) -> &'static str {
    match feature {
        Feature::Semantic | Feature::Lexical => "text",
        Feature::Collaborative => "collaborative",
        Feature::Similar => "similar",
        Feature::Popularity => "popularity",
        Feature::Freshness => "freshness",
        Feature::Rejected => "rejected",
        Feature::Profile | Feature::Wording | Feature::Affinity => "profile",
        Feature::Vectors => "vectors",
    }
}

/// The explanation of one item.
pub(super) fn explain(reasons: Reasons<'_>) -> Explanation {
    let contributions = contributions(&reasons.parts, reasons.boost);
    let of = |name: &str| contributions.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, part)| *part);
    let chinese = reasons.language == Some("zh");
    let mut clauses: Vec<(f32, String)> = Vec::new();
    let mut say = |name: &str, english: String, chinese_clause: String| {
        if of(name) > 0.0 {
            clauses.push((of(name), if chinese { chinese_clause } else { english }));
        }
    };
    match reasons.matched.first() {
        Some(words) => say("text", format!("matches “{words}”"), format!("与“{words}”匹配")),
        None => say("text", "is close in meaning to what you wrote".into(), "与您描述的意思相近".into()),
    }
    match &reasons.because_title {
        Some(title) => say("collaborative", format!("people who liked “{title}” liked it"), format!("喜欢“{title}”的人也喜欢它")),
        None => say("collaborative", "people with a taste like yours liked it".into(), "口味相近的人也喜欢它".into()),
    }
    say("similar", "is like what you are looking at".into(), "与您正在看的相似".into());
    say("profile", "is like what you liked and wrote".into(), "与您喜欢和写过的相似".into());
    say("vectors", "resembles what you looked at or liked".into(), "与您看过或喜欢的相像".into());
    say("popularity", "many people want it".into(), "很受欢迎".into());
    say("freshness", "is new".into(), "是新上架的".into());
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    clauses.truncate(2);
    let sentence = clauses.into_iter().map(|(_, clause)| clause).collect::<Vec<_>>();
    let summary = match (sentence.is_empty(), chinese) {
        (true, false) => "Fills up the list".to_owned(),
        (true, true) => "补充推荐".to_owned(),
        (false, false) => capitalised(&sentence.join("; ")),
        (false, true) => sentence.join("；"),
    };
    Explanation { summary, contributions, because: reasons.because, matched: reasons.matched }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(parts: FeatureVector, language: Option<&str>) -> Reasons<'_> {
        let because = vec![(ItemId::new("sku-7").unwrap(), 0.2)];
        Reasons { parts, boost: 0.1, because, because_title: Some("Blue tent".into()), matched: vec!["light jacket".into()], language }
    }

    #[test]
    fn named_parts_add_up_and_the_largest_speak_first() {
        let parts = [0.5, 0.25, 0.2, 0.0, -0.4, 0.0, -6.0, 0.1, 0.05, 0.0, 0.02];

        let explanation = explain(reasons(parts, Some("en")));

        assert_eq!(explanation.summary, "Matches “light jacket”; people who liked “Blue tent” liked it");
        assert_eq!(
            explanation.contributions,
            [("text", 0.75), ("collaborative", 0.2), ("popularity", -0.4), ("rejected", -6.0), ("profile", 0.15), ("vectors", 0.02), ("boost", 0.1)]
        );
    }

    #[test]
    fn the_sentence_speaks_the_language_of_the_request() {
        assert_eq!(
            explain(reasons([0.1, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], Some("zh"))).summary,
            "喜欢“Blue tent”的人也喜欢它；与“light jacket”匹配"
        );
        assert_eq!(explain(reasons([-0.1; 11], None)).summary, "Fills up the list");
    }
}
