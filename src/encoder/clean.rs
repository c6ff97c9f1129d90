//! Cleans text before it is encoded: what people paste and feeds deliver in, plain words out.
//!
//! HTML tags and entities go, Unicode is composed (NFKC: full-width letters become plain ones), control, zero-width and direction characters go,
//! whitespace is one space. Emoji stay, for they mean something ("🍕"), but without skin tones, joiners and repetitions; letters keep two accents at most.
//! What is clean stays as it is. Bounded: at most [`MAX_CLEAN_CHARS`] characters come out, whatever comes in.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};
use unicode_normalization::UnicodeNormalization as _;

use crate::domain::{MAX_ITEM_TEXT_CHARS, MAX_TITLE_CHARS};

/// Characters that come out at most: room for the longest title and text of an item.
pub const MAX_CLEAN_CHARS: usize = MAX_TITLE_CHARS + MAX_ITEM_TEXT_CHARS + 1;

/// The text as the encoder reads it. `"3 < 5 and 7 > 2"` stays what it is: a tag is an HTML element's name in brackets.
///
/// ```
/// assert_eq!(inkling::encoder::clean("<p>Tea &amp;\n\u{200b}<b>cake</b></p>"), "Tea & cake");
/// ```
pub fn clean(text: &str) -> String {
    // Markup is cut away first, so a page may be some times longer than its words.
    let text = first_chars(text, 4 * MAX_CLEAN_CHARS);
    let mut cleaned = pass(text);
    // One layer of markup may hide another: full-width brackets, escaped escapes, a tag in a tag.
    for _ in 1..MAX_PASSES {
        if cleaned.bytes().all(|byte| byte.is_ascii() && !matches!(byte, b'<' | b'&')) {
            return cleaned;
        }
        let again = pass(&cleaned);
        if again == cleaned {
            return cleaned;
        }
        cleaned = again;
    }
    // Deeper than any feed: without these signs nothing is left to unwrap.
    pass(&cleaned.replace(['<', '&'], " "))
}

/// Layers of markup that are taken off; feeds have two or three.
const MAX_PASSES: usize = 5;

fn pass(text: &str) -> String {
    let text = without_tags(text);
    let text = html_escape::decode_html_entities(&text);
    // Feeds often escape whole HTML: what looked like text turns out to be tags.
    let text = without_tags(&text);
    let mut cleaned = String::with_capacity(text.len());
    let mut chars = 0;
    let mut space = false;
    let mut accents = 0;
    // Before composing, or what was between a letter and its accent would keep them apart; some composed characters are invisible, too.
    for c in text.chars().filter(|c| c.is_whitespace() || !is_invisible(*c) || is_separator(*c)).nfkc() {
        if c.is_whitespace() || is_separator(c) {
            space = !cleaned.is_empty();
            continue;
        }
        accents = if matches!(c, '\u{300}'..='\u{36f}') { accents + 1 } else { 0 };
        let repeated = is_emoji(c) && !space && cleaned.ends_with(c);
        if is_invisible(c) || accents > MAX_ACCENTS || repeated {
            continue;
        }
        if chars + usize::from(space) >= MAX_CLEAN_CHARS {
            break;
        }
        if std::mem::take(&mut space) {
            cleaned.push(' ');
            chars += 1;
        }
        cleaned.push(c);
        chars += 1;
    }
    cleaned
}

/// Accents that a letter keeps; more are decoration.
const MAX_ACCENTS: usize = 2;

/// Control characters that separate fields.
fn is_separator(c: char) -> bool {
    matches!(c, '\u{1c}'..='\u{1f}')
}

/// Pictures that people repeat to shout.
fn is_emoji(c: char) -> bool {
    matches!(c, '\u{2600}'..='\u{27bf}' | '\u{2b50}' | '\u{2b55}' | '\u{1f300}'..='\u{1faff}')
}

/// The longest beginning of `text` with at most `limit` characters.
pub(super) fn first_chars(text: &str, limit: usize) -> &str {
    match text.char_indices().nth(limit) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

/// Control characters, soft hyphens, zero-width characters, direction marks, variation selectors, tags: nothing a reader sees; and skin tones and
/// the frame of a keycap, which only colour what stands before them.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{20e3}')
}

/// Elements whose content no one reads.
const HIDDEN: &str = "script|style|noscript|template|svg|math";

/// Elements inside a word or a sentence: they vanish without a gap.
const INLINE: &str = "a|abbr|b|bdi|bdo|big|cite|code|del|dfn|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var|wbr";

/// All others that end a word.
const BLOCK: &str = "address|article|aside|audio|base|blockquote|body|br|button|canvas|caption|center|col|colgroup|data|dd|details|dialog|div|dl|dt|embed|\
fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hgroup|hr|html|iframe|img|input|label|legend|li|link|main|map|area|menu|meta|meter|nav|\
object|ol|optgroup|option|output|p|param|picture|pre|progress|rp|rt|ruby|section|select|source|summary|table|tbody|td|textarea|tfoot|th|thead|time|title|tr|track|\
ul|video|math|noscript|script|style|svg|template";

/// Attributes that may stand without a value; any other bare word means that this is no tag but a comparison.
const FLAGS: &str = "allowfullscreen|async|autofocus|autoplay|checked|controls|defer|disabled|hidden|itemscope|loop|multiple|muted|novalidate|open|playsinline|\
readonly|required|selected";

static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let attribute = format!(r#"\s+(?:[a-z_:@][\w:.@-]*\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>=`]+)|(?:{FLAGS})\b)"#);
    let element = format!("</?(?:(?<inline>{INLINE})|{BLOCK})(?:{attribute})*\\s*/?>");
    let hidden = HIDDEN.split('|').map(|name| format!("<{name}(?:{attribute})*\\s*>.*?</{name}\\s*>")).collect::<Vec<_>>().join("|");
    let pattern = format!("(?is)<!--.*?-->|<!doctype[^<>]*>|<!\\[CDATA\\[|\\]\\]>|{hidden}|{element}");
    Regex::new(&pattern).inspect_err(|error| tracing::error!(%error, "the pattern of HTML tags does not compile")).ok()
});

fn without_tags(text: &str) -> Cow<'_, str> {
    match &*TAG {
        Some(tag) if text.contains('<') => tag.replace_all(text, |found: &Captures<'_>| if found.name("inline").is_some() { "" } else { " " }),
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cleaned_texts_are_what_a_person_reads() {
        let long_tag = format!("<div class=\"{}\">x</div>", "y".repeat(5000));
        let table = [
            ("", ""),
            (" \t\r\n\u{a0}\u{3000} ", ""),
            ("3 < 5 and 7 > 2", "3 < 5 and 7 > 2"),
            ("if a <b and c> d", "if a <b and c> d"),
            ("Vec<String> and <you@example.com> <3", "Vec<String> and <you@example.com> <3"),
            ("<p>one</p><p>two</p>", "one two"),
            ("un<b>believ</b>able", "unbelievable"),
            ("<A HREF='x>y'>link</A>", "link"),
            ("<input type=text disabled>go<br/>on", "go on"),
            ("a<script>if (1 < 2) { alert('x') }</script>b", "a b"),
            ("<STYLE type=\"text/css\">p { color: red }</STYLE>red", "red"),
            ("a<!-- not > shown -->b", "a b"),
            ("an <unclosed", "an <unclosed"),
            ("AT&T &amp; R&D &#39;s &lt; &nbsp; &eacute;", "AT&T & R&D 's < é"),
            ("&lt;p&gt;escaped&lt;/p&gt;", "escaped"),
            ("ﬁne Ｆｕｌｌ ｗｉｄｔｈ ①", "fine Full width 1"),
            ("e\u{301}", "é"),
            ("zero\u{200b}width\u{feff} so\u{ad}ft", "zerowidth soft"),
            ("bell\u{7} null\0 line\u{2028}break", "bell null line break"),
            ("  many   spaces\n\nand\tlines ", "many spaces and lines"),
            ("无线 降噪耳机，续航30小时", "无线 降噪耳机,续航30小时"),
            ("👩\u{200d}👧 ❤\u{fe0f}", "👩👧 ❤"),
            ("👍🏽👍🏿👍 1\u{fe0f}\u{20e3} pizza 🍕🍕🍕!", "👍 1 pizza 🍕!"),
            ("🇨🇳 ☕☕ ☕", "🇨🇳 ☕ ☕"),
            ("\u{202e}desrever\u{202c} \u{2066}שלום\u{2069} \u{200f}عربي", "desrever שלום عربي"),
            ("Ｉｐｈｏｎｅ１５　手机壳！", "Iphone15 手机壳!"),
            ("ﾊﾝﾄﾞﾊﾞｯｸﾞ ㌔ ㈱", "ハンドバッグ キロ (株)"),
            ("Z\u{338}\u{322}\u{34e}\u{327}a\u{334}l\u{336}g\u{337}o\u{336}\u{31b}\u{324}", "Z\u{338}\u{322}a\u{334}l\u{336}g\u{337}ơ\u{336}\u{324}"),
            ("Việt Nam", "Việt Nam"),
            ("&amp;lt;b&amp;gt;twice&amp;lt;/b&amp;gt;", "twice"),
            ("＜ｂ＞wide＜／ｂ＞", "wide"),
            ("<<b>b>nested</b>", "nested"),
            ("a\u{200b}\u{301}", "á"),
            ("防水 jacket für 女士 кроссовки", "防水 jacket für 女士 кроссовки"),
            (long_tag.as_str(), "x"),
        ];
        for (dirty, expected) in table {
            assert_eq!(clean(dirty), expected, "{dirty:?}");
        }
    }

    #[test]
    fn what_comes_out_is_bounded_even_when_characters_expand() {
        // One character that NFKC makes eighteen of.
        assert_eq!(clean(&"\u{fdfa}".repeat(50_000)).chars().count(), MAX_CLEAN_CHARS);
        assert_eq!(clean(&"<".repeat(1_000_000)).chars().count(), MAX_CLEAN_CHARS);
        assert_eq!(clean(&"a ".repeat(1_000_000)).chars().count(), MAX_CLEAN_CHARS);
    }

    #[test]
    fn markup_without_end_costs_a_few_passes_and_leaves_nothing_to_unwrap() {
        for deep in ["&amp;".repeat(1) + &"amp;".repeat(20_000) + "lt;", "<b".repeat(5_000) + &">".repeat(5_000), "&amp;lt;".repeat(5_000)] {
            let cleaned = clean(&deep);

            assert_eq!(clean(&cleaned), cleaned);
        }
    }

    proptest! {
        #[test]
        fn what_is_clean_stays_as_it_is(text in any::<String>(), markup in "([<>&;/b\u{301}\u{200b}＜＞＆；a ]|amp;|lt;|&#60;|&#38;|<b>|\u{ffa0}|\u{1100}\u{1161}|👍|🏽|e\u{301}){0,24}") {
            for text in [text, markup] {
                let cleaned = clean(&text);

                prop_assert_eq!(clean(&cleaned), cleaned);
            }
        }

        #[test]
        fn any_text_cleans_to_one_line_without_invisible_characters(text in any::<String>()) {
            let cleaned = clean(&text);

            prop_assert!(!cleaned.chars().any(is_invisible));
            prop_assert!(!cleaned.contains("  ") && cleaned.trim() == cleaned);
        }
    }
}
