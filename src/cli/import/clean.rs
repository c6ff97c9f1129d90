//! What other systems write, made to fit: texts cut to what an item or event may hold, labels without control characters.

use crate::domain::{MAX_LABEL_BYTES, MAX_LIST};

/// The text, cut to so many characters; and whether it was.
pub(super) fn cut(text: &str, chars: usize) -> (String, bool) {
    match text.char_indices().nth(chars) {
        Some((end, _)) => (text[..end].to_owned(), true),
        None => (text.to_owned(), false),
    }
}

/// A category, tag or attribute text: trimmed, one line, at most as long as a label may be; `None` where nothing is left.
pub(super) fn label(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()).collect();
    let mut label = words.join(" ");
    let mut end = label.len().min(MAX_LABEL_BYTES);
    while !label.is_char_boundary(end) {
        end -= 1;
    }
    label.truncate(end);
    let label = label.trim_end().to_owned();
    (!label.is_empty()).then_some(label)
}

/// Labels in their order, each once, as many as a list may have.
pub(super) fn labels<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for label in texts.into_iter().filter_map(label) {
        if labels.len() < MAX_LIST && !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

/// A text that says something.
pub(super) fn said(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_one_line_short_and_unique() {
        assert_eq!(label(" Home\n& \t Garden "), Some("Home & Garden".into()));
        assert_eq!(label(" \u{0} "), None);
        assert!(label(&"商".repeat(200)).unwrap().len() <= MAX_LABEL_BYTES);
        assert_eq!(labels(["a", "b ", "a", ""]), ["a", "b"]);
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        assert_eq!(cut("商品好", 2), ("商品".to_owned(), true));
        assert_eq!(cut("商品", 2), ("商品".to_owned(), false));
    }
}
