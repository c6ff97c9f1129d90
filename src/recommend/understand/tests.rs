//! Understanding with the real encoder, on the 400 items of the demo: are probabilities what they say?

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus::Registry;

use super::{
    categories::{Calibration, Categories, Sample, Sums},
    *,
};
use crate::{
    domain::{Embedding, Item},
    encoder::{Encoder, EncoderMetrics, EncoderSettings, prepare},
};

const DEMO: [&str; 5] = [
    include_str!("../../app/demo/items/shop.ndjson"),
    include_str!("../../app/demo/items/news.ndjson"),
    include_str!("../../app/demo/items/video.ndjson"),
    include_str!("../../app/demo/items/music.ndjson"),
    include_str!("../../app/demo/items/support.ndjson"),
];
const FOLDS: usize = 8;

fn encoder() -> Encoder {
    let defaults: toml::Table = include_str!("../../config/default.toml").parse().unwrap();
    let settings: EncoderSettings = defaults["encoder"].clone().try_into().unwrap();
    let model = prepare(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), &settings.model, &mut |_| {}).unwrap();
    Encoder::start(&model, &settings, &EncoderMetrics::register(&Registry::new()).unwrap()).unwrap()
}

/// Mean distance of what was told from what was so, in bins of a tenth (Naeini et al. 2015).
fn calibration_error(told: &[(f32, bool)]) -> f32 {
    let mut bins: BTreeMap<u32, (f32, f32, f32)> = BTreeMap::new();
    for (probability, so) in told {
        let bin = bins.entry((probability * 10.0).min(9.0) as u32).or_default();
        *bin = (bin.0 + 1.0, bin.1 + probability, bin.2 + f32::from(u8::from(*so)));
    }
    for (bin, (count, sum, so)) in &bins {
        println!("  {:.1}: {count:>4} told {:.2}, so {:.2}", *bin as f32 / 10.0, sum / count, so / count);
    }
    bins.values().map(|(_, sum, so)| (sum - so).abs()).sum::<f32>() / told.len() as f32
}

#[tokio::test]
async fn probabilities_of_categories_are_what_they_say() {
    let items = DEMO.iter().flat_map(|domain| domain.lines()).map(|line| serde_json::from_str(line).unwrap()).collect();

    for (language, error) in judged(items).await {
        // 300 and more probabilities; even perfect ones are off by some .04 in bins of 30.
        assert!(error < 0.1, "{language:?}: {error}");
    }
}

/// The calibration error by language of the items. The prototypes know neither the titles that the curve is fitted on nor those that judge it.
async fn judged(items: Vec<Item>) -> Vec<(Option<String>, f32)> {
    let encoder = encoder();
    let items: Vec<Item> = items.into_iter().filter(|item| item.title.is_some() && !item.categories.is_empty()).collect();
    let mut names: Vec<Arc<str>> = items.iter().flat_map(|item| &item.categories).map(|name| name.as_str().into()).collect();
    names.sort_unstable();
    names.dedup();
    let places: Vec<Vec<usize>> =
        items.iter().map(|item| item.categories.iter().map(|name| names.binary_search_by(|other| (**other).cmp(name)).unwrap()).collect()).collect();
    let texts = items.iter().map(|item| clean(&item.full_text())).collect();
    let embeddings: Vec<Embedding> = encoder.encode_bulk(texts).await.unwrap().into_iter().map(Option::unwrap).collect();
    let spoken = names.iter().map(|name| name.replace('-', " ")).collect();
    let name_embeddings: Vec<Embedding> = encoder.encode_bulk(spoken).await.unwrap().into_iter().map(Option::unwrap).collect();
    let mut titles = Vec::new();
    for item in &items {
        titles.push(encoder.encode(&clean(item.title.as_deref().unwrap()), Instant::now() + Duration::from_secs(60)).await.unwrap().embedding);
    }

    let mut languages: Vec<Option<String>> = items.iter().map(|item| item.language.clone()).collect();
    languages.sort_unstable();
    languages.dedup();
    let mut errors = Vec::new();
    for language in languages {
        let (mut told, mut first, mut all) = (Vec::new(), 0, 0);
        for fold in 0..FOLDS {
            let (fitted, judged) = (fold, (fold + 1) % FOLDS);
            let mut sums = Sums::new(names.len(), encoder.width());
            for i in (0..items.len()).filter(|i| ![fitted, judged].contains(&(i % FOLDS))) {
                places[i].iter().for_each(|place| sums.add(*place, &embeddings[i], 1.0));
            }
            name_embeddings.iter().enumerate().for_each(|(place, name)| sums.add_name(place, name));
            let mut counts = vec![0; names.len()];
            places.iter().flatten().for_each(|place| counts[*place] += 1);
            let prototypes = sums.into_prototypes().with_counts(&counts, items.len());
            let sample = |i: usize| Sample { embedding: titles[i].clone(), categories: places[i].clone() };
            let samples: Vec<Sample> = (0..items.len()).filter(|i| i % FOLDS == fitted).map(sample).collect();
            let calibration = Calibration::fit(&prototypes, &samples);
            let categories = Categories { model_version: String::new(), names: names.clone(), prototypes, calibration, across: Default::default() };
            for i in (0..items.len()).filter(|i| i % FOLDS == judged && items[*i].language == language) {
                let answer = categories.of(&titles[i]);
                let so = |one: &CategoryProbability| items[i].categories.iter().any(|name| **name == *one.category);
                all += 1;
                first += usize::from(answer.first().is_some_and(so));
                told.extend(answer.iter().map(|one| (one.probability, so(one))));
            }
        }

        println!("{language:?}: {} told for {all} titles, the first is right for {first}", told.len());
        let error = calibration_error(&told);
        println!("{language:?}: expected calibration error {error:.3}");
        errors.push((language, error));
    }
    errors
}
