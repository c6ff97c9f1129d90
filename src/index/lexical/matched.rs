//! Which words of the query an item has, for explanations. In: both texts. Out: pieces of the query as the user wrote them.

use rustc_hash::FxHashSet;

use super::analysis::{Analyzer, Kind, Token};

/// More than a reader wants to see.
const MAX_PHRASES: usize = 8;

/// Longest runs of the query whose terms all occur in the item, in the query's order, without repeats.
pub(super) fn phrases(analyzer: &Analyzer, query: &str, item_text: &str) -> Vec<String> {
    let item: FxHashSet<String> = analyzer.tokens(item_text).into_iter().map(|token| token.term).collect();
    let tokens = analyzer.tokens(query);
    let only_function_words = tokens.iter().all(|token| token.kind == Kind::Function);
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let counts = match token.kind {
            Kind::Word | Kind::Pair => true,
            Kind::Function => only_function_words,
            // One shared character of many says little; it counts where the query has no pair with it.
            Kind::Character => stands_alone(&tokens, i),
        };
        if !counts || !item.contains(&token.term) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if continues(query, run.end, token) => run.end = token.bytes.end,
            _ => runs.push(token.bytes.clone()),
        }
    }
    let mut seen = FxHashSet::default();
    runs.into_iter().map(|run| query[run].to_owned()).filter(|phrase| seen.insert(phrase.to_lowercase())).take(MAX_PHRASES).collect()
}

fn stands_alone(tokens: &[Token], i: usize) -> bool {
    let touches = |other: Option<&Token>| {
        other.is_some_and(|other| other.kind == Kind::Pair && other.bytes.start < tokens[i].bytes.end && tokens[i].bytes.start < other.bytes.end)
    };
    // A character stands between the pair that ends with it and the pair that begins with it.
    !touches(i.checked_sub(1).and_then(|before| tokens.get(before))) && !touches(tokens.get(i + 1))
}

/// Words run on over a space or a hyphen, pairs of characters over the character they share.
fn continues(query: &str, end: usize, token: &Token) -> bool {
    match token.kind {
        Kind::Pair => token.bytes.start < end,
        Kind::Character => false,
        Kind::Word | Kind::Function => {
            let between = query.get(end..token.bytes.start).unwrap_or("|");
            !between.is_empty() && between.chars().all(|c| c == ' ' || c == '-')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::LatinStemmer, *};

    #[test]
    fn phrases_are_the_users_own_words() {
        let analyzer = Analyzer::new(LatinStemmer::English);
        for (query, item, expected) in [
            ("light jacket for rainy hikes", "A jacket, light, for rainy days", vec!["light jacket", "rainy"]),
            ("Jackets", "one jacket", vec!["Jackets"]),
            ("JACKET jacket tent", "jacket", vec!["JACKET jacket"]),
            ("rain, jacket", "rain jacket", vec!["rain", "jacket"]),
            ("tent or TENT", "tent", vec!["tent"]),
            ("the who", "The Who live", vec!["the who"]),
            ("防水外套", "轻便防水的外套", vec!["防水", "外套"]),
            ("我要防水外套", "男士防水外套", vec!["防水外套"]),
            ("茶", "红茶", vec!["茶"]),
            ("红酒", "红茶", vec![]),
            ("我的外套", "的外套", vec!["的外套"]),
            ("Nike鞋子", "nike 鞋子", vec!["Nike", "鞋子"]),
            ("boat", "car", vec![]),
            ("", "car", vec![]),
        ] {
            assert_eq!(phrases(&analyzer, query, item), expected, "{query}");
        }
    }

    #[test]
    fn there_are_at_most_eight() {
        let query = "a1 xx b1 xx c1 xx d1 xx e1 xx f1 xx g1 xx h1 xx i1 xx j1";

        assert_eq!(phrases(&Analyzer::new(LatinStemmer::English), query, &query.replace("xx", "")).len(), MAX_PHRASES);
    }
}
