//! What a text is: its language by script and statistics. The encoder says what it means.

use whatlang::Lang;

/// The ISO 639-1 code of the language `text` is mostly in, where that can be told.
///
/// The script decides for Chinese, Japanese and Korean; for the rest a trigram detector, and where the text is too short for it,
/// plain ASCII is taken for English.
pub(super) fn language(text: &str) -> Option<&'static str> {
    let count = |ranges: &[std::ops::RangeInclusive<char>]| text.chars().filter(|c| ranges.iter().any(|range| range.contains(c))).count();
    let han = count(&['\u{3400}'..='\u{9fff}', '\u{20000}'..='\u{323af}']);
    let kana = count(&['\u{3040}'..='\u{30ff}']);
    let hangul = count(&['\u{ac00}'..='\u{d7af}']);
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    if letters == 0 {
        return None;
    }
    // One Chinese character says about as much as four letters.
    if 4 * (han + kana + hangul) >= letters {
        return Some(if hangul > han + kana {
            "ko"
        } else if 5 * kana > han {
            "ja"
        } else {
            "zh"
        });
    }
    match whatlang::detect(text) {
        Some(found) if found.is_reliable() => code(found.lang()),
        _ => text.is_ascii().then_some("en"),
    }
}

fn code(language: Lang) -> Option<&'static str> {
    Some(match language {
        Lang::Eng => "en",
        Lang::Deu => "de",
        Lang::Fra => "fr",
        Lang::Spa => "es",
        Lang::Por => "pt",
        Lang::Ita => "it",
        Lang::Nld => "nl",
        Lang::Rus => "ru",
        Lang::Ukr => "uk",
        Lang::Pol => "pl",
        Lang::Tur => "tr",
        Lang::Ara => "ar",
        Lang::Heb => "he",
        Lang::Hin => "hi",
        Lang::Tha => "th",
        Lang::Vie => "vi",
        Lang::Ind => "id",
        Lang::Swe => "sv",
        Lang::Dan => "da",
        Lang::Nob => "no",
        Lang::Fin => "fi",
        Lang::Ces => "cs",
        Lang::Ell => "el",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_of_short_texts_are_told() {
        for (text, expected) in [
            ("light jacket for rainy hikes", Some("en")),
            ("jacket", Some("en")),
            ("下雨天徒步穿的轻便外套", Some("zh")),
            ("iPhone 充电器 数据线", Some("zh")),
            ("軽いレインジャケットが欲しい", Some("ja")),
            ("가벼운 비옷", Some("ko")),
            ("Ich suche eine leichte Regenjacke für lange Wanderungen im Herbst", Some("de")),
            ("12345 !!", None),
            ("", None),
        ] {
            assert_eq!(language(text), expected, "{text}");
        }
    }
}
