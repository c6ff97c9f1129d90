//! Models of one's own: small random ones of every family, written here, added, and compared with the float64 reference.

use std::{
    fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value as Json, json};

use super::{
    forward::{Forward, Weights},
    graph::{Attr, Dim, Graph},
    reference::Reference,
    *,
};

/// What a tensor is called in the file.
type Rename<'a> = &'a dyn Fn(String) -> String;

const HIDDEN: usize = 32;
const WIDE: usize = 48;
const LAYERS: usize = 2;
const WORDS: usize = 12;
const POSITIONS: usize = 20;

/// A folder of models with the fetched ONNX Runtime in it.
fn models() -> tempfile::TempDir {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    prepare_as(&fetched, "all-minilm-l6-v2", Some(Precision::Fp32), &mut |_| {}).unwrap();
    let place = tempfile::tempdir_in(&fetched).unwrap();
    for folder in fs::read_dir(&fetched).unwrap().map(Result::unwrap).filter(|folder| folder.file_name().to_string_lossy().starts_with("onnxruntime-")) {
        if folder.path().is_dir() {
            std::os::unix::fs::symlink(folder.path(), place.path().join(folder.file_name())).unwrap();
        }
    }
    place
}

/// Numbers between -0.5 and 0.5 that look random and are the same each time.
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    let mut state = seed as u64 + 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(next).collect()
}

/// The tensors of a family's file: name and shape.
fn tensors(kind: &str) -> Vec<(String, Vec<usize>)> {
    let mut all = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![WORDS, HIDDEN]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![POSITIONS, HIDDEN]),
    ];
    if kind != "distilbert" {
        all.push(("embeddings.token_type_embeddings.weight".to_owned(), vec![if kind == "bert" { 2 } else { 1 }, HIDDEN]));
    }
    let mut pair = |name: String, shape: Vec<usize>| {
        let width = shape[0];
        all.extend([(format!("{name}.weight"), shape), (format!("{name}.bias"), vec![width])]);
    };
    pair("embeddings.LayerNorm".to_owned(), vec![HIDDEN]);
    for layer in 0..LAYERS {
        let (root, names) = if kind == "distilbert" {
            let names =
                ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"];
            (format!("transformer.layer.{layer}"), names)
        } else {
            let names = [
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "attention.output.LayerNorm",
                "intermediate.dense",
                "output.dense",
                "output.LayerNorm",
            ];
            (format!("encoder.layer.{layer}"), names)
        };
        let square = vec![HIDDEN, HIDDEN];
        let shapes = [square.clone(), square.clone(), square.clone(), square, vec![HIDDEN], vec![WIDE, HIDDEN], vec![HIDDEN, WIDE], vec![HIDDEN]];
        for (name, shape) in names.into_iter().zip(shapes) {
            pair(format!("{root}.{name}"), shape);
        }
    }
    all
}

fn safetensors(kind: &str, dtype: Dtype, rename: Rename<'_>) -> Vec<u8> {
    let written: Vec<(String, Vec<usize>, Vec<u8>)> = tensors(kind)
        .into_iter()
        .enumerate()
        .map(|(at, (name, shape))| {
            let norm = name.contains("LayerNorm.weight") || name.contains("layer_norm.weight");
            let numbers = numbers(at, shape.iter().product()).into_iter().map(|x| if norm { 1.0 + x } else { x });
            let bytes = match dtype {
                Dtype::F16 => numbers.flat_map(|x| ::half::f16::from_f32(x).to_le_bytes()).collect(),
                Dtype::BF16 => numbers.flat_map(|x| ::half::bf16::from_f32(x).to_le_bytes()).collect(),
                _ => numbers.flat_map(f32::to_le_bytes).collect(),
            };
            (rename(name), shape, bytes)
        })
        .collect();
    let views = written.iter().map(|(name, shape, bytes)| (name.clone(), TensorView::new(dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn config(kind: &str) -> Json {
    if kind == "distilbert" {
        return json!({"model_type": kind, "dim": HIDDEN, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": WIDE, "activation": "gelu",
            "vocab_size": WORDS, "max_position_embeddings": POSITIONS});
    }
    json!({"model_type": kind, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": WIDE, "hidden_act": "gelu",
        "layer_norm_eps": 1e-5, "vocab_size": WORDS, "max_position_embeddings": POSITIONS, "type_vocab_size": if kind == "bert" { 2 } else { 1 },
        "pad_token_id": 1})
}

fn tokenizer() -> Json {
    let vocab: serde_json::Map<String, Json> = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "a", "red", "blue", "shoe", "query", "film", "sea", "tea"]
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), id.into()))
        .collect();
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    json!({"version": "1.0", "added_tokens": [], "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
        "truncation": null, "padding": null,
        "post_processor": {"type": "TemplateProcessing", "single": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, special("[SEP]")],
            "pair": [special("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [0], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}})
}

fn write(folder: &Path, name: &str, content: &Json) {
    let file = folder.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, content.to_string()).unwrap();
}

/// A whole sentence-transformers folder called `tiny` in `place`, weights to be added.
fn folder(place: &Path, kind: &str, pooling: &str) -> PathBuf {
    let folder = place.join("tiny");
    write(&folder, "config.json", &config(kind));
    write(&folder, "tokenizer.json", &tokenizer());
    let module =
        |at: usize, path: &str, kind: &str| json!({"idx": at, "name": at.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}")});
    write(&folder, "modules.json", &json!([module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"), module(2, "2_Normalize", "Normalize")]));
    let modes = ["mean_tokens", "cls_token", "max_tokens", "lasttoken"].iter().map(|mode| (format!("pooling_mode_{mode}"), (*mode == pooling).into()));
    write(&folder, "1_Pooling/config.json", &Json::Object(modes.collect()));
    write(&folder, "sentence_bert_config.json", &json!({"max_seq_length": 16, "do_lower_case": false}));
    write(&folder, "config_sentence_transformers.json", &json!({"prompts": {"query": "query ", "document": ""}, "similarity_fn_name": "cosine"}));
    folder
}

fn whole(place: &Path) -> PathBuf {
    let folder = folder(place, "bert", "mean_tokens");
    fs::write(folder.join("model.safetensors"), safetensors("bert", Dtype::F32, &|name| name)).unwrap();
    folder
}

/// Texts of several lengths, so that padding takes part.
fn rows() -> Vec<Vec<u32>> {
    (1..9_u32).map(|length| (0..length).map(|at| (at * 5 + length * 3) % WORDS as u32).collect()).collect()
}

fn embed(model: &PreparedModel) -> Vec<Vec<f32>> {
    let mut forward = Forward::load(model, &Weights::load(model).unwrap(), 1).unwrap();
    forward.run(&rows().iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
}

/// The error of adding `folder` after `change`.
fn refusal(change: impl FnOnce(&Path), choices: &Choices) -> String {
    let place = tempfile::tempdir().unwrap();
    let folder = whole(place.path());
    change(&folder);
    let models = tempfile::tempdir().unwrap();
    let error = add(models.path(), &folder, choices, &mut |_| {}).unwrap_err().to_string();
    assert_eq!(fs::read_dir(models.path()).unwrap().count(), 0, "nothing stays of a model that was refused");
    error
}

#[test]
fn every_family_kind_of_number_and_pooling_gives_what_the_reference_gives() {
    let models = models();
    let prefixed = |name: String| format!("bert.{}", name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"));
    let plain = |name: String| name;
    let cases: [(&str, &str, Dtype, Rename<'_>); 5] = [
        ("bert", "mean_tokens", Dtype::F32, &plain),
        ("bert", "cls_token", Dtype::F16, &prefixed),
        ("xlm-roberta", "max_tokens", Dtype::BF16, &plain),
        ("roberta", "mean_tokens", Dtype::F32, &|name| format!("roberta.{name}")),
        ("distilbert", "cls_token", Dtype::F32, &|name| format!("distilbert.{name}")),
    ];
    for (kind, pooling, dtype, rename) in cases {
        let place = tempfile::tempdir().unwrap();
        let folder = folder(place.path(), kind, pooling);
        fs::write(folder.join("model.safetensors"), safetensors(kind, dtype, rename)).unwrap();
        let name = format!("{kind}-{pooling}");

        add(models.path(), &folder, &Choices { name: Some(name.clone()), ..Choices::default() }, &mut |_| {}).unwrap();
        let found = embed(&prepare(models.path(), &name, &mut |_| {}).unwrap());

        let reference = Reference::read(&folder);
        for (row, found) in rows().iter().zip(found) {
            let tokens = reference.tokens(row);
            let pooled: Vec<f64> = match pooling {
                "cls_token" => tokens.row(0).to_vec(),
                "max_tokens" => tokens.columns().into_iter().map(|column| column.fold(f64::NEG_INFINITY, |a, b| a.max(*b))).collect(),
                _ => tokens.columns().into_iter().map(|column| column.mean().unwrap()).collect(),
            };
            let length = pooled.iter().map(|x| x * x).sum::<f64>().sqrt();
            let most = pooled.iter().zip(&found).map(|(a, b)| (a / length - f64::from(*b)).abs()).fold(0.0, f64::max);
            assert!(most <= 1e-5, "{name}, {} tokens: {most}", row.len());
        }
    }
}

#[test]
fn an_added_model_is_listed_says_how_it_reads_and_can_be_removed() {
    let (models, place) = (models(), tempfile::tempdir().unwrap());
    let folder = whole(place.path());

    let model = add(models.path(), &folder, &Choices::default(), &mut |_| {}).unwrap();

    let manifest = Manifest::named(models.path(), "tiny").unwrap();
    assert_eq!((manifest.pooling, manifest.max_tokens, manifest.query_prefix.as_str(), manifest.item_prefix.as_str()), (Pooling::Mean, 16, "query ", ""));
    assert!(!manifest.is_built_in() && manifest.files().unwrap().len() == 3);
    assert!(Manifest::all(models.path()).unwrap().iter().any(|manifest| manifest.name == "tiny"));
    assert_eq!(model.version, prepare(models.path(), "tiny", &mut |_| {}).unwrap().version);
    let again = add(models.path(), &folder, &Choices::default(), &mut |_| {}).unwrap_err().to_string();
    assert!(again.contains("inkling model remove tiny"), "{again}");

    remove(models.path(), "tiny").unwrap();

    assert!(matches!(Manifest::named(models.path(), "tiny"), Err(PrepareError::UnknownModel { .. })));
    assert!(remove(models.path(), "tiny").is_err());
}

#[test]
fn the_same_weights_read_in_another_way_are_another_version() {
    let (models, place) = (models(), tempfile::tempdir().unwrap());
    let folder = whole(place.path());
    let named = |name: &str, prefix: &str| Choices { name: Some(name.to_owned()), item_prefix: Some(prefix.to_owned()), ..Choices::default() };

    let plain = add(models.path(), &folder, &named("one", ""), &mut |_| {}).unwrap();
    let prefixed = add(models.path(), &folder, &named("two", "a "), &mut |_| {}).unwrap();

    assert_ne!(plain.version.trim_start_matches("one"), prefixed.version.trim_start_matches("two"));
}

#[tokio::test]
async fn an_added_model_reads_no_more_than_its_own_limit_whatever_the_settings_allow() {
    let (models, place) = (models(), tempfile::tempdir().unwrap());
    let model = add(models.path(), &whole(place.path()), &Choices::default(), &mut |_| {}).unwrap(); // reads 16 tokens
    let settings = |max_tokens| EncoderSettings { max_tokens, sessions: 1, threads: 1, ..super::tests::settings() };
    let metrics = || EncoderMetrics::register(&prometheus::Registry::new()).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);

    let encoder = Encoder::start(&model, &settings(256), &metrics()).unwrap();
    let long = encoder.encode(&"a ".repeat(100), deadline).await.unwrap();

    assert!(encoder.version().ends_with("-t16"), "{}", encoder.version());
    assert_eq!(encoder.version(), Encoder::version_of(&model, &settings(256)));
    assert!(long.truncated);
    let asked = Encoder::start(&model, &settings(16), &metrics()).unwrap();
    assert_eq!(asked.version(), encoder.version(), "the same vectors");
    assert_eq!(asked.encode(&"a ".repeat(100), deadline).await.unwrap(), long);
    let smaller = Encoder::start(&model, &settings(12), &metrics()).unwrap();
    assert!(smaller.version().ends_with("-t12"));
}

#[test]
fn a_model_that_is_not_prepared_is_told_apart_and_left_alone() {
    let (models, place) = (models(), tempfile::tempdir().unwrap());
    let model = add(models.path(), &whole(place.path()), &Choices::default(), &mut |_| {}).unwrap();
    assert_eq!(prepared(models.path(), "tiny", None).unwrap().version, model.version);

    let error = prepared(models.path(), "tiny", Some(Precision::Int8)).unwrap_err();

    assert!(matches!(error, PrepareError::NotPrepared { .. }));
    assert!(error.to_string().contains("`inkling model fetch tiny --precision int8`"), "{error}");
    assert!(matches!(prepared(models.path(), "huge", None), Err(PrepareError::UnknownModel { .. })));
}

#[test]
fn weights_that_changed_after_they_were_added_stop_the_start() {
    let (models, place) = (models(), tempfile::tempdir().unwrap());
    add(models.path(), &whole(place.path()), &Choices::default(), &mut |_| {}).unwrap();
    fs::write(models.path().join("tiny/model.safetensors"), "torn").unwrap();

    let error = prepare(models.path(), "tiny", &mut |_| {}).unwrap_err().to_string();

    assert!(error.contains("model.safetensors") && error.contains("inkling model remove tiny"), "{error}");
}

#[test]
fn what_a_folder_does_not_say_is_asked_for_by_file_and_flag() {
    let without = |file: &'static str| move |folder: &Path| fs::remove_file(folder.join(file)).unwrap();
    let with = |file: &'static str, content: Json| move |folder: &Path| write(folder, file, &content);
    let none = Choices::default();
    let asks = |error: String, words: &[&str]| assert!(words.iter().all(|word| error.contains(word)), "{error}");

    asks(refusal(without("tokenizer.json"), &none), &["tokenizer.json", "save_pretrained"]);
    asks(refusal(without("config.json"), &none), &["config.json"]);
    asks(refusal(without("model.safetensors"), &none), &["model.safetensors", "model.onnx"]);
    asks(refusal(without("1_Pooling/config.json"), &none), &["1_Pooling/config.json", "--pooling"]);
    asks(refusal(without("sentence_bert_config.json"), &none), &["sentence_bert_config.json", "--max-tokens"]);
    asks(refusal(without("config_sentence_transformers.json"), &none), &["config_sentence_transformers.json", "--query-prefix"]);
    asks(refusal(with("config_sentence_transformers.json", json!({"prompts": {"web": "Find: "}})), &none), &["query", "--query-prefix"]);
}

#[test]
fn what_cannot_be_followed_is_refused_by_name() {
    let with = |file: &'static str, content: Json| move |folder: &Path| write(folder, file, &content);
    let none = Choices::default();
    let says = |error: String, words: &[&str]| assert!(words.iter().all(|word| error.contains(word)), "{error}");

    let dense = json!([{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]);
    says(refusal(with("modules.json", dense), &none), &["Dense"]);
    says(refusal(with("modules.json", json!([{"path": "../elsewhere", "type": "Transformer"}])), &none), &["leaves the folder"]);
    says(refusal(with("1_Pooling/config.json", json!({"pooling_mode_lasttoken": true})), &none), &["lasttoken"]);
    says(
        refusal(with("1_Pooling/config.json", json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true})), &none),
        &["cls_token", "mean_tokens"],
    );
    says(refusal(|_: &Path| {}, &Choices { pooling: Some(Pooling::Max), ..none.clone() }), &["Mean", "Max"]);
    says(refusal(with("config.json", json!({"model_type": "t5"})), &none), &["config.json", "t5"]);
    says(refusal(with("sentence_bert_config.json", json!({"max_seq_length": 512})), &none), &["20 positions", "--max-tokens 20"]);
    says(refusal(|_: &Path| {}, &Choices { name: Some("all-minilm-l6-v2".to_owned()), ..none.clone() }), &["brings along", "--name"]);
    says(refusal(|_: &Path| {}, &Choices { name: Some("../up".to_owned()), ..none.clone() }), &["--name"]);
    let unlike = |folder: &Path| {
        write(folder, "config_sentence_transformers.json", &json!({"similarity_fn_name": "dot"}));
        write(folder, "modules.json", &json!([{"path": "", "type": "Transformer"}, {"path": "1_Pooling", "type": "Pooling"}]));
    };
    says(refusal(unlike, &none), &["dot", "--cosine"]);
}

#[test]
fn a_torn_export_is_made_again_and_torn_weights_are_named() {
    let (models, place) = (models(), tempfile::tempdir().unwrap());
    let model = add(models.path(), &whole(place.path()), &Choices::default(), &mut |_| {}).unwrap();
    let (name, expected) = (model.manifest.name.clone(), embed(&model));
    let prepared = || prepare_as(models.path(), &name, None, &mut |_| {});
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let cut: fn(&Path) = |path| fs::write(path, &fs::read(path).unwrap()[..100]).unwrap();
    let remove: fn(&Path) = |path| fs::remove_file(path).unwrap();

    for harm in [&flip as &dyn Fn(&Path), &cut, &remove] {
        harm(&model.onnx);

        assert_eq!(embed(&prepared().unwrap()), expected);
    }
    let weights = model.onnx.with_file_name("model.safetensors");
    flip(&weights);
    assert!(matches!(prepared(), Err(PrepareError::Changed { path, .. }) if path == weights));
}

#[test]
fn weights_and_vocabulary_of_different_models_do_not_pass() {
    let (models, place) = (models(), tempfile::tempdir().unwrap());
    let folder = whole(place.path());
    let mut larger = tokenizer();
    larger["model"]["vocab"]["coffee"] = WORDS.into();
    write(&folder, "tokenizer.json", &larger);
    let error = add(models.path(), &folder, &Choices::default(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("13 tokens"), "{error}");

    fs::write(folder.join("model.safetensors"), safetensors("distilbert", Dtype::F32, &|name| name)).unwrap();
    let error = add(models.path(), &folder, &Choices::default(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("token_type_embeddings"), "{error}");
    assert!(!models.path().join("tiny").exists());
}

/// A graph as Optimum exports it, of word vectors alone: a token's vector is its word's plus its type's.
fn graph(output: &'static str, types: bool) -> Vec<u8> {
    let mut graph = Graph::default();
    let free = [Dim::Free("batch"), Dim::Free("seq")];
    let ids = graph.input("input_ids", &free);
    let mask = graph.input("attention_mask", &free);
    let words = graph.weight("words", &[WORDS, HIDDEN], &numbers(7, WORDS * HIDDEN));
    let mut hidden = graph.op("Gather", &[&words, &ids], Vec::new());
    if types {
        let kinds = graph.input("token_type_ids", &free);
        let table = graph.weight("types", &[2, HIDDEN], &[vec![0.25; HIDDEN], vec![9.0; HIDDEN]].concat());
        let kinds = graph.op("Gather", &[&table, &kinds], Vec::new());
        hidden = graph.op("Add", &[&hidden, &kinds], Vec::new());
    }
    if output == "last_hidden_state" {
        graph.output(output, hidden, &[Dim::Free("batch"), Dim::Free("seq"), Dim::Fixed(HIDDEN)]);
    } else {
        // The sum of all tokens, padding left out.
        let (last, seq) = (graph.ints("last", &[-1]), graph.ints("seq_axis", &[1]));
        let mask = graph.op("Cast", &[&mask], vec![Attr::Int("to", 1)]);
        let mask = graph.op("Unsqueeze", &[&mask, &last], Vec::new());
        let kept = graph.op("Mul", &[&hidden, &mask], Vec::new());
        let sum = graph.op("ReduceSum", &[&kept, &seq], vec![Attr::Int("keepdims", 0)]);
        graph.output(output, sum, &[Dim::Free("batch"), Dim::Fixed(HIDDEN)]);
    }
    graph.into_bytes("tiny", "1")
}

#[test]
fn a_graph_that_came_with_the_model_is_pooled_and_normalised_here() {
    let models = models();
    let words = numbers(7, WORDS * HIDDEN);
    for (at, (output, types, pooling)) in [
        ("last_hidden_state", true, "mean_tokens"),
        ("last_hidden_state", false, "cls_token"),
        ("last_hidden_state", true, "max_tokens"),
        ("sentence_embedding", false, "mean_tokens"),
    ]
    .into_iter()
    .enumerate()
    {
        let place = tempfile::tempdir().unwrap();
        let folder = folder(place.path(), "bert", pooling);
        let file = folder.join(if at == 0 { "onnx/model.onnx" } else { "model.onnx" });
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, graph(output, types)).unwrap();

        let model = add(models.path(), &folder, &Choices { name: Some(format!("graph-{at}")), ..Choices::default() }, &mut |_| {}).unwrap();

        assert_eq!(model.manifest.architecture, Architecture::Graph);
        for (row, found) in rows().iter().zip(embed(&model)) {
            let tokens: Vec<Vec<f32>> =
                row.iter().map(|id| words[*id as usize * HIDDEN..][..HIDDEN].iter().map(|x| x + if types { 0.25 } else { 0.0 }).collect()).collect();
            let expected: Vec<f32> = (0..HIDDEN)
                .map(|column| {
                    let column = tokens.iter().map(|token| token[column]);
                    match pooling {
                        "cls_token" => column.take(1).sum::<f32>(),
                        "max_tokens" => column.fold(f32::NEG_INFINITY, f32::max),
                        _ => column.sum::<f32>(),
                    }
                })
                .collect();
            let length = expected.iter().map(|x| x * x).sum::<f32>().sqrt();
            let most = expected.iter().zip(&found).map(|(a, b)| (a / length - b).abs()).fold(0.0, f32::max);
            assert!(most <= 1e-6, "{output}, {pooling}: {most}");
        }
    }
}

#[test]
fn a_graph_with_other_inputs_is_refused_with_their_names() {
    let (models, place) = (models(), tempfile::tempdir().unwrap());
    let folder = folder(place.path(), "bert", "mean_tokens");
    let mut strange = Graph::default();
    let pixels = strange.input("pixel_values", &[Dim::Free("batch"), Dim::Free("seq")]);
    let pixels = strange.op("Cast", &[&pixels], vec![Attr::Int("to", 1)]);
    strange.output("logits", pixels, &[Dim::Free("batch"), Dim::Free("seq")]);
    fs::write(folder.join("model.onnx"), strange.into_bytes("strange", "1")).unwrap();

    let error = add(models.path(), &folder, &Choices::default(), &mut |_| {}).unwrap_err().to_string();

    assert!(error.contains("pixel_values") && error.contains("logits"), "{error}");
}
