//! What the user's acts say at this moment: acts and context in, weighted items (newest first) and the set of seen items out.

use rustc_hash::FxHashSet;

use crate::{
    domain::ItemKey,
    features::{Act, History, Opinion, Signals, Table},
};

/// A user's history as the sources use it.
#[derive(Debug, Default)]
pub(super) struct Taste {
    /// Items with a signed weight, newest first; context items come first of all.
    pub(super) items: Vec<(ItemKey, f32)>,
    /// Items that count as seen.
    pub(super) seen: FxHashSet<ItemKey>,
    /// Items that the user never wants to see again.
    pub(super) hidden: FxHashSet<ItemKey>,
    /// What the user wrote, with how much it says now, newest first.
    pub(super) texts: Vec<(Box<str>, f32)>,
    /// The newest event that counted, 0 without any.
    pub(super) as_of: i64,
}

impl Taste {
    /// Reads the histories of user and session (an event that stands in both counts once) up to the event `as_of`; what was seen or hidden, to the end.
    pub(super) fn read(histories: &[History], as_of: Option<i64>, context: &[ItemKey], signals: &Signals, table: &Table) -> Self {
        let mut acts: Vec<Act> = histories.iter().flat_map(|history| &history.acts).cloned().collect();
        if histories.len() > 1 {
            acts.sort_unstable_by_key(|act| act.sequence);
            acts.dedup_by_key(|act| act.sequence);
        }
        // What was seen or hidden since the first page is not to be shown on a later one either, whatever else that goes by.
        let all = acts.len();
        let of_all = as_of.is_some().then(|| opinions(&acts, signals, table));
        acts.retain(|act| as_of.is_none_or(|last| act.sequence <= last));
        let known = of_all.as_ref().filter(|_| acts.len() == all).cloned().unwrap_or_else(|| opinions(&acts, signals, table));
        let of_all = of_all.as_ref().unwrap_or(&known);
        let those = |matter: fn(&Opinion) -> bool| of_all.iter().filter(|(_, opinion)| matter(opinion)).map(|(key, _)| *key).collect();
        let (seen, hidden) = (those(|opinion| opinion.seen), those(|opinion| opinion.hidden));

        let mut texts: Vec<_> = histories.iter().flat_map(|history| &history.texts).filter(|text| as_of.is_none_or(|last| text.sequence <= last)).collect();
        texts.sort_unstable_by_key(|text| std::cmp::Reverse((text.at, text.sequence)));
        texts.dedup_by_key(|text| text.sequence);
        let newest = acts.iter().map(|act| act.sequence).chain(texts.iter().map(|text| text.sequence)).max().unwrap_or(0);
        let newest_at = acts.iter().map(|act| act.at).chain(texts.iter().map(|text| text.at)).max();
        let now_ms = newest_at.map_or(0, |at| at.millis());
        let texts = texts.into_iter().map(|text| (text.text.clone(), signals.decayed(text.weight, now_ms - text.at.millis()))).collect();
        // What the user looks at now says as much as a purchase just made.
        let items = context.iter().map(|key| (*key, 1.0));
        let items =
            items.chain(known.iter().filter(|(key, opinion)| opinion.weight != 0.0 && !context.contains(key)).map(|(key, opinion)| (*key, opinion.weight)));
        Self { items: items.collect(), seen, hidden, texts, as_of: as_of.unwrap_or(newest) }
    }
}

/// What the acts say of items of the catalogue, newest first.
fn opinions(acts: &[Act], signals: &Signals, table: &Table) -> Vec<(ItemKey, Opinion)> {
    let mut known: Vec<(ItemKey, Opinion)> = signals.opinions(acts).into_iter().filter_map(|(id, opinion)| Some((table.key_of(&id)?, opinion))).collect();
    known.sort_unstable_by(|(a, x), (b, y)| y.at.cmp(&x.at).then(a.cmp(b)));
    known
}
