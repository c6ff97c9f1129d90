//! Rejections in Chinese, which writes no spaces. A rejection is `[连词] 触发词 [lead] object {、object} [的]`:
//!
//! - triggers before their object: 不要, 不想要, 不喜欢, 不含, 不带, 别是, 别放, 拒绝 …; 除了…以外; 不太甜; 对…过敏; and one after it: …除外;
//! - the object ends at a sign, a space, 的 or a word that begins something new (但, 只要, 推荐 …), and is eight characters at most;
//! - 、, 和, 或 … go on with a list.
//!
//! What only looks like one: 要不要 (a question), 特别是 and 别墅 (other words), 不想要…了 (a change of mind: somebody closes an account), 除了…还要 ("as well as"),
//! 不只 and 不仅, 没有收到 (a complaint). 无, 免, 低 before a noun are names of goods, see [`super`].

use std::ops::Range;

use super::{Cut, bare, is_han};

/// Characters of one object.
const MAX_CHARS: usize = 8;

/// Before their object, longest first where one begins another.
const TRIGGERS: &[&str] = &[
    "不要推荐",
    "不想要",
    "不想看",
    "不想买",
    "不想吃",
    "不想喝",
    "不想听",
    "不喜欢",
    "不爱吃",
    "不爱喝",
    "不爱看",
    "不能吃",
    "不能喝",
    "不包含",
    "不包括",
    "不考虑",
    "不接受",
    "不推荐",
    "不要",
    "不爱",
    "不吃",
    "不喝",
    "不看",
    "不听",
    "不穿",
    "不含",
    "不带",
    "不加",
    "不放",
    "别给我推荐",
    "别推荐",
    "别给我",
    "别要",
    "别放",
    "别加",
    "别带",
    "别是",
    "别买",
    "拒绝",
    "排除",
    "讨厌",
    "避开",
];
/// Of these, the ones after which 了 says that somebody has changed his mind: "我不想要花呗了".
const CHANGES: &[&str] = &["不要", "不想", "不喜欢", "不爱", "不能", "拒绝", "不考虑", "不接受", "不吃", "不喝", "不看", "不听"];
/// A quality that is taken back: 不太甜, 不甜的.
const QUALITIES: &str = "甜辣咸酸苦油腻贵厚重硬软吵咬薄长短大小";
/// Before a quality.
const DEGREES: &[&str] = &["不要太", "不能太", "不是太", "不是很", "不那么", "不太", "别太"];
/// Between a trigger and its object.
const LEADS: &[&str] = &["任何", "所有", "一切", "关于", "那种", "这种", "那么", "过于", "太", "很", "含有", "含", "带有", "带", "有", "是", "用"];
/// No object begins like this.
const NO_OBJECT: &[&str] = &[
    "我", "你", "他", "她", "它", "这", "那", "再", "给", "把", "让", "被", "随", "忘", "自", "钱", "紧", "脸", "说", "因", "只", "起", "就", "都", "也", "还",
    "吗", "吧", "呢", "了", "的", "到", "下", "怎", "什么", "发", "没", "直接", "本", "即", "每", "满",
];
/// Begin something new.
const STOPS: &[&str] = &[
    "但",
    "而是",
    "可是",
    "只要",
    "只想",
    "想要",
    "推荐",
    "给我",
    "有没有",
    "请",
    "谢谢",
    "最好",
    "其他",
    "其它",
    "别的",
    "怎么",
    "什么",
    "为什么",
    "如何",
    "可以",
    "不要",
    "不含",
    "不带",
    "就",
    "都",
    "也",
    "还",
    "吧",
    "啊",
    "呢",
    "吗",
    "哦",
    "呀",
    "哈",
    "了",
    "以外",
    "之外",
    "除外",
    "能不能",
    "麻烦",
    "要",
];
/// Between the objects of a list.
const LISTS: &[&str] = &["以及", "或者", "还有", "、", "和", "或", "跟", "与", "及"];
/// Names of things that begin like a word between two objects.
const NOT_LISTS: &[&str] = &["和服", "和牛", "和田", "跟鞋"];
/// After an object, no part of it.
const TAILS: &[&str] = &["做成", "制作", "制成", "之类", "这类", "那类", "做", "制"];
/// Somebody asks how or why something is, before or after what he does not have: a question to a help desk.
const ASKING: &[&str] = &["怎么", "为什么", "为啥", "如何", "怎样", "咋", "可以", "能否", "能不能"];
/// Particles after an object.
const PARTICLES: &[char] = &['了', '吧', '啊', '哈', '哦', '呀'];
/// Before a trigger, and nothing without it.
const CONNECTIVES: &[&str] = &["但是", "可是", "而且", "并且", "最好", "千万", "绝对", "但", "可", "也", "我", "请", "就是", "还", "又"];
/// Left over when everything else is cut out.
const FILLERS: &[&str] =
    &["其他的都可以", "其他都可以", "其他都行", "其他的都行", "什么都行", "什么都可以", "都可以", "都行", "都要", "都好", "谢谢", "就行", "就好", "的"];

/// What is rejected in Chinese, in the order of the text.
pub(super) fn cuts(text: &str) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let free = cuts.last().map_or(0, |cut| cut.piece.end);
        let found = match c {
            '不' | '别' | '拒' | '排' | '讨' | '避' => quality(text, at).or_else(|| open(text, at)).or_else(|| is_not(text, at)),
            '除' => exception(text, at).or_else(|| excepted(text, at, free)),
            '没' => lacking(text, at),
            '对' => allergy(text, at),
            _ => None,
        };
        match found {
            Some(mut cut) => {
                cut.piece.start = back(text, cut.piece.start).max(free);
                at = cut.piece.end;
                cuts.push(cut);
            }
            None => at += c.len_utf8(),
        }
    }
    cuts
}

/// Without words that say nothing by themselves.
pub(super) fn tidy(text: &str) -> &str {
    let mut text = bare(text);
    while let Some(rest) = FILLERS.iter().find_map(|filler| text.strip_prefix(filler)) {
        text = bare(rest);
    }
    text
}

/// The characters before `at`, from the last sign on.
fn clause(text: &str, at: usize) -> &str {
    let before = &text[..at];
    before.rfind(is_sign).map_or(before, |sign| before[sign..].trim_start_matches(is_sign))
}

fn is_sign(c: char) -> bool {
    !c.is_alphanumeric()
}

/// Over connectives that would be left without a second half.
fn back(text: &str, mut start: usize) -> usize {
    while let Some(before) = CONNECTIVES.iter().find_map(|word| text[..start].strip_suffix(word)) {
        start = before.len();
    }
    start
}

/// 不要…, 不含…, 别是…
fn open(text: &str, at: usize) -> Option<Cut> {
    let trigger = TRIGGERS.iter().find(|trigger| text[at..].starts_with(**trigger))?;
    let before = text[..at].chars().next_back();
    let other_word = match trigger.chars().next() {
        Some('不') => before.is_some_and(|c| trigger.chars().nth(1) == Some(c) || c == '得'), // 要不要, 吃不吃
        Some('别') => before.is_some_and(|c| "特区级类性分个差识告派辨判".contains(c)),
        _ => before.is_some_and(|c| "被会遭总".contains(c)),
    };
    if other_word {
        return None;
    }
    if asks(clause(text, at)) {
        return None;
    }
    let change = CHANGES.iter().any(|word| trigger.starts_with(word));
    objects(text, at, at + trigger.len(), change).filter(|cut| !asks(text[cut.piece.end..].chars().take(2).collect::<String>().as_str()))
}

fn asks(text: &str) -> bool {
    ASKING.iter().any(|word| text.contains(word))
}

/// Whether a clause begins at `at`, or a verb of wishing stands before it.
fn begins(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_none_or(|c| is_sign(c) || "要找买想个".contains(c))
}

/// 不是…的, as in 不是皮的.
fn is_not(text: &str, at: usize) -> Option<Cut> {
    let object = at + text[at..].strip_prefix("不是").map(|_| "不是".len())?;
    if !begins(text, at) || text.ends_with(['吗', '嘛', '呢']) || asks(text) {
        return None;
    }
    objects(text, at, object, true).filter(|cut| text[..cut.piece.end].ends_with('的'))
}

/// 不太甜, 别太甜的, 不甜的.
fn quality(text: &str, at: usize) -> Option<Cut> {
    let is_quality = |object: usize| text[object..].chars().next().filter(|c| QUALITIES.contains(*c)).map(char::len_utf8);
    let cut = |object: usize, end: usize, tail: usize| Some(Cut { piece: at..end + tail, objects: vec![object..end] });
    let tail = |end: usize| if text[end..].starts_with('的') { "的".len() } else { 0 };
    if let Some(degree) = DEGREES.iter().find(|degree| text[at..].starts_with(**degree)) {
        let object = at + degree.len();
        let end = object + is_quality(object)?;
        return cut(object, end, tail(end).max(if text[end..].starts_with('了') { "了".len() } else { 0 }));
    }
    let object = at + text[at..].strip_prefix('不').map(|_| "不".len())?;
    let end = object + is_quality(object)?;
    if tail(end) == 0 { None } else { cut(object, end, tail(end)) }
}

/// 除了…以外, 除…外.
fn exception(text: &str, at: usize) -> Option<Cut> {
    if text[..at].ends_with(['扣', '删', '清', '解', '去', '拆', '开', '消', '排', '免', '移']) {
        return None; // 删除了
    }
    let rest = text[at..].strip_prefix("除了").or_else(|| {
        let short = text[at..].strip_prefix('除').filter(|rest| !rest.starts_with(['外', '去', '了']));
        short.filter(|rest| rest.chars().take(MAX_CHARS + 3).take_while(|c| !is_sign(*c)).any(|c| c == '外'))
    })?;
    let object = text.len() - rest.len();
    let mut cut = objects(text, at, object, false)?;
    let tail = &text[cut.piece.end..];
    let after = ["以外", "之外", "外"].iter().find_map(|word| tail.strip_prefix(word)).unwrap_or(tail);
    let after = after.strip_prefix('的').unwrap_or(after);
    let said = after.trim_start_matches(is_sign);
    let ends = tail.len() > after.len() || text[..cut.piece.end].ends_with('的') || said.len() < after.len() || after.is_empty();
    if !ends && !["还", "都", "也", "其他", "其它", "别的"].iter().any(|word| said.starts_with(word)) {
        return None; // where the exception ends cannot be told
    }
    // 除了手机还要充电器 wants both; 除了手机还有什么 asks for something else.
    let asks = ["什么", "哪", "其他", "其它", "别的"].iter().any(|word| said.contains(word));
    if said.starts_with(['还', '也', '又']) && !asks {
        return None;
    }
    cut.piece.end = text.len() - after.len();
    Some(cut)
}

/// …除外.
fn excepted(text: &str, at: usize, free: usize) -> Option<Cut> {
    let end = at + text[at..].strip_prefix("除外").map(|_| "除外".len())?;
    let object = clause(&text[free..], at - free).trim_end_matches('的');
    let start = at - clause(&text[free..], at - free).len();
    let fits = !object.is_empty() && object.chars().count() <= MAX_CHARS;
    fits.then(|| Cut { piece: start..end, objects: split(text, start..start + object.len()) })
}

/// 没有糖的饮料, but not 没有收到的货.
fn lacking(text: &str, at: usize) -> Option<Cut> {
    let object = at + text[at..].strip_prefix("没有").map(|_| "没有".len())?;
    if !begins(text, at) || asks(text) {
        return None;
    }
    let cut = objects(text, at, object, true)?;
    let named = cut.objects.iter().all(|object| {
        let object = &text[object.clone()];
        object.chars().count() <= 4 && !object.contains(['收', '开', '到', '过', '人', '办', '发', '看', '还', '显', '用', '得', '想', '别', '通', '付'])
    });
    let noun_follows = text[cut.piece.end..].chars().next().is_some_and(is_han);
    (named && noun_follows && text[..cut.piece.end].ends_with('的')).then_some(cut)
}

/// 对花生过敏.
fn allergy(text: &str, at: usize) -> Option<Cut> {
    let rest = text[at..].strip_prefix('对')?;
    let length = rest.find("过敏").filter(|length| *length > 0)?;
    let object = &rest[..length];
    if object.chars().count() > 2 * MAX_CHARS || object.contains(|c: char| is_sign(c) && c != '、') {
        return None;
    }
    let start = text.len() - rest.len();
    Some(Cut { piece: at..start + length + "过敏".len(), objects: split(text, start..start + length) })
}

/// The objects from `from` on, of a rejection that begins at `at`. `change`: 了 after them says that it is none.
fn objects(text: &str, at: usize, from: usize, change: bool) -> Option<Cut> {
    let mut start = from + (text[from..].len() - text[from..].trim_start_matches(' ').len());
    while let Some(lead) = LEADS.iter().find(|lead| text[start..].starts_with(**lead)) {
        start += lead.len();
    }
    let first = text[start..].chars().next()?;
    if is_sign(first) || NO_OBJECT.iter().any(|word| text[start..].starts_with(word)) {
        return None;
    }
    let mut end = start;
    for (offset, c) in text[start..].char_indices() {
        let rest = &text[start + offset..];
        let stops = offset > 0 && STOPS.iter().any(|word| rest.starts_with(word));
        if c == '的' || stops || (is_sign(c) && c != '、' && !(c == '-' && offset > 0)) {
            break;
        }
        end = start + offset + c.len_utf8();
    }
    if change && text[end..].starts_with('了') {
        return None;
    }
    let rest = text[end..].strip_prefix('的').unwrap_or(&text[end..]);
    let tail = text[end..].len() - rest.trim_start_matches(PARTICLES).len();
    let objects = split(text, start..end);
    let fits = |object: &Range<usize>| {
        let object = &text[object.clone()];
        object.is_ascii() || object.chars().count() <= MAX_CHARS
    };
    (!objects.is_empty() && objects.iter().all(fits)).then(|| Cut { piece: at..end + tail, objects })
}

/// A list as its members.
fn split(text: &str, list: Range<usize>) -> Vec<Range<usize>> {
    let mut objects = Vec::new();
    let (mut start, mut at) = (list.start, list.start);
    let mut keep = |piece: Range<usize>| {
        let object = &text[piece.clone()];
        let object = TAILS.iter().find_map(|tail| object.strip_suffix(tail)).filter(|object| !object.is_empty()).unwrap_or(object);
        if !object.is_empty() {
            objects.push(piece.start..piece.start + object.len());
        }
    };
    while at < list.end {
        let rest = &text[at..list.end];
        let between = LISTS.iter().find(|word| at > start && rest.len() > word.len() && rest.starts_with(**word));
        match between {
            Some(word) if !NOT_LISTS.iter().any(|name| rest.starts_with(name)) => {
                keep(start..at);
                at += word.len();
                start = at;
            }
            _ => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    keep(start..list.end);
    objects
}
