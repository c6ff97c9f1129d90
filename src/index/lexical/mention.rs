//! Whether a text mentions something, by the terms that searching uses. In: a phrase and the text. Out: yes, no, or "says that it has none of it".

use super::analysis::{Analyzer, Kind, Token};

/// Words before a mention that take it back: "no sugar", "without sugar", "non-leather".
const NOT_BEFORE: &[&str] = &["no", "non", "not", "without", "zero", "0", "never", "sans", "minus"];
/// Between those and the mention: "no added sugar".
const BETWEEN: &[&str] = &["ad", "add", "ani", "real", "anim", "artifici", "the", "a", "extra"];
/// Words after it: "sugar-free", "sugarless".
const NOT_AFTER: &[&str] = &["free", "less"];
/// What stands right before a mention in Chinese and takes it back.
const CHINESE_NOT: &[&str] =
    &["无", "免", "零", "非", "未", "去", "0", "不含", "没有", "不加", "不带", "不放", "不添加", "未添加", "零添加", "无添加", "不是", "无任何"];

/// A few words or characters that another text may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrase {
    terms: Vec<String>,
    /// What every text that mentions it has, but for case and accents: the beginning of its longest term.
    sign: String,
}

/// What a text says of a phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mention {
    /// Nothing.
    Absent,
    /// It names it.
    Named,
    /// It says that it has none of it: "gluten-free", 无糖.
    Denied,
}

impl Phrase {
    pub(super) fn new(analyzer: &Analyzer, text: &str) -> Self {
        let terms: Vec<String> = sequence(analyzer, text).map(|token| token.term).collect();
        let longest = terms.iter().max_by_key(|term| term.len()).map_or("", String::as_str);
        let sign = match longest.chars().next() {
            // A stem differs from its word at the end only.
            Some(c) if c.is_ascii() => longest.get(..longest.len().min(3)).unwrap_or(""),
            Some('\u{3400}'..='\u{9fff}') => longest,
            _ => "", // other letters have cases
        };
        Self { sign: sign.to_owned(), terms }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    fn may_be_in(&self, text: &str) -> bool {
        let sign = self.sign.as_bytes();
        // Where the term has "e" the text may have "é".
        let accents = || self.sign.is_ascii() && text.chars().any(|c| ('\u{c0}'..'\u{250}').contains(&c));
        sign.is_empty() || text.as_bytes().windows(sign.len()).any(|window| window.eq_ignore_ascii_case(sign)) || accents()
    }

    /// What `text` says of the phrase: its words one after the other.
    pub(super) fn mention(&self, analyzer: &Analyzer, text: &str) -> Mention {
        if self.terms.is_empty() || !self.may_be_in(text) {
            return Mention::Absent;
        }
        let tokens: Vec<Token> = sequence(analyzer, text).collect();
        let mut mention = Mention::Absent;
        for place in 0..(tokens.len() + 1).saturating_sub(self.terms.len()) {
            let end = place + self.terms.len();
            if !tokens[place..end].iter().map(|token| &token.term).eq(&self.terms) {
                continue;
            }
            if !denied(text, &tokens, place, end) {
                return Mention::Named;
            }
            mention = Mention::Denied;
        }
        mention
    }

    /// Whether `label`, a category or a tag, is what the phrase is about: its beginning, as "horror" is of "horror films" and 恐怖 of 恐怖片.
    /// Not its end: who rejects "leather shoes" has nothing against shoes.
    pub(super) fn begins_with(&self, analyzer: &Analyzer, label: &str) -> bool {
        let mut tokens = sequence(analyzer, label).map(|token| token.term).peekable();
        let mut terms = self.terms.iter();
        // A single character begins too many words.
        let long_enough = label.chars().nth(1).is_some();
        long_enough && tokens.peek().is_some() && tokens.all(|term| terms.next() == Some(&term))
    }
}

/// Words and characters in their order.
fn sequence(analyzer: &Analyzer, text: &str) -> impl Iterator<Item = Token> {
    analyzer.tokens(text).into_iter().filter(|token| token.kind != Kind::Pair)
}

fn denied(text: &str, tokens: &[Token], place: usize, end: usize) -> bool {
    let before = text[..tokens[place].bytes.start].trim_end_matches([' ', '-']);
    if CHINESE_NOT.iter().any(|word| before.ends_with(word) && !(word.is_ascii() && before.len() > 1 && before.as_bytes()[before.len() - 2].is_ascii_digit())) {
        return true;
    }
    let near = |from: usize, to: usize| text[from..to].chars().all(|c| c == ' ' || c == '-');
    let word = |place: usize| tokens.get(place).filter(|token| !matches!(token.kind, Kind::Character));
    if let Some(after) = word(end) {
        if NOT_AFTER.contains(&after.term.as_str()) && near(tokens[end - 1].bytes.end, after.bytes.start) {
            return true;
        }
    }
    let mut next = tokens[place].bytes.start;
    for back in (0..place).rev().take(2) {
        let Some(token) = word(back).filter(|token| near(token.bytes.end, next)) else { return false };
        if NOT_BEFORE.contains(&token.term.as_str()) {
            return true;
        }
        if !BETWEEN.contains(&token.term.as_str()) {
            return false;
        }
        next = token.bytes.start;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{super::LatinStemmer, *};

    #[test]
    fn a_text_names_a_phrase_says_nothing_of_it_or_says_that_it_has_none() {
        let analyzer = Analyzer::new(LatinStemmer::English);
        for (phrase, text, expected) in [
            ("leather", "Leather boots", Mention::Named),
            ("leather", "Canvas boots", Mention::Absent),
            ("nuts", "Nut bar", Mention::Named),
            ("gluten", "Gluten-free bread", Mention::Denied),
            ("gluten", "gluten free", Mention::Denied),
            ("sugar", "Juice, no added sugar", Mention::Denied),
            ("sugar", "Without sugar, but a sugar crust", Mention::Named),
            ("leather", "non-leather bag", Mention::Denied),
            ("scary stories", "Ten scary stories", Mention::Named),
            ("scary stories", "stories, scary", Mention::Absent),
            ("cafe", "Café latte", Mention::Named),
            ("皮", "真皮沙发", Mention::Named),
            ("糖", "无糖可乐", Mention::Denied),
            ("酒精", "不含酒精的香水", Mention::Denied),
            ("恐怖片", "恐怖电影", Mention::Absent),
            ("", "x", Mention::Absent),
        ] {
            assert_eq!(Phrase::new(&analyzer, phrase).mention(&analyzer, text), expected, "{phrase} in {text}");
        }
    }

    #[test]
    fn a_label_that_the_phrase_begins_with_is_meant_and_one_that_it_ends_with_is_not() {
        let analyzer = Analyzer::new(LatinStemmer::English);
        for (phrase, label, expected) in [
            ("horror movies", "Horror", true),
            ("science fiction", "science-fiction", true),
            ("leather shoes", "shoes", false),
            ("恐怖片", "恐怖", true),
            ("皮鞋", "鞋", false),
            ("horror", "", false),
        ] {
            assert_eq!(Phrase::new(&analyzer, phrase).begins_with(&analyzer, label), expected, "{phrase}: {label}");
        }
    }
}
