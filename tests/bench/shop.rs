//! An invented shop: items, events of users with tastes, and what people ask for; all from a seed.

use serde_json::{Value as Json, json};

/// Who come.
pub(crate) const USERS: usize = 2_000;

pub(crate) const TOPICS: [(&str, &str); 12] = [
    ("running", "running shoes marathon trail sole cushion stride pace jogging socks shorts track sprint knee laces grip"),
    ("kitchen", "kitchen knife pan skillet oven baking whisk steel cutting board spice cook saucepan kettle ceramic lid"),
    ("audio", "headphones wireless speaker bass noise cancelling earbuds microphone vinyl turntable stereo amplifier cable studio sound battery"),
    ("garden", "garden seeds shovel compost lawn mower hose pruning roses tomato greenhouse soil pots rake watering herbs"),
    ("photography", "camera lens tripod shutter aperture zoom portrait landscape film flash sensor mirrorless strap filter exposure macro"),
    ("books", "novel thriller detective mystery romance history biography poetry chapter author paperback series fantasy dragons wizard saga"),
    ("hiking", "hiking jacket rain waterproof backpack tent boots mountain compass sleeping bag fleece trekking poles camp stove"),
    ("office", "desk chair keyboard monitor ergonomic lamp drawer printer paper notebook pen organizer stand webcam mouse cable"),
    ("toys", "puzzle blocks wooden toy train doll board game dice cards children robot kite crayons plush castle"),
    ("cycling", "bicycle helmet gears chain tyre saddle pedal gloves pump lights lock road gravel commuter brake frame"),
    ("music", "guitar strings piano drums violin sheet amplifier pedal tuner capo strap songs lessons melody rhythm metronome"),
    ("pets", "dog cat leash collar treats kibble litter scratching post bed bowl brush aquarium fish bird cage toy"),
];
pub(crate) const PLAIN: &str = "quiet light sturdy small large soft warm modern classic simple handmade durable affordable compact bright elegant reliable \
    everyday premium gift travel home outdoor winter summer evening beginners professionals families weekend comfortable adjustable";
pub(crate) const ADJECTIVES: [&str; 8] = ["quiet", "light", "sturdy", "small", "warm", "simple", "durable", "compact"];

/// SplitMix64 (Steele, Lea & Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// 0 to 1.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() * end as f64) as usize
    }

    pub(crate) fn word<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

pub(crate) fn words(list: &str) -> Vec<&str> {
    list.split_whitespace().collect()
}

/// 20 to 60 words, two of three about the item's topic; item n is about topic n mod 12.
pub(crate) fn item(n: usize, random: &mut Random) -> Json {
    let (topic, list) = TOPICS[n % TOPICS.len()];
    let (special, plain) = (words(list), words(PLAIN));
    let text: Vec<&str> = (0..20 + random.below(41)).map(|_| if random.next() < 0.67 { random.word(&special) } else { random.word(&plain) }).collect();
    let title = format!("{} {} {}", random.word(&plain), random.word(&special), random.word(&special));
    let price = 5.0 + (random.next() * 20_000.0).round() / 100.0;
    json!({"item_id": format!("sku-{n}"), "title": title, "text": text.join(" "), "categories": [topic], "tags": [random.word(&plain)], "language": "en", "price": price})
}

/// Of a shop of `items`: four of five events lie in the user's two topics; in a topic few items are wanted by many.
pub(crate) fn event(n: usize, items: usize, random: &mut Random) -> Json {
    let user = random.below(USERS);
    let topic = if random.next() < 0.8 { (user * 7 + random.below(2) * 5) % TOPICS.len() } else { random.below(TOPICS.len()) };
    let rank = (random.next().powi(3) * (items / TOPICS.len()) as f64) as usize;
    let kind = ["view", "click", "click", "add_to_cart", "like"][random.below(5)];
    let at = 1_790_000_000_000_i64 + n as i64 * 30_000;
    let mut event = json!({"event_id": format!("e-{n}"), "type": kind, "user_id": format!("user-{user}"), "item_id": format!("sku-{}", rank * TOPICS.len() + topic), "timestamp": at});
    if kind == "add_to_cart" {
        event["value"] = json!(1.0);
    }
    event
}

/// 8 to 12 tokens, never the same text: the number sees to that.
pub(crate) fn query(n: usize) -> String {
    let mut random = Random(n as u64 + 77);
    let special = words(TOPICS[random.below(TOPICS.len())].1);
    format!("{} {} and {} under {}", random.word(&ADJECTIVES), random.word(&special), random.word(&special), n + 1_000)
}
