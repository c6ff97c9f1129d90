//! The languages of a text. In: a cleaned text. Out: languages with their shares, largest first.
//!
//! A text is divided by script. Chinese, Japanese and Korean tell themselves. In other letters words of grammar decide where they are clear
//! ("schuhe ohne absatz"): a microsecond; else a trigram detector (whatlang), which takes some 50 and needs a sentence. What people type into a
//! shop is shorter, so below [`ENOUGH`] plain letters without grammar are taken for English: of 3,459 titles of office products, 70 letters
//! long, the detector alone is sure about 420.

use std::sync::LazyLock;

use whatlang::{Detector, Lang};

/// Letters from which on the detector is asked about a text in plain ASCII.
const ENOUGH: usize = 40;

/// A language with less of the text is not named: a brand in a Chinese sentence.
const LEAST_SHARE: f32 = 0.1;

/// One Chinese character says about as much as this many letters.
const LETTERS_OF_A_CHARACTER: usize = 3;

/// A language of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LanguageShare {
    /// ISO 639-1 code.
    pub language: &'static str,
    /// Of the text, 0 to 1; those of a text add up to 1.
    pub share: f32,
}

/// The languages of `text`, at least a tenth of it each, largest first; empty where none can be told.
pub(in crate::recommend) fn languages(text: &str) -> Vec<LanguageShare> {
    let (mut han, mut kana, mut hangul) = (0, 0, 0);
    let mut rest = String::new(); // in letters, other scripts cut out
    for c in text.chars() {
        match c {
            '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}' => han += 1,
            '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' => kana += 1,
            '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{ac00}'..='\u{d7af}' => hangul += 1,
            c if c.is_alphabetic() || c == '\'' => {
                rest.push(c);
                continue;
            }
            _ => {}
        }
        if !rest.ends_with(' ') {
            rest.push(' ');
        }
    }
    // Japanese writes Han characters too; five of them and no kana are Chinese.
    let (chinese, japanese) = if 5 * kana > han { (0, han + kana) } else { (han + kana, 0) };
    let letters = rest.chars().filter(|c| c.is_alphabetic()).count();
    let weights = [("zh", LETTERS_OF_A_CHARACTER * chinese), ("ja", LETTERS_OF_A_CHARACTER * japanese), ("ko", LETTERS_OF_A_CHARACTER * hangul)];
    let mut shares: Vec<(&'static str, usize)> = weights.into_iter().chain(in_letters(&rest, letters).map(|code| (code, letters))).collect();
    let all: usize = shares.iter().map(|(_, weight)| weight).sum();
    shares.retain(|(_, weight)| *weight > 0 && *weight as f32 >= LEAST_SHARE * all as f32);
    let all: usize = shares.iter().map(|(_, weight)| weight).sum();
    shares.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    shares.into_iter().map(|(language, weight)| LanguageShare { language, share: weight as f32 / all as f32 }).collect()
}

/// The language of words in letters.
fn in_letters(text: &str, letters: usize) -> Option<&'static str> {
    if letters == 0 {
        return None;
    }
    let (grammar, lead) = by_grammar(text).unzip();
    if text.is_ascii() && (letters < ENOUGH || lead.is_some_and(|lead| lead >= CLEAR)) {
        return grammar.or(Some("en"));
    }
    if let Some(language) = grammar.filter(|_| letters < ENOUGH || lead.is_some_and(|lead| lead >= CLEAR)) {
        return Some(language);
    }
    let found = DETECTOR.detect(text)?;
    if found.is_reliable() {
        return Some(code(found.lang()));
    }
    match text.chars().find(|c| !c.is_ascii()) {
        None => Some(grammar.unwrap_or("en")),
        // The detector takes short Russian for any of its neighbours.
        Some('\u{0400}'..='\u{04ff}') => Some(if text.contains(['і', 'ї', 'є', 'ґ', 'І', 'Ї', 'Є', 'Ґ']) { "uk" } else { "ru" }),
        // Accents leave few languages, other scripts often one.
        Some(_) => grammar.or_else(|| (found.confidence() > 0.2).then(|| code(found.lang()))),
    }
}

/// Words by which the first language is ahead where no detector is asked.
const CLEAR: u32 = 2;

/// Words of grammar that belong to one language and are no word of another or part of a brand.
const GRAMMAR: &[(&str, &str)] = &[
    ("de", " und mit ohne für aus der das ein eine einen nicht kein keine ich oder zum zur auf "),
    ("fr", " pour avec sans les des une aux dans pas je et du ou "),
    ("es", " para con sin los las una del por y el que no quiero "),
    ("it", " con senza della delle degli una uomo donna non che il "),
    ("pt", " para com sem uma dos das não homem mulher em "),
    ("nl", " voor met zonder een het niet geen en "),
    ("sv", " för med utan och inte som "),
    ("pl", " dla bez na nie się oraz "),
    ("tr", " için ve ile "),
    ("en", " the for with without and not no of in to a an from i is my me that "),
];

/// The language with the most words of grammar and by how many it is ahead; `None` where there are none or two have as many.
fn by_grammar(text: &str) -> Option<(&'static str, u32)> {
    let mut counts = [0_u32; GRAMMAR.len()];
    let lower = text.to_lowercase();
    for word in lower.split_whitespace() {
        for (count, (_, words)) in counts.iter_mut().zip(GRAMMAR) {
            let found = words.match_indices(word).any(|(at, _)| words[..at].ends_with(' ') && words[at + word.len()..].starts_with(' '));
            *count += u32::from(found);
        }
    }
    let mut ranked: Vec<(u32, &'static str)> = counts.into_iter().zip(GRAMMAR.iter().map(|(language, _)| *language)).collect();
    ranked.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let lead = ranked[0].0 - ranked[1].0;
    (lead > 0).then_some((ranked[0].1, lead))
}

/// What is told apart: asking for all its 70 takes four times as long.
const LANGUAGES: [(Lang, &str); 30] = [
    (Lang::Eng, "en"),
    (Lang::Deu, "de"),
    (Lang::Fra, "fr"),
    (Lang::Spa, "es"),
    (Lang::Por, "pt"),
    (Lang::Ita, "it"),
    (Lang::Nld, "nl"),
    (Lang::Rus, "ru"),
    (Lang::Ukr, "uk"),
    (Lang::Pol, "pl"),
    (Lang::Tur, "tr"),
    (Lang::Ara, "ar"),
    (Lang::Pes, "fa"),
    (Lang::Heb, "he"),
    (Lang::Hin, "hi"),
    (Lang::Tha, "th"),
    (Lang::Vie, "vi"),
    (Lang::Ind, "id"),
    (Lang::Swe, "sv"),
    (Lang::Dan, "da"),
    (Lang::Nob, "no"),
    (Lang::Fin, "fi"),
    (Lang::Ces, "cs"),
    (Lang::Slk, "sk"),
    (Lang::Hun, "hu"),
    (Lang::Ron, "ro"),
    (Lang::Bul, "bg"),
    (Lang::Hrv, "hr"),
    (Lang::Srp, "sr"),
    (Lang::Ell, "el"),
];

static DETECTOR: LazyLock<Detector> = LazyLock::new(|| Detector::with_allowlist(LANGUAGES.map(|(language, _)| language).to_vec()));

fn code(language: Lang) -> &'static str {
    LANGUAGES.iter().find(|(one, _)| *one == language).map_or("en", |(_, code)| code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn main(text: &str) -> Option<&'static str> {
        languages(text).first().map(|one| one.language)
    }

    #[test]
    fn languages_of_short_texts_are_told() {
        for (text, expected) in [
            ("light jacket for rainy hikes", Some("en")),
            ("jacket", Some("en")),
            ("iphone 15 case", Some("en")),
            ("HDMI 2.1 cable 3m", Some("en")),
            ("nike air max 90", Some("en")),
            ("下雨天徒步穿的轻便外套", Some("zh")),
            ("连衣裙 size M", Some("zh")),
            ("iPhone 充电器 数据线", Some("zh")),
            ("T恤", Some("zh")),
            ("軽いレインジャケットが欲しい", Some("ja")),
            ("가벼운 비옷", Some("ko")),
            ("schuhe ohne absatz", Some("de")),
            ("grüne Regenjacke", Some("de")),
            ("chaussures pour homme", Some("fr")),
            ("zapatos sin tacón", Some("es")),
            ("кроссовки мужские", Some("ru")),
            ("αδιάβροχο μπουφάν", Some("el")),
            ("Ich suche eine leichte Regenjacke für lange Wanderungen im Herbst", Some("de")),
            ("12345 !!", None),
            ("👟 ❤", None),
            ("", None),
        ] {
            assert_eq!(main(text), expected, "{text}");
        }
    }

    #[test]
    fn a_mixed_text_names_its_languages_with_shares_and_a_brand_is_no_language() {
        let mixed = languages("waterproof jacket 防水外套");
        assert_eq!(mixed.iter().map(|one| one.language).collect::<Vec<_>>(), ["en", "zh"]);
        assert!((mixed.iter().map(|one| one.share).sum::<f32>() - 1.0).abs() < 1e-6 && mixed[0].share > 0.5);

        assert_eq!(languages("我想买一双适合长跑的鞋子 M 码").len(), 1);
    }

    proptest! {
        #[test]
        fn shares_of_any_text_add_up_to_one_or_there_are_none(text in any::<String>()) {
            let languages = languages(&text);

            prop_assert!(languages.is_empty() || (languages.iter().map(|one| one.share).sum::<f32>() - 1.0).abs() < 1e-5);
        }
    }
}
