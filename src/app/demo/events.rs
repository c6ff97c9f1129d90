//! The events of 200 invented users over the last 60 days: the same on every machine and at every start.
//!
//! Each user belongs to a persona, a hand-written list of items that go together for some kind of person, across domains and
//! for some across languages; that is what collaborative filtering can find. Out comes a list of events, oldest first.

use serde::Deserialize;

use super::catalogue::ITEMS;
use crate::domain::Timestamp;

/// One event of an invented user; the loader turns `minutes_ago` into a time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DemoEvent {
    /// `demo-001` to `demo-200`, persona after persona in the order of the table.
    pub(super) user: String,
    /// An event type of the feedback table, by its name on the wire.
    pub(super) kind: &'static str,
    /// An item of the demo catalogue.
    pub(super) item_id: &'static str,
    /// What the feedback table says for the type: seconds, share, stars, quantity, money.
    pub(super) value: Option<f64>,
    /// Minutes before the demo was loaded, at least 1.
    pub(super) minutes_ago: i64,
}

/// "inkling" in ASCII.
const SEED: u64 = 0x0069_6e6b_6c69_6e67;
const WINDOW_MINUTES: i64 = 60 * 24 * 60;
/// One visit lasts less than this, so that its last event is not in the future.
const VISIT_MINUTES: i64 = 60;
/// Share of visits outside a user's taste: without them every held-out click would be too easy to foretell.
const WANDERING: f64 = 0.15;
/// Share of visits to a loved kind of item that disappoint.
const DISAPPOINTED: f64 = 0.06;

/// A kind of person: how many of them there are, and the items they love, the better known first.
struct Persona {
    users: usize,
    loves: &'static str,
}

const PERSONAS: [Persona; 30] = [
    // The rain hiker: light shells, long trails, songs of the fells.
    Persona {
        users: 9,
        loves: "shop-rain-shell shop-trail-boots shop-daypack-24 shop-trail-anorak shop-wool-socks shop-trekking-poles shop-head-torch shop-wind-shirt
            shop-grid-fleece video-rain-walkers video-long-way-trail video-hut-keeper music-fell-walker music-mountain-letters music-banjo-rain
            news-satellite-net",
    },
    // 徒步者 the Chinese hiker: light rainwear, poles and packs, mountain films, ballads.
    Persona {
        users: 9,
        loves: "shop-zh-light-shell shop-zh-hiking-shoes shop-zh-pack-38 shop-zh-poles shop-zh-quick-dry shop-zh-skin-jacket shop-zh-water-filter
            video-zh-tea-horse video-zh-snow-peak video-zh-camp-diary video-zh-mountain-doc music-zh-mountain-song music-zh-hut-record
            music-zh-grassland news-zh-tibet-ice",
    },
    // The bilingual hiker: buys and watches in both languages.
    Persona {
        users: 6,
        loves: "shop-rain-shell shop-zh-light-shell shop-zh-poles shop-daypack-24 shop-trail-boots shop-zh-hiking-shoes shop-trail-anorak
            video-zh-tea-horse video-long-way-trail video-hut-keeper video-zh-ridge-run music-zh-hut-record music-mountain-letters music-fell-walker
            news-glacier-core news-zh-tibet-ice",
    },
    // The alpinist: heavy weather, ropes, loud guitars on the drive home.
    Persona {
        users: 5,
        loves: "shop-storm-jacket shop-zh-hardshell shop-down-vest shop-trail-boots shop-head-torch shop-grid-fleece video-north-ridge
            video-avalanche-line video-free-solo-school video-first-snowline video-zh-snow-peak music-black-tarmac music-long-goodbye-road
            news-climbing-speed news-ski-snow news-glacier-core",
    },
    // 露营的周末 the weekend camper: tents, stoves, small lights, songs by the fire.
    Persona {
        users: 6,
        loves: "shop-zh-tent shop-zh-camp-stove shop-zh-camp-light shop-two-tent shop-summer-bag shop-solar-charger shop-zh-water-filter shop-rain-poncho
            video-zh-camp-diary video-zh-river-source video-dark-sky music-campfire-twelve music-zh-old-bike music-zh-mountain-song news-zh-meteor",
    },
    // The pour-over devotee: every gram and degree, with a piano trio.
    Persona {
        users: 7,
        loves: "shop-gooseneck-kettle shop-ceramic-dripper shop-hand-grinder shop-coffee-scale shop-paper-filters shop-ethiopian-beans shop-cold-brew-jar
            video-pour-over-class music-blue-kettle music-slow-roast music-after-closing music-lisbon-sketches news-coffee-price",
    },
    // 手冲爱好者 the Chinese pour-over drinker: clay drippers, Yunnan beans, café jazz.
    Persona {
        users: 7,
        loves: "shop-zh-dripper-set shop-zh-pour-kettle shop-zh-yunnan-beans shop-zh-grinder shop-zh-filter-cup shop-zh-drip-bags shop-zh-thermos-cup
            video-zh-coffee-farm news-zh-coffee-yunnan music-zh-cafe-corner music-zh-lazy-noon music-zh-tea-bossa music-zh-shanghai-night",
    },
    // The bilingual coffee and jazz person.
    Persona {
        users: 5,
        loves: "shop-gooseneck-kettle shop-zh-yunnan-beans shop-ethiopian-beans shop-zh-filter-cup shop-hand-grinder shop-zh-pour-kettle
            video-pour-over-class video-zh-coffee-farm news-coffee-price news-zh-coffee-yunnan music-blue-kettle music-zh-cafe-corner music-slow-roast
            music-zh-erhu-jazz",
    },
    // The home baker and weeknight cook.
    Persona {
        users: 8,
        loves: "shop-cast-iron-pan shop-chef-knife shop-bread-oven shop-spice-tins shop-wok-carbon shop-stovetop-pot video-one-pan video-bread-from-zero
            video-knife-skills video-pasta-grandmothers video-market-to-table video-street-wok news-gene-wheat news-market-hall news-school-roof
            music-winter-standards",
    },
    // 家常菜 the Chinese home cook: iron, clay, steam.
    Persona {
        users: 8,
        loves: "shop-zh-iron-wok shop-zh-clay-pot shop-zh-cleaver shop-zh-bamboo-steamer shop-zh-pickle-jar shop-zh-rice-cooker video-zh-home-dishes
            video-zh-wok-lesson video-zh-soup-winter video-zh-dumpling video-zh-breakfast video-zh-noodle-road news-zh-canteen news-zh-night-market
            music-zh-lazy-noon",
    },
    // The gadget reader: keyboards, models, security, focus music.
    Persona {
        users: 8,
        loves: "shop-mech-keyboard shop-noise-headphones shop-e-reader shop-travel-router shop-desk-lamp news-open-model news-passkeys-banks
            news-repair-law news-chip-plant news-ransom-clinic news-data-centre-heat video-office-migration video-quiet-robots music-focus-loops
            music-modular-diary support-passkey-login",
    },
    // 数码迷 the Chinese gadget reader.
    Persona {
        users: 8,
        loves: "shop-zh-anc-earphones shop-zh-power-bank shop-zh-nas-box shop-zh-reader shop-zh-smart-lamp news-zh-domestic-chip news-zh-battery
            news-zh-ai-village news-zh-robot-farm news-zh-port-auto video-zh-ai-mother video-zh-wrong-robot music-zh-metro-beat
            music-zh-neon-hotpot news-zh-phishing",
    },
    // The rail commuter: timetables, delays, dark mysteries through good headphones.
    Persona {
        users: 7,
        loves: "news-rail-timetable news-signal-failure news-night-trains news-bus-drivers news-tram-extension news-bike-lanes shop-noise-headphones
            shop-city-mac shop-e-reader video-signal-box video-night-ferry-case music-night-window music-neon-transit music-symphony-rail",
    },
    // 通勤的人 the Chinese commuter: trains, rain capes, city news.
    Persona {
        users: 7,
        loves: "news-zh-rail news-zh-night-bus news-zh-ebike-rule news-zh-slow-train news-zh-ancient-tree news-zh-bridge news-zh-delay-fog
            shop-zh-rain-cape shop-zh-three-in-one shop-zh-anc-earphones video-zh-train-home music-zh-metro-beat music-zh-last-bus
            music-zh-train-swing",
    },
    // The stargazer in both languages: comets, telescopes, choirs and wide pads.
    Persona {
        users: 6,
        loves: "news-comet-dawn news-zh-telescope news-zh-meteor news-moon-lander news-zh-space-station video-dark-sky video-zh-star-village
            music-zh-star-choir music-zh-high-sky shop-head-torch shop-down-vest music-drift-hours video-garden-on-titan",
    },
    // The naturalist: animals, ice and oceans, cello and quiet piano.
    Persona {
        users: 6,
        loves: "news-crow-tools news-deep-sea-coral news-glacier-core news-sleep-study news-gene-wheat video-bee-year video-reef-clock
            video-first-snowline music-cello-alone music-snow-room music-tidal-breath music-piano-nocturnes music-lute-garden shop-plant-stand",
    },
    // 自然与古琴 the Chinese naturalist: cranes, pandas, craft and guqin.
    Persona {
        users: 6,
        loves: "news-zh-panda-path news-zh-tibet-ice news-zh-fossil news-zh-old-street video-zh-wild-cranes video-zh-mountain-doc video-zh-lute-maker
            video-zh-river-source music-zh-guqin-rain music-zh-xiao-snow music-zh-temple-bell music-zh-fog-forest shop-zh-tea-set
            shop-zh-fragrance music-zh-pipa-suite",
    },
    // The economy reader: rates, rents, fraud on screen, late jazz.
    Persona {
        users: 6,
        loves: "news-interest-hold news-rent-index news-pension-age news-four-day-week news-wind-auction news-coffee-price news-chip-plant
            news-small-shops video-cold-ledger video-harbour-nine music-after-closing music-five-past-five support-invoice-copy shop-city-mac",
    },
    // 看财经的 the Chinese economy reader.
    Persona {
        users: 6,
        loves: "news-zh-housing news-zh-pension news-zh-gold news-zh-factory-class news-zh-express-fee news-zh-night-market news-zh-coffee-yunnan
            news-zh-domestic-chip video-zh-ledger video-zh-antique video-zh-old-factory music-zh-shanghai-night shop-zh-wool-coat",
    },
    // The football fan: cups, comebacks, stadium rock, and running in between.
    Persona {
        users: 7,
        loves: "news-cup-final news-handball-women news-marathon-record news-climbing-speed news-chess-club video-village-cup music-stoppage-time
            music-kerosene-hearts music-pulse-runner music-concrete-summer shop-running-earbuds shop-trail-runners video-standup-lift",
    },
    // 球迷和跑者 the Chinese fan who also runs.
    Persona {
        users: 7,
        loves: "news-zh-village-football news-zh-women-volley news-zh-city-marathon news-zh-table-tennis news-zh-ice-season news-zh-dragon-boat
            video-zh-village-team video-zh-ridge-run music-zh-stadium music-zh-run-night music-zh-loud-weekend shop-zh-bone-headset
            shop-zh-quick-dry shop-zh-skin-jacket",
    },
    // The science-fiction viewer with a synthesizer.
    Persona {
        users: 7,
        loves: "video-slow-post video-garden-on-titan video-ninth-orbit video-tide-machine video-second-memory video-quiet-robots video-loop-station
            video-flatmates-of-mars music-glass-cities music-orbital-drift music-neon-transit music-pixel-hearts news-moon-lander
            news-open-model video-zh-generation-ship",
    },
    // 科幻迷 the Chinese science-fiction viewer.
    Persona {
        users: 7,
        loves: "video-zh-moon-post video-zh-generation-ship video-zh-deep-signal video-zh-sand-city video-zh-cloud-lift video-zh-memory-shop
            video-zh-ai-mother music-zh-moon-base music-zh-sky-lift music-zh-arcade music-zh-guzheng-beat news-zh-space-station
            news-zh-telescope video-slow-post",
    },
    // The mystery evening under a wool throw, in both languages.
    Persona {
        users: 7,
        loves: "video-harbour-nine video-salt-marsh video-night-ferry-case video-forger-daughter video-cold-trail video-aunt-detective
            video-zh-fog-harbor video-zh-night-train-case video-zh-alley-case video-zh-missing-road shop-wool-throw music-winter-standards
            music-organ-harbour shop-linen-duvet",
    },
    // The new colleague who works from home: VPN, sign-in, headset.
    Persona {
        users: 6,
        loves: "support-vpn-install support-vpn-connect support-vpn-login-fails support-two-step-setup support-mail-setup support-vpn-drops
            support-headset-mic support-external-screen support-shared-mailbox support-wifi-office shop-noise-headphones shop-desk-lamp
            music-focus-loops",
    },
    // 居家办公 the Chinese colleague who works from home.
    Persona {
        users: 6,
        loves: "support-zh-vpn-new support-zh-vpn-fail support-zh-vpn-auth support-zh-vpn-intranet support-zh-vpn-drop support-zh-qr-login
            support-zh-mail-phone support-zh-meeting-mic support-zh-office-wifi support-zh-printer shop-zh-smart-lamp music-zh-study-rain
            shop-zh-drip-bags",
    },
    // 爱看喜剧听摇滚的 comedies, stand-up and garage rock, Chinese with some English.
    Persona {
        users: 6,
        loves: "video-zh-property video-zh-standup-north video-zh-food-stall video-zh-blind-date video-zh-village-team video-zh-wrong-robot
            music-zh-overpass music-zh-loud-weekend music-zh-girl-band music-zh-desert-road music-zh-northern-steel music-zh-last-bus
            video-standup-lift music-second-hand-amps music-basement-encore",
    },
    // The nest builder: linen, plants, lamps, slow music, local news.
    Persona {
        users: 5,
        loves: "shop-linen-duvet shop-wool-throw shop-plant-stand shop-self-water-pot shop-desk-lamp shop-spice-tins shop-zh-plant-pot
            video-laundry-club video-bread-from-zero music-greenhouse music-snow-room music-shepherds-tune news-library-night news-river-swim
            news-museum-free",
    },
    // The shopper whose parcels go astray.
    Persona {
        users: 6,
        loves: "support-track-parcel support-parcel-missing support-return-item support-refund-time support-wrong-size support-damaged-item
            support-charged-twice support-change-address shop-trail-runners shop-linen-duvet shop-city-mac shop-cold-brew-jar news-small-shops
            video-aunt-detective",
    },
    // 网购达人 the Chinese shopper: parcels, refunds, coupons, things for the flat.
    Persona {
        users: 6,
        loves: "support-zh-track support-zh-refund-when support-zh-return support-zh-lost-parcel support-zh-coupon support-zh-exchange-size
            support-zh-auto-renew support-zh-e-invoice shop-zh-cotton-quilt shop-zh-book-shelf shop-zh-bamboo-mat shop-zh-plant-pot
            shop-zh-rice-cooker shop-zh-down-jacket news-zh-express-fee",
    },
];

/// The part of a catalogue line that an event depends on.
#[derive(Deserialize)]
struct Entry<'a> {
    item_id: &'a str,
    created_at: Timestamp,
    price: Option<f64>,
}

/// The events of all users, oldest first. Nobody meets an item before it appeared, if the demo is loaded after its newest item.
pub(super) fn events() -> Vec<DemoEvent> {
    let lines = ITEMS.iter().flat_map(|domain| domain.lines());
    let catalogue: Vec<Entry<'static>> = lines.map(|line| serde_json::from_str(line).expect("a test parses every embedded line")).collect();
    let newest_ms = catalogue.iter().map(|entry| entry.created_at.millis()).max().unwrap_or(0);
    let find = |id: &str| catalogue.iter().find(|entry| entry.item_id == id);
    let tastes: Vec<Vec<&Entry<'static>>> = PERSONAS.iter().map(|persona| persona.loves.split_whitespace().filter_map(find).collect()).collect();

    let mut events = Vec::new();
    let members = PERSONAS.iter().enumerate().flat_map(|(index, persona)| std::iter::repeat_n(index, persona.users));
    for (number, persona) in (1_u64..).zip(members) {
        let mut random = SplitMix64(SEED ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let user = format!("demo-{number:03}");
        let budget = 10 + random.below(16);
        let mut met: Vec<&str> = Vec::new();
        let mut own = Vec::new();
        while own.len() < budget {
            let wanders = random.chance(WANDERING) || tastes[persona].iter().all(|entry| met.contains(&entry.item_id));
            let entry = match (wanders, random.chance(0.5)) {
                (false, _) => random.favourite(&tastes[persona]),
                // Half of the wandering follows what others love: that is how things become popular.
                (true, true) => {
                    let other = random.below(tastes.len());
                    random.favourite(&tastes[other])
                }
                (true, false) => &catalogue[random.below(catalogue.len())],
            };
            if met.contains(&entry.item_id) {
                continue;
            }
            met.push(entry.item_id);
            let age_minutes = ((newest_ms - entry.created_at.millis()) / 60_000).clamp(1, WINDOW_MINUTES - VISIT_MINUTES);
            let start = VISIT_MINUTES + random.below(age_minutes as usize) as i64;
            let pleased = tastes[persona].iter().any(|loved| loved.item_id == entry.item_id) && !random.chance(DISAPPOINTED);
            own.extend(visit(entry, pleased, &mut random).into_iter().map(|(kind, value, later)| DemoEvent {
                user: user.clone(),
                kind,
                item_id: entry.item_id,
                value,
                minutes_ago: start - later,
            }));
        }
        events.extend(own);
    }
    // Stable: what one user did within the same minute keeps its order.
    events.sort_by_key(|event| -event.minutes_ago);
    events
}

/// What somebody does with an item in one visit: event type, value, minutes after its start (less than [`VISIT_MINUTES`]).
fn visit(entry: &Entry<'_>, pleased: bool, random: &mut SplitMix64) -> Vec<(&'static str, Option<f64>, i64)> {
    let domain = entry.item_id.split_once('-').map_or("", |(domain, _)| domain);
    let mut steps = Vec::new();
    match (domain, pleased) {
        ("shop", true) => {
            steps.push((if random.chance(0.3) { "view" } else { "click" }, None, 0));
            if random.chance(0.45) {
                steps.push(("add_to_cart", Some(1.0), 4));
                if random.chance(0.6) {
                    steps.push(("purchase", entry.price, 11));
                    if random.chance(0.25) {
                        steps.push(("rating", Some(if random.chance(0.5) { 5.0 } else { 4.0 }), 50));
                    }
                }
            }
        }
        ("shop", false) => {
            steps.push(("view", None, 0));
            if random.chance(0.15) {
                steps.push(("rating", Some(if random.chance(0.5) { 1.0 } else { 2.0 }), 2));
            }
        }
        ("news", true) => {
            steps.push(("click", None, 0));
            if random.chance(0.6) {
                steps.push(("dwell", Some(50.0 + random.below(200) as f64), 4));
            }
            if random.chance(0.12) {
                steps.push(("share", None, 5));
            }
        }
        ("news", false) => {
            steps.push(("click", None, 0));
            if random.chance(0.5) {
                steps.push(("dwell", Some(2.0 + random.below(12) as f64), 1));
            }
        }
        ("video" | "music", true) => {
            steps.push(("watch", Some((70 + random.below(31)) as f64 / 100.0), 0));
            if random.chance(0.35) {
                steps.push(("like", None, 5));
            }
        }
        ("video" | "music", false) => {
            steps.push(("watch", Some((2 + random.below(40)) as f64 / 100.0), 0));
            if random.chance(0.2) {
                steps.push(("dislike", None, 1));
            }
        }
        (_, true) => {
            steps.push(("click", None, 0));
            if random.chance(0.65) {
                steps.push(("solved", None, 6));
            }
        }
        (_, false) => {
            steps.push(("click", None, 0));
            if random.chance(0.4) {
                steps.push(("unsolved", None, 6));
            }
        }
    }
    steps
}

/// The generator of Steele, Lea & Flood 2014 ("Fast splittable pseudorandom number generators"): small, and the same everywhere.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end`, without it; `end` is at least 1 and far below 2^32, so the modulo's bias is nothing.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1_u64 << 53) as f64
    }

    /// The earlier of two draws: the head of a list is met up to twice as often as its middle.
    fn favourite<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len()).min(self.below(list.len()))]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use super::super::catalogue;
    use super::*;
    use crate::domain::Event;
    use crate::features::{FeatureSettings, Preset, Signals};

    #[test]
    fn every_persona_loves_12_to_25_items_of_the_catalogue() {
        let items = catalogue::items();
        let known: HashSet<_> = items.iter().map(|item| item.item_id.as_str()).collect();

        for persona in &PERSONAS {
            let loves: Vec<_> = persona.loves.split_whitespace().collect();

            assert!((12..=25).contains(&loves.len()), "{} items: {loves:?}", loves.len());
            assert_eq!(loves.iter().collect::<HashSet<_>>().len(), loves.len(), "twice the same: {loves:?}");
            assert!(loves.iter().all(|id| known.contains(id)), "unknown: {:?}", loves.iter().find(|id| !known.contains(*id)));
        }
    }

    #[test]
    fn two_hundred_users_leave_ten_to_some_thirty_events_each_and_the_same_ones_every_time() {
        let events = events();

        let mut per_user = BTreeMap::new();
        for event in &events {
            *per_user.entry(event.user.as_str()).or_insert(0) += 1;
        }

        assert_eq!(per_user.len(), 200);
        assert_eq!((per_user.keys().next(), per_user.keys().next_back()), (Some(&"demo-001"), Some(&"demo-200")));
        assert!(per_user.values().all(|count| (10..=28).contains(count)), "{per_user:?}");
        assert_eq!(events, super::events());
    }

    #[test]
    fn every_event_could_have_been_sent_as_feedback_after_its_item_appeared() {
        let created: HashMap<_, _> = catalogue::items().into_iter().map(|item| (item.item_id.to_string(), item.created_at.unwrap())).collect();
        let loaded = created.values().max().unwrap().millis() + VISIT_MINUTES * 60_000;
        let now = Timestamp::from_millis(loaded).unwrap();
        let signals = Signals::new(&FeatureSettings::of(Preset::Shop)).unwrap();

        for event in events() {
            let at = Timestamp::from_millis(loaded - event.minutes_ago * 60_000).unwrap();
            let sent: Event = serde_json::from_value(serde_json::json!({"type": event.kind, "user_id": event.user, "item_id": event.item_id,
                "value": event.value, "timestamp": at.millis()}))
            .unwrap();

            assert!(signals.faults(&sent, now).is_empty(), "{event:?}: {:?}", signals.faults(&sent, now));
            assert!((1..=WINDOW_MINUTES).contains(&event.minutes_ago), "{event:?}");
            assert!(created[event.item_id] <= at, "{event:?} came before its item");
        }
    }

    #[test]
    fn most_of_what_a_user_meets_is_what_the_persona_loves() {
        let events = events();
        let first_hikers: HashSet<_> = (1..=PERSONAS[0].users).map(|number| format!("demo-{number:03}")).collect();
        let loves: HashSet<_> = PERSONAS[0].loves.split_whitespace().collect();

        let met: HashSet<_> = events.iter().filter(|event| first_hikers.contains(&event.user)).map(|event| (&event.user, event.item_id)).collect();
        let loved = met.iter().filter(|(_, item_id)| loves.contains(item_id)).count();

        let share = loved as f64 / met.len() as f64;
        assert!((0.75..0.95).contains(&share), "{share}");
    }
}
