//! The families of models that differ from BERT in names and numbering only, told as BERT: after this, exporters know one kind of model.
//!
//! RoBERTa and XLM-RoBERTa (Liu et al. 2019, arXiv:1907.11692; Conneau et al. 2020, arXiv:1911.02116) count positions from `pad_token_id + 1`;
//! DistilBERT (Sanh et al. 2019, arXiv:1910.01108) has other names and no token types. E5 in its multilingual small form calls itself `bert`
//! and is one, with XLM-RoBERTa's vocabulary.

use serde_json::{Map, Value as Json};

use super::tensors::{TensorError, Tensors};

const POSITIONS: &str = "embeddings.position_embeddings.weight";
const TYPES: &str = "embeddings.token_type_embeddings.weight";

/// A family of models that can be told as BERT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Family {
    #[default]
    Bert,
    /// XLM-RoBERTa too. `first_position` rows of its position table stand before the first token's.
    Roberta {
        first_position: usize,
    },
    DistilBert,
}

impl Family {
    /// What `model_type` of a `config.json` names, and the configuration with BERT's keys. The error says what is not understood.
    pub(super) fn of(config: Json) -> Result<(Self, Json), String> {
        let Json::Object(mut config) = config else { return Err("not an object".to_owned()) };
        let family = match config.get("model_type").and_then(Json::as_str) {
            Some("bert") => Self::Bert,
            Some("roberta" | "xlm-roberta" | "camembert") => Self::Roberta { first_position: first_position(&mut config)? },
            Some("distilbert") => {
                as_bert_keys(&mut config);
                Self::DistilBert
            }
            Some(other) => return Err(format!("model_type {other:?} is not read: bert, roberta, xlm-roberta, camembert and distilbert are")),
            None => return Err("model_type is missing: write \"bert\", \"roberta\", \"xlm-roberta\" or \"distilbert\" into it".to_owned()),
        };
        Ok((family, Json::Object(config)))
    }

    /// The weights in a `model.safetensors` under BERT's names.
    pub(super) fn tensors(self, safetensors: &[u8], hidden: usize) -> Result<Tensors<'_>, TensorError> {
        let mut tensors = Tensors::of_safetensors(safetensors, &|name| self.bert_name(name))?;
        match self {
            Self::Bert => {}
            Self::Roberta { first_position } => tensors.skip_rows(POSITIONS, first_position)?,
            Self::DistilBert => tensors.add_zeros(TYPES, vec![1, hidden]),
        }
        Ok(tensors)
    }

    /// Files of models that were trained with a head put their family's name before every name; the first TensorFlow exports wrote
    /// gamma and beta.
    fn bert_name(self, name: &str) -> String {
        let name = ["bert.", "roberta.", "distilbert."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        let mut name = name.to_owned();
        for (theirs, ours) in [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")] {
            if let Some(start) = name.strip_suffix(theirs) {
                name = format!("{start}{ours}");
            }
        }
        if self == Self::DistilBert
            && let Some(layer) = name.strip_prefix("transformer.layer.")
        {
            let mut layer = format!("encoder.layer.{layer}");
            for (theirs, ours) in [
                (".attention.q_lin.", ".attention.self.query."),
                (".attention.k_lin.", ".attention.self.key."),
                (".attention.v_lin.", ".attention.self.value."),
                (".attention.out_lin.", ".attention.output.dense."),
                (".sa_layer_norm.", ".attention.output.LayerNorm."),
                (".ffn.lin1.", ".intermediate.dense."),
                (".ffn.lin2.", ".output.dense."),
                (".output_layer_norm.", ".output.LayerNorm."),
            ] {
                layer = layer.replace(theirs, ours);
            }
            return layer;
        }
        name
    }
}

/// Takes the rows that no token has off the count of positions.
fn first_position(config: &mut Map<String, Json>) -> Result<usize, String> {
    let number = |config: &Map<String, Json>, key: &str| config.get(key).and_then(Json::as_u64).ok_or_else(|| format!("{key} is missing"));
    let first = number(config, "pad_token_id")? + 1;
    let positions = number(config, "max_position_embeddings")?;
    let left = positions.checked_sub(first).filter(|left| *left > 0).ok_or("max_position_embeddings leaves no position for a token")?;
    config.insert("max_position_embeddings".to_owned(), left.into());
    usize::try_from(first).map_err(|error| error.to_string())
}

/// DistilBERT's keys in BERT's words; what its files never say (its code has it fixed) is added.
fn as_bert_keys(config: &mut Map<String, Json>) {
    for (theirs, ours) in [
        ("dim", "hidden_size"),
        ("n_layers", "num_hidden_layers"),
        ("n_heads", "num_attention_heads"),
        ("hidden_dim", "intermediate_size"),
        ("activation", "hidden_act"),
    ] {
        if let Some(value) = config.remove(theirs) {
            config.insert(ours.to_owned(), value);
        }
    }
    config.insert("layer_norm_eps".to_owned(), 1e-12.into());
    config.insert("type_vocab_size".to_owned(), 1.into());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn distilbert_is_told_in_berts_words() {
        let (family, config) = Family::of(json!({"model_type": "distilbert", "dim": 768, "n_layers": 6, "activation": "gelu"})).unwrap();

        assert_eq!(family, Family::DistilBert);
        assert_eq!((&config["hidden_size"], &config["num_hidden_layers"], &config["hidden_act"]), (&json!(768), &json!(6), &json!("gelu")));
        assert_eq!(family.bert_name("distilbert.transformer.layer.3.sa_layer_norm.bias"), "encoder.layer.3.attention.output.LayerNorm.bias");
        assert_eq!(family.bert_name("transformer.layer.0.ffn.lin2.weight"), "encoder.layer.0.output.dense.weight");
        assert_eq!(family.bert_name("embeddings.LayerNorm.weight"), "embeddings.LayerNorm.weight");
    }

    #[test]
    fn roberta_has_fewer_positions_than_rows() {
        let (family, config) = Family::of(json!({"model_type": "xlm-roberta", "pad_token_id": 1, "max_position_embeddings": 514})).unwrap();

        assert_eq!((family, &config["max_position_embeddings"]), (Family::Roberta { first_position: 2 }, &json!(512)));
        let none_left = Family::of(json!({"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 2}));
        assert!(none_left.unwrap_err().contains("max_position_embeddings"));
    }

    #[test]
    fn a_family_that_is_not_read_is_named() {
        assert!(Family::of(json!({"model_type": "t5"})).unwrap_err().contains("t5"));
        assert!(Family::of(json!({})).unwrap_err().contains("model_type"));
        assert!(Family::of(json!([])).is_err());
    }
}
