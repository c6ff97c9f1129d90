//! The bilingual model on its real parts, against golden figures of independent programs: token ids of sentencepiece, vectors of numpy.

use std::{path::Path, sync::LazyLock};

use serde::Deserialize;

use super::{
    forward::{Forward, Weights},
    tokenizer::{Around, Tokenizer},
    *,
};

static MODEL: LazyLock<PreparedModel> = LazyLock::new(|| {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    prepare_as(&models, "multilingual-e5-small", Some(Precision::Fp32), &mut |_| {}).unwrap()
});

static GOLDEN: LazyLock<Golden> = LazyLock::new(|| serde_json::from_str(include_str!("../../tests/golden/multilingual-e5-small.json")).unwrap());

#[derive(Deserialize)]
struct Golden {
    tokens: Vec<(String, Vec<u32>)>,
    vectors: Vec<(String, Vec<f32>)>,
}

fn tokenizer() -> Tokenizer {
    Tokenizer::read(&std::fs::read(&MODEL.tokenizer).unwrap()).unwrap()
}

/// Embeddings of whole texts, prefixes included.
fn embed(texts: &[String]) -> Vec<Embedding> {
    let tokenizer = tokenizer();
    let Around { before, after } = tokenizer.around().unwrap().unwrap();
    let mut forward = Forward::load(&MODEL, &Weights::load(&MODEL).unwrap(), 2).unwrap();
    let rows: Vec<Vec<u32>> = texts.iter().map(|text| [&before[..], &tokenizer.ids(text).unwrap(), &after].concat()).collect();
    let vectors = forward.run(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    vectors.into_iter().map(|vector| Embedding::new(vector).unwrap()).collect()
}

#[test]
fn token_ids_are_those_of_sentencepiece_in_every_script() {
    let tokenizer = tokenizer();

    assert_eq!(tokenizer.around().unwrap(), Some(Around { before: vec![0], after: vec![2] }));
    for (text, ids) in &GOLDEN.tokens {
        assert_eq!(tokenizer.ids(text).unwrap(), *ids, "{text:?}");
    }
}

#[test]
fn a_prefix_put_before_tokens_is_the_prefix_put_before_the_text() {
    let (tokens, tokenizer) = (Tokens::load(&MODEL.tokenizer, 512).unwrap(), tokenizer());
    let frame = tokens.frame("query: ").unwrap();

    for text in GOLDEN.tokens.iter().map(|(text, _)| clean(text)).filter(|text| !text.is_empty()) {
        let row = tokens.first(&text, &frame, 1).unwrap().rows.remove(0);

        assert_eq!(row[1..row.len() - 1], tokenizer.ids(&format!("query: {text}")).unwrap(), "{text:?}");
    }
}

#[test]
fn vectors_are_those_of_an_independent_forward_pass() {
    let texts: Vec<String> = GOLDEN.vectors.iter().map(|(text, _)| text.clone()).collect();

    let found = embed(&texts);

    for ((text, expected), found) in GOLDEN.vectors.iter().zip(found) {
        let most = expected.iter().zip(&*found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most <= 1e-5, "{text}: {most}");
    }
}

#[test]
fn a_paraphrase_is_nearest_in_its_own_language_and_in_the_other() {
    let chinese = ["退货退款的流程说明", "防水透气的登山冲锋衣", "一部关于大海的电影", "无线降噪耳机", "红烧牛肉面的做法"];
    let english = [
        "Our refund policy: returns within 30 days",
        "Waterproof shell for hiking in the rain",
        "A film about the sea",
        "Wireless headphones that block noise",
        "How to cook beef noodle soup",
    ];
    let queries = [
        ("怎么把钱退给我？", "how do I get my money back"),
        ("下雨天徒步穿的轻便外套", "light jacket for rainy hikes"),
        ("想看海洋题材的影片", "movies set on the ocean"),
        ("上班路上听歌隔绝噪音", "listen to music on a loud train"),
        ("牛肉汤面怎么煮", "recipe for noodles with beef"),
    ];
    let passages = |texts: [&str; 5]| embed(&texts.map(|text| format!("passage: {text}")));
    let (chinese, english) = (passages(chinese), passages(english));

    for (language, texts) in [("zh", queries.map(|query| query.0)), ("en", queries.map(|query| query.1))] {
        for (at, query) in embed(&texts.map(|text| format!("query: {text}"))).iter().enumerate() {
            for (among, passages) in [("zh", &chinese), ("en", &english)] {
                let nearest = (0..5).max_by(|a, b| query.cosine(&passages[*a]).total_cmp(&query.cosine(&passages[*b])));

                assert_eq!(nearest, Some(at), "{language} query {at} among {among} passages");
            }
        }
    }
}
