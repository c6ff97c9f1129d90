//! One session without queue, cache or threads of its own: the yardstick that benchmarks hold the encoder and the whole service against.

use super::{
    EncoderSettings, PrepareError, PreparedModel,
    forward::{Forward, Weights},
    tokens::{Frame, Tokens},
};

/// The model as ONNX Runtime runs it, nothing around it.
pub struct BareModel {
    forward: Forward,
    tokens: Tokens,
    query: Frame,
}

impl BareModel {
    /// Loads one session with as many threads as `settings` give a pass; blocks for about half a second.
    pub fn load(model: &PreparedModel, settings: &EncoderSettings) -> Result<Self, PrepareError> {
        settings.check(model.manifest.max_tokens)?;
        let threads = settings.layout_here(model.manifest.precision).threads;
        let tokens = Tokens::load(&model.tokenizer, settings.max_tokens)?;
        let query = tokens.frame(&model.manifest.query_prefix)?;
        Ok(Self { forward: Forward::load(model, &Weights::load(model)?, threads)?, tokens, query })
    }

    /// The token ids of what a person typed, as the encoder gives them to the model: special ones and prefix included, cut to `max_tokens`; only
    /// special ones for a text without content.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, PrepareError> {
        let windows = self.tokens.first(text, &self.query, 1).map_err(PrepareError::Start)?;
        Ok(windows.rows.into_iter().next().unwrap_or_else(|| self.tokens.nothing()))
    }

    /// One forward pass over one or more texts' token ids.
    pub fn forward(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, PrepareError> {
        self.forward.run(rows).map_err(PrepareError::Start)
    }
}
