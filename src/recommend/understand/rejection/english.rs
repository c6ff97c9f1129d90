//! Rejections in English. A rejection is `[connective] trigger [lead] object {or object}`:
//!
//! - a trigger: `without`, `no`, `not`, `except`, `other than`, `anything but`, `I don't want`, `allergic to`, `nothing with`, `-word` …, unless
//!   what stands around it says otherwise ("not only", "no longer", "is not working", "No Time to Die");
//! - a lead that is no part of the object: `a`, `any`, `too`, `made of`, `from` …;
//! - an object: at most three words, up to a sign or a word that begins something new (`for`, `under`, `but` …);
//! - further objects after `or`, `nor`, a comma of a list, and after some triggers `and`.

use std::ops::Range;

use super::{Cut, bare};

/// Words of one object.
const MAX_WORDS: usize = 3;

/// A word, lower case, and where it stands.
struct Word {
    lower: String,
    bytes: Range<usize>,
    capital: bool,
    /// A sign other than a space stands before it: no phrase goes on over that.
    broken: Option<char>,
    /// Stands in brackets.
    inside: bool,
    /// Written `-word`: the operator of search engines.
    minus: bool,
}

/// Words after `no` and `not` that leave nothing rejected: idioms, states of things, questions to a help desk.
const AFTER_NO: &[&str] = &[
    "longer",
    "one",
    "way",
    "matter",
    "problem",
    "problems",
    "idea",
    "doubt",
    "need",
    "thanks",
    "thank",
    "reason",
    "luck",
    "response",
    "reply",
    "answer",
    "signal",
    "sound",
    "power",
    "internet",
    "connection",
    "display",
    "picture",
    "service",
    "access",
    "money",
    "refund",
    "option",
    "options",
    "record",
    "info",
    "information",
    "more",
    "other",
    "such",
    "idea",
    "clue",
    "sense",
    "use",
    "show",
    "slip",
    "stick",
    "bake",
    "iron",
    "tie",
    "drill",
    "pull",
    "sew",
    "boil",
    "glue",
    "rinse",
    "tear",
    "tears",
    "fuss",
    "code",
    "name",
    "fee",
    "fees",
    "limit",
    "later",
    "good",
    "matter",
    "wonder",
    "wifi",
    "success",
    "avail",
    "problemo",
    "contract",
];
const AFTER_NOT: &[&str] = &[
    "only",
    "just",
    "necessarily",
    "sure",
    "yet",
    "all",
    "bad",
    "found",
    "enough",
    "merely",
    "even",
    "able",
    "allowed",
    "always",
    "supposed",
    "simply",
    "quite",
    "at",
    "long",
    "far",
    "many",
    "much",
    "certain",
    "happy",
    "satisfied",
    "available",
    "possible",
    "clear",
    "correct",
    "right",
    "same",
    "here",
    "there",
    "me",
    "now",
    "again",
    "until",
    "through",
    "another",
    "one",
    "be",
    "get",
    "have",
    "let",
    "know",
    "see",
    "work",
    "to",
    "being",
    "as",
    "mine",
    "so",
    "ready",
    "active",
    "valid",
    "supported",
    "visible",
    "eligible",
    "compatible",
    "safe",
    "normal",
    "true",
    "real",
    "good",
    "great",
    "ok",
    "okay",
];
/// What has been done or not: the state of an order or a card.
const PARTICIPLES: &[&str] = &[
    "received",
    "arrived",
    "delivered",
    "charged",
    "accepted",
    "credited",
    "connected",
    "recognised",
    "recognized",
    "updated",
    "refunded",
    "completed",
    "shown",
    "processed",
    "approved",
    "verified",
    "activated",
    "done",
    "sent",
    "come",
    "gone",
    "paid",
    "made",
    "given",
    "required",
    "needed",
    "used",
    "opened",
    "included",
    "authorised",
    "authorized",
    "permitted",
    "showed",
    "appeared",
    "returned",
    "transferred",
    "registered",
    "installed",
    "declined",
    "confirmed",
];
/// Before `not` these make it a question or a statement.
const BEFORE_NOT: &[&str] = &[
    "why", "or", "if", "whether", "how", "could", "can", "will", "would", "should", "do", "does", "did", "may", "might", "must", "have", "has", "had", "shall",
    "i'm", "it's", "that's", "he's", "she's", "they're", "we're", "you're", "its", "im",
];
const COPULAS: &[&str] = &["is", "are", "was", "were", "am", "be", "been", "being", "isn't", "aren't"];
const RELATIVES: &[&str] = &["that", "which", "that's", "thats"];
/// Stand between a trigger and its object.
const LEADS: &[&str] = &[
    "a",
    "an",
    "the",
    "any",
    "anything",
    "some",
    "too",
    "very",
    "so",
    "really",
    "overly",
    "made",
    "from",
    "by",
    "with",
    "in",
    "for",
    "about",
    "of",
    "containing",
    "based",
    "on",
    "kind",
    "sort",
    "added",
    "more",
    "like",
    "all",
    "out",
    "much",
];
/// Begin something new.
const STOPS: &[&str] = &[
    "but", "please", "for", "with", "in", "under", "over", "below", "above", "to", "on", "that", "which", "who", "because", "since", "if", "as", "when",
    "while", "i", "i'm", "just", "only", "instead", "from", "at", "size", "than", "and", "or", "nor", "yet", "thanks", "thx", "around", "between", "less",
    "up", "my", "of", "by", "is", "are", "what", "how", "where", "we", "you", "it", "allowed", "within", "during", "rather",
];
const PRONOUNS: &[&str] = &[
    "me", "it", "you", "this", "that", "them", "him", "her", "us", "my", "your", "our", "their", "his", "its", "these", "those", "what", "i", "we", "they",
    "he", "she", "having", "being", "to", "who", "there", "mine", "others", "been",
];
/// Verbs of which the object is rejected after "don't".
const LIKING: &[&str] = &["want", "like", "need", "eat", "wear", "drink", "watch", "enjoy", "fancy", "include", "show", "recommend", "suggest"];
/// Verbs after "don't want to".
const USING: &[&str] = &["see", "watch", "read", "buy", "eat", "get", "have", "wear", "drink", "hear", "play", "use"];
/// End a list of things, or are all that is left of a sentence.
const FILLERS: &[&str] = &[
    "please",
    "anything",
    "something",
    "everything",
    "all",
    "any",
    "just",
    "but",
    "and",
    "or",
    "thanks",
    "thx",
    "with",
    "that",
    "which",
    "is",
    "are",
    "only",
    "everything's",
    "stuff",
    "things",
    "show",
    "me",
    "give",
    "find",
    "i",
    "want",
    "need",
    "im",
    "i'm",
    "looking",
    "for",
    "some",
    "recommend",
    "so",
    "because",
];
/// Words that may go from the ends of what is wanted even where more is left.
const LOOSE: &[&str] = &["please", "but", "and", "or", "thanks", "thx", "because", "so", "since", "as"];

/// What goods are made of.
const MATERIALS: &[&str] = &[
    "acrylic",
    "aluminium",
    "aluminum",
    "bamboo",
    "cashmere",
    "ceramic",
    "cotton",
    "denim",
    "elastane",
    "fleece",
    "fur",
    "glass",
    "latex",
    "leather",
    "linen",
    "lycra",
    "metal",
    "mohair",
    "nylon",
    "plastic",
    "polyester",
    "polyurethane",
    "rayon",
    "rubber",
    "satin",
    "silk",
    "spandex",
    "steel",
    "suede",
    "synthetic",
    "teflon",
    "velvet",
    "vinyl",
    "viscose",
    "wood",
    "wooden",
    "wool",
    "woollen",
];

/// A trigger at work: where the cut begins, where its object does, and whether `and` goes on with the list.
struct Trigger {
    first: usize,
    object: usize,
    and: bool,
}

/// What is rejected in English, in the order of the text.
pub(super) fn cuts(text: &str) -> Vec<Cut> {
    let words = words(text);
    if Sentence(&words).is_own_affair() {
        return Vec::new();
    }
    let mut cuts: Vec<Cut> = Vec::new();
    let (mut at, mut free) = (0, 0); // words before `free` belong to a cut already
    while at < words.len() {
        let found = Sentence(&words).trigger(at).and_then(|trigger| {
            let (objects, end) = Sentence(&words).material(&trigger).or_else(|| Sentence(&words).objects(&trigger))?;
            Some((trigger.first.max(free), objects, end))
        });
        match found {
            Some((first, objects, end)) => {
                let start = words[first].bytes.start - usize::from(words[first].minus);
                cuts.push(Cut { piece: start..words[end - 1].bytes.end, objects });
                (at, free) = (end, end);
            }
            None => at += 1,
        }
    }
    cuts
}

/// Without words that say nothing by themselves.
pub(super) fn tidy(text: &str) -> &str {
    let left = words(text);
    if text.is_ascii() && left.iter().all(|word| FILLERS.contains(&word.lower.as_str())) {
        return "";
    }
    let mut text = bare(text);
    loop {
        let loose = |word: &str| LOOSE.iter().any(|one| one.eq_ignore_ascii_case(word));
        let shorter = match (text.split_once(' '), text.rsplit_once(' ')) {
            (Some((first, rest)), _) if loose(bare(first)) => bare(rest),
            (_, Some((rest, last))) if loose(bare(last)) => bare(rest),
            _ => return text,
        };
        text = shorter;
    }
}

fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut chars = text.char_indices().peekable();
    let (mut broken, mut minus, mut before, mut inside) = (None, false, ' ', false);
    while let Some((start, c)) = chars.next() {
        if !is_letter(c) {
            minus = c == '-' && before == ' ';
            inside = if inside { c != ')' } else { c == '(' };
            if c != ' ' {
                broken = broken.or(Some(c));
            }
            before = c;
            continue;
        }
        let mut end = start + c.len_utf8();
        while let Some(&(offset, c)) = chars.peek() {
            let joins = matches!(c, '\'' | '’' | '-' | '/' | '.') && text[offset + c.len_utf8()..].chars().next().is_some_and(is_letter);
            if !(is_letter(c) || joins) {
                break;
            }
            end = offset + c.len_utf8();
            chars.next();
        }
        let lower = text[start..end].to_lowercase().replace('’', "'");
        words.push(Word { lower, bytes: start..end, capital: c.is_uppercase(), broken: broken.take(), inside, minus: std::mem::take(&mut minus) });
        before = ' ';
        if words.len() == 1 && words[0].broken == Some('-') {
            words[0].minus = false; // a dash before everything is no operator
        }
    }
    words
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() && !super::is_han(c)
}

struct Sentence<'a>(&'a [Word]);

impl Sentence<'_> {
    /// The word at a place, if there is one; "" else.
    fn at(&self, place: usize) -> &str {
        self.0.get(place).map_or("", |word| &word.lower)
    }

    /// The word that follows `place` without a sign between; "" else.
    fn next(&self, place: usize) -> &str {
        self.0.get(place + 1).filter(|word| word.broken.is_none()).map_or("", |word| &word.lower)
    }

    /// The word before `place` without a sign between; "" else.
    fn before(&self, place: usize) -> &str {
        if self.0[place].broken.is_some() || place == 0 { "" } else { self.at(place - 1) }
    }

    /// Whether somebody tells of his own things ("my card is not working", "can I pay without …"): of 10,003 messages to a bank only a
    /// handful wish something away. "A gift for my mother" is another matter.
    fn is_own_affair(&self) -> bool {
        (0..self.0.len()).any(|place| match self.at(place) {
            "my" => place == 0 || self.at(place - 1) != "for",
            "why" => true,
            "i" => place > 0 && matches!(self.at(place - 1), "can" | "could" | "do" | "did" | "am" | "should" | "will" | "if" | "why" | "may" | "have"),
            "me" => place > 0 && matches!(self.at(place - 1), "gave" | "charged" | "told"),
            "how" => matches!(self.at(place + 1), "do" | "to" | "can" | "does" | "did" | "long"),
            _ => false,
        })
    }

    /// A trigger that begins with a capital before another capital ("Rebel Without a Cause") or stands in brackets ("(Hotaru no haka)"): a name.
    fn is_title(&self, place: usize) -> bool {
        if self.0[place].inside {
            return true;
        }
        let capital = |place: usize| self.0.get(place).is_some_and(|word| word.capital);
        let after = if matches!(self.at(place + 1), "a" | "an" | "the" | "for" | "of") { place + 2 } else { place + 1 };
        capital(place) && capital(after)
    }

    /// Whether the word at `place` rejects what follows.
    fn trigger(&self, place: usize) -> Option<Trigger> {
        let (word, next, before) = (self.at(place), self.next(place), self.before(place));
        let found = |back: usize, object: usize, and: bool| Some(Trigger { first: self.back(place - back), object: place + object, and });
        if self.0[place].minus && place > 0 && !word.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(Trigger { first: place, object: place, and: false });
        }
        if self.is_title(place) {
            return None;
        }
        match word {
            "without" | "w/o" => {
                let idiom = |word: &str| matches!(word, "doubt" | "question" | "fail" | "notice" | "permission" | "success" | "problems" | "issues");
                if idiom(next) || (next == "a" && idiom(self.at(place + 2))) { None } else { found(0, 1, true) }
            }
            "excluding" | "avoid" | "avoiding" | "exclude" => found(0, 1, true),
            "except" => found(0, if next == "for" { 2 } else { 1 }, true),
            "no" if self.no(place) => found(0, 1, true),
            "not" => self.not(place, before, next),
            "isn't" | "aren't" if RELATIVES.contains(&before) && !self.is_state(next) => found(1, 1, false),
            "but" if matches!(before, "anything" | "everything") => found(1, 1, true),
            "other" | "rather" if next == "than" => found(0, 2, true),
            "apart" | "aside" if next == "from" => found(0, 2, true),
            "instead" if next == "of" => found(0, 2, true),
            "nothing" if matches!(next, "with" | "in" | "by" | "from" | "made" | "about" | "too" | "containing") => found(0, 1, true),
            "don't" | "dont" | "do" => {
                let verb = if word == "do" { if next == "not" { place + 2 } else { return None } } else { place + 1 };
                if !LIKING.contains(&self.at(verb)) || !matches!(before, "" | "i" | "we" | "but" | "and" | "please" | "really") {
                    return None;
                }
                let to = self.next(verb) == "to";
                if to && !USING.contains(&self.at(verb + 2)) {
                    return None;
                }
                let first = self.back(place - usize::from(matches!(before, "i" | "we")));
                let me = usize::from(self.next(verb) == "me");
                Some(Trigger { first, object: verb + 1 + me + if to { 2 } else { 0 }, and: true })
            }
            "hate" | "dislike" if matches!(before, "i" | "we") => found(1, 1, true),
            "allergic" if next == "to" => {
                let back = match (before, place) {
                    ("i'm" | "im", _) => 1,
                    ("am", 2..) if self.at(place - 2) == "i" => 2,
                    _ => return None,
                };
                found(back, 2, true)
            }
            _ => None,
        }
    }

    fn no(&self, place: usize) -> bool {
        let (next, before) = (self.next(place), self.before(place));
        let state = matches!(before, "have" | "has" | "had" | "got" | "is" | "are" | "was" | "there" | "there's" | "say" | "says" | "said" | "why")
            && !(place >= 2 && RELATIVES.contains(&self.at(place - 2)));
        !(next.is_empty() || state || AFTER_NO.contains(&next) || next.starts_with(|c: char| c.is_ascii_digit()))
    }

    fn not(&self, place: usize, before: &str, next: &str) -> Option<Trigger> {
        if next == "a" {
            let of = (place + 2..place + 5).find(|of| self.at(*of) == "of" && self.at(*of - 1) == "fan");
            if let Some(of) = of {
                let back = if matches!(before, "i'm" | "im") { 1 } else { 0 };
                return Some(Trigger { first: self.back(place - back), object: of + 1, and: true });
            }
        }
        let made_of = next == "made" && matches!(self.at(place + 2), "of" | "by" | "from" | "in" | "with");
        if next.is_empty() || (self.is_state(next) && !made_of) {
            return None;
        }
        if COPULAS.contains(&before) {
            let relative = place >= 2 && RELATIVES.contains(&self.at(place - 2));
            return relative.then(|| Trigger { first: self.back(place - 2), object: place + 1, and: false });
        }
        if RELATIVES.contains(&before) && before != "that" {
            return Some(Trigger { first: self.back(place - 1), object: place + 1, and: false });
        }
        if BEFORE_NOT.contains(&before) {
            return None;
        }
        Some(Trigger { first: self.back(place), object: place + 1, and: false })
    }

    /// "not working", "not received": of a thing that somebody has.
    fn is_state(&self, word: &str) -> bool {
        AFTER_NOT.contains(&word) || PARTICIPLES.contains(&word) || (word.len() > 4 && word.ends_with("ing"))
    }

    /// Over connectives that would be left without a second half.
    fn back(&self, mut place: usize) -> usize {
        while place > 0
            && self.0[place].broken.is_none()
            && matches!(self.at(place - 1), "but" | "and" | "with" | "made" | "has" | "have" | "ideally" | "preferably")
        {
            let relative = place >= 2 && RELATIVES.contains(&self.at(place - 2)) && matches!(self.at(place - 1), "has" | "have");
            place -= if relative { 2 } else { 1 };
        }
        place
    }

    /// What alone is rejected in "avoid polyester shirts": who types nothing else looks for shirts. Of materials only, because of "avoid high heels".
    fn material(&self, trigger: &Trigger) -> Option<(Vec<Range<usize>>, usize)> {
        let [avoid, material, things] = self.0 else { return None };
        let many = things.lower.len() > 3 && things.lower.ends_with('s') && !things.lower.ends_with("ss");
        let plain = material.broken.is_none() && things.broken.is_none();
        let rejects = trigger.first == 0 && matches!(avoid.lower.as_str(), "avoid" | "avoiding" | "exclude" | "excluding");
        (rejects && plain && many && MATERIALS.contains(&material.lower.as_str())).then(|| (vec![material.bytes.clone()], 2))
    }

    /// The objects of a trigger and the word after them.
    fn objects(&self, trigger: &Trigger) -> Option<(Vec<Range<usize>>, usize)> {
        let mut objects = Vec::new();
        let (object, mut end) = self.object(trigger.object, trigger.object == trigger.first)?;
        objects.push(object);
        let conjunction = |word: &str| matches!(word, "or" | "nor") || (trigger.and && word == "and");
        loop {
            let comma = self.0.get(end).is_some_and(|word| word.broken == Some(','));
            let goes_on = match self.0.get(end) {
                Some(word) if conjunction(&word.lower) && (word.broken.is_none() || comma) => self.object(end + 1, false),
                Some(_) if comma && self.list_goes_on(end, &conjunction) => self.object(end, true),
                _ => None,
            };
            let Some((object, next)) = goes_on else { break };
            objects.push(object);
            end = next;
        }
        Some((objects, end))
    }

    /// Whether an `or` follows after a few short items: "nuts, dairy or gluten".
    fn list_goes_on(&self, from: usize, conjunction: &impl Fn(&str) -> bool) -> bool {
        let mut since_comma = 0;
        for place in from..self.0.len().min(from + 8) {
            match self.0[place].broken {
                Some(',') => since_comma = 0,
                Some(_) => return false,
                None => {}
            }
            if conjunction(self.at(place)) {
                return place > from;
            }
            since_comma += 1;
            if since_comma > 2 || STOPS.contains(&self.at(place)) || self.is_trigger_word(place) {
                return false;
            }
        }
        false
    }

    /// One object from `place` on, and the word after it. `signed`: a sign may stand before it.
    fn object(&self, mut place: usize, mut signed: bool) -> Option<(Range<usize>, usize)> {
        let open = |place: usize, signed: bool| self.0.get(place).is_some_and(|word| signed || word.broken.is_none());
        while open(place, signed) && LEADS.contains(&self.at(place)) {
            place += 1;
            signed = false;
        }
        if !open(place, signed) || PRONOUNS.contains(&self.at(place)) || STOPS.contains(&self.at(place)) || self.is_trigger_word(place) && !self.0[place].minus
        {
            return None;
        }
        let mut end = place + 1;
        while end < place + MAX_WORDS && open(end, false) && !STOPS.contains(&self.at(end)) && !self.is_trigger_word(end) && !self.0[place].minus {
            end += 1;
        }
        Some((self.0[place].bytes.start..self.0[end - 1].bytes.end, end))
    }

    fn is_trigger_word(&self, place: usize) -> bool {
        self.0[place].minus
            || matches!(self.at(place), "no" | "not" | "without" | "w/o" | "except" | "excluding" | "nothing" | "don't" | "dont" | "other" | "apart")
    }
}
