//! int8 on its real parts, against fp32 of the same model.

use std::{path::Path, sync::LazyLock};

use super::{
    files::sha256_of,
    forward::{Forward, Weights},
    products::Products,
    *,
};

static MODELS: LazyLock<[PreparedModel; 2]> = LazyLock::new(|| {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    [Precision::Fp32, Precision::Int8].map(|precision| prepare_as(&models, "all-minilm-l6-v2", Some(precision), &mut |_| {}).unwrap())
});

/// The texts of a group of the bench's `texts.tsv`.
fn texts(group: &str) -> Vec<&'static str> {
    let lines = include_str!("../../tests/bench/texts.tsv").lines().filter_map(|line| line.split_once('\t'));
    lines.filter(|(of, _)| *of == group).map(|(_, text)| text).collect()
}

fn rows(model: &PreparedModel, texts: &[&str]) -> Vec<Vec<u32>> {
    let tokens = Tokens::load(&model.tokenizer, 128).unwrap();
    let frame = tokens.frame("").unwrap();
    texts.iter().map(|text| tokens.first(text, &frame, 1).unwrap().rows.pop().unwrap_or_else(|| tokens.nothing())).collect()
}

fn forward(model: &PreparedModel) -> Forward {
    Forward::load(model, &Weights::load(model).unwrap(), 2).unwrap()
}

fn one_by_one(forward: &mut Forward, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
    rows.iter().map(|row| forward.run(&[row]).unwrap().remove(0)).collect()
}

/// Mean and least cosine of vectors of length 1.
fn nearness(a: &[Vec<f32>], b: &[Vec<f32>]) -> (f32, f32) {
    let cosines: Vec<f32> = a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum()).collect();
    (cosines.iter().sum::<f32>() / cosines.len() as f32, cosines.iter().copied().fold(1.0, f32::min))
}

#[test]
fn int8_stays_near_fp32_on_sentences_and_on_the_shortest_texts() {
    let mut models = MODELS.each_ref().map(forward);
    for (group, least_mean) in [("english", 0.999), ("chinese", 0.999), ("words", 0.999), ("digits", 0.999), ("emoji", 0.999), ("punctuation", 0.9985)] {
        let rows = rows(&MODELS[0], &texts(group).into_iter().step_by(2).collect::<Vec<_>>());
        let [exact, rounded] = models.each_mut().map(|model| one_by_one(model, &rows));

        let (mean, least) = nearness(&exact, &rounded);

        println!("{group}: {mean:.5} {least:.5}");
        assert!(rows.len() > 15 && mean >= least_mean && least >= 0.998, "{group}: mean {mean}, least {least}");
    }
}

#[test]
fn int8_gives_a_text_the_same_embedding_alone_and_in_any_company() {
    let mut model = forward(&MODELS[1]);
    let texts: Vec<&str> = ["english", "chinese", "punctuation"].iter().flat_map(|group| texts(group).into_iter().take(24)).collect();
    let rows = rows(&MODELS[1], &texts);
    let alone = one_by_one(&mut model, &rows);

    for stride in [1, 29] {
        let order: Vec<usize> = (0..rows.len()).map(|at| at * stride % rows.len()).collect();
        for company in order.chunks(18) {
            let together = model.run(&company.iter().map(|at| rows[*at].as_slice()).collect::<Vec<_>>()).unwrap();
            for (at, vector) in company.iter().zip(together) {
                let difference = alone[*at].iter().zip(&vector).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(difference <= 1e-5, "{}: {difference}", texts[*at]);
            }
        }
    }
}

#[test]
fn a_processor_without_vnni_gets_the_same_embeddings_from_other_products() {
    let model = &MODELS[1];
    let texts: Vec<&str> = ["english", "words", "emoji"].iter().flat_map(|group| texts(group).into_iter().take(8)).collect();
    let rows = rows(model, &texts);
    let vectors = [Products::Signed, Products::Unsigned].map(|products| {
        let weights = Weights::load_with(model, products).unwrap();
        one_by_one(&mut Forward::load(model, &weights, 1).unwrap(), &rows)
    });

    let bits = vectors.map(|vectors| vectors.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>());

    // Where signed products are wrong there is nothing to compare with, and the encoder does not use them.
    if Weights::load(model).unwrap().products == Some(Products::Signed) {
        assert!(bits[0] == bits[1]);
    }
}

#[test]
fn the_int8_export_is_the_same_file_on_every_machine() {
    let [onnx, words] = [&MODELS[1].onnx, &MODELS[1].onnx.with_extension("words")].map(|path| sha256_of(path).unwrap());

    // A new EXPORTER_VERSION has new ones: embeddings of the old one must not be mixed with those.
    assert_eq!(onnx, "77b836ffec24a258c6a6fb85e0feabf9fbf912efd1d5b907186aadce8a15bfc3");
    assert_eq!(words, "d3513bb4c0be046fa7d3ff686aecb4a7f27e16c21a702297febfad381a815480");
}

#[test]
fn precisions_lie_side_by_side_and_have_versions_of_their_own() {
    let [exact, rounded] = &*MODELS;

    assert_eq!(exact.onnx.parent(), rounded.onnx.parent());
    assert_ne!(exact.onnx, rounded.onnx);
    assert!(exact.version.contains("-fp32-") && rounded.version.contains("-int8-"), "{} {}", exact.version, rounded.version);
    assert_ne!(exact.version.rsplit('-').next(), rounded.version.rsplit('-').next());
}
