//! One page of an arranged list: pins at their places, the others around them within their quotas, and places for items that few know yet.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::domain::{Feature, ItemKey};

use super::{Exploration, Place, Quotas};
use crate::recommend::request::Arranged;

/// What a page must be like.
pub(in crate::recommend) struct Slots<'a> {
    /// What earlier pages showed.
    pub(in crate::recommend) shown: &'a [ItemKey],
    pub(in crate::recommend) limit: usize,
    /// Items and their positions, counted from 1 over all pages; each position and item once.
    pub(in crate::recommend) pins: Vec<(usize, ItemKey)>,
    pub(in crate::recommend) quotas: Quotas<'a>,
    pub(in crate::recommend) cold: Cold,
    pub(in crate::recommend) exploration: Exploration,
}

/// Places for cold items.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::recommend) struct Cold {
    /// How many of a page are cold at least, where there are any.
    pub(in crate::recommend) slots: usize,
    /// The popularity (as the feature counts it) below which an item is cold.
    pub(in crate::recommend) below: f32,
}

impl Cold {
    fn is(&self, place: &Place) -> bool {
        place.ranked.candidate.features[Feature::Popularity as usize] < self.below
    }
}

/// A page.
pub(in crate::recommend) struct Page {
    pub(in crate::recommend) places: Vec<Place>,
    /// Whether there is another after it.
    pub(in crate::recommend) more: bool,
}

/// Takes a page from an arranged list. What comes after the page is not touched where it need not be: a place is 150 bytes, a list a thousand of them.
pub(in crate::recommend) fn fill(mut list: Vec<Place>, mut slots: Slots<'_>) -> Page {
    if !slots.shown.is_empty() {
        let shown: FxHashSet<ItemKey> = slots.shown.iter().copied().collect();
        list.retain(|place| !shown.contains(&place.ranked.candidate.key));
    }
    let pinned = pinned(&mut list, &slots);
    let (mut here, mut later, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for (at, place) in pinned {
        if at >= slots.limit {
            later.push(place);
        } else if slots.quotas.refusal_by_rule(&place.ranked.candidate.facts).is_some() {
            held.push(place);
        } else {
            slots.quotas.take(&place.ranked.candidate.facts);
            here.push((at, place));
        }
    }
    let room = slots.limit - here.len();
    // Where the list ends before their positions, the pinned items of later pages close up.
    let mut rest = list.into_iter().chain(later);
    let mut sequence = take(&mut rest, room, &mut slots.quotas, &mut held);
    let missing = slots.cold.slots.saturating_sub(here.iter().map(|(_, place)| place).chain(&sequence).filter(|place| slots.cold.is(place)).count());
    if missing > 0 {
        held.extend(rest.by_ref());
        give_places(missing, slots.cold, room, &mut sequence, &mut held, &mut slots.quotas);
    }
    if slots.exploration.explores() {
        held.extend(rest.by_ref().take(Exploration::AMONG));
        let cold = slots.cold;
        slots.exploration.explore(&mut sequence, &mut held, &mut slots.quotas, |place| cold.slots > 0 && cold.is(place));
    }
    for (at, place) in here {
        sequence.insert(at.min(sequence.len()), place);
    }
    Page { places: sequence, more: !held.is_empty() || rest.next().is_some() }
}

/// Takes from the list what is pinned to this page or a later one, each with its place counted from this page's first.
fn pinned(list: &mut Vec<Place>, slots: &Slots<'_>) -> Vec<(usize, Place)> {
    let first = slots.shown.len() + 1;
    let to_come = slots.pins.iter().filter(|(position, _)| *position >= first);
    let wanted: FxHashMap<ItemKey, usize> = to_come.map(|(position, key)| (*key, position - first)).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let taken = list.extract_if(.., |place| wanted.contains_key(&place.ranked.candidate.key));
    let mut pinned: Vec<(usize, Place)> =
        taken.map(|place| (wanted[&place.ranked.candidate.key], Place { arranged: Some(Arranged::Pinned), ..place })).collect();
    pinned.sort_by_key(|(at, _)| *at);
    pinned
}

/// The first so many that the quotas let pass; those before them that they do not are held back. What comes up by that says why.
fn take(list: &mut impl Iterator<Item = Place>, room: usize, quotas: &mut Quotas<'_>, held: &mut Vec<Place>) -> Vec<Place> {
    let (mut taken, mut passed): (Vec<Place>, Option<Arranged>) = (Vec::new(), None);
    while taken.len() < room {
        let Some(mut place) = list.next() else { break };
        match quotas.refusal(&place.ranked.candidate.facts) {
            Some(why) => {
                passed.get_or_insert(why);
                held.push(place);
            }
            None => {
                quotas.take(&place.ranked.candidate.facts);
                place.arranged = place.arranged.or_else(|| passed.clone());
                taken.push(place);
            }
        }
    }
    taken
}

/// The best cold items that were held back come in, as many as are missing, spread over the page, for the last that are not cold.
fn give_places(missing: usize, cold: Cold, room: usize, sequence: &mut Vec<Place>, held: &mut Vec<Place>, quotas: &mut Quotas<'_>) {
    let (mut fresh, others): (Vec<Place>, Vec<Place>) =
        std::mem::take(held).into_iter().partition(|place| cold.is(place) && place.arranged != Some(Arranged::Pinned));
    *held = others;
    fresh.sort_by(|a, b| by_text(b).total_cmp(&by_text(a)).then(a.ranked.candidate.key.cmp(&b.ranked.candidate.key)));
    let mut chosen = Vec::new();
    for place in fresh {
        let full = sequence.len() + chosen.len() >= room;
        let last = sequence.iter().rposition(|place| !cold.is(place)).filter(|_| full);
        if chosen.len() == missing || (full && last.is_none()) {
            held.push(place);
            continue;
        }
        let out = last.map(|last| sequence.remove(last));
        out.iter().for_each(|out| quotas.give_back(&out.ranked.candidate.facts));
        if quotas.refusal(&place.ranked.candidate.facts).is_none() {
            quotas.take(&place.ranked.candidate.facts);
            chosen.push(place);
            held.extend(out);
        } else {
            held.push(place);
            if let Some((last, out)) = last.zip(out) {
                quotas.take(&out.ranked.candidate.facts);
                sequence.insert(last, out);
            }
        }
    }
    let (count, length) = (chosen.len(), sequence.len() + chosen.len());
    for (place, at) in chosen.into_iter().zip(spread(count, length)) {
        sequence.insert(at, Place { arranged: Some(Arranged::Cold), ..place });
    }
}

/// So many positions in the middle of equal parts of a list.
fn spread(count: usize, length: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (2 * i + 1) * length / (2 * count))
}

/// What the item's own words, meaning and date say, without what others did.
fn by_text(place: &Place) -> f32 {
    let others = [Feature::Collaborative, Feature::Popularity].map(|feature| place.ranked.parts[feature as usize]);
    place.order - others.iter().sum::<f32>()
}
