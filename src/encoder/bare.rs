//! One session without queue, cache or threads of its own: the yardstick that benchmarks hold the encoder and the whole service against.

use super::{
    EncoderSettings, PrepareError, PreparedModel,
    sessions::Sessions,
    tokens::{Frame, Tokens},
    worker::Pass,
};

/// The model as ONNX Runtime runs it, nothing around it.
pub struct BareModel {
    pass: Box<dyn Pass>,
    tokens: Tokens,
    query: Frame,
}

impl BareModel {
    /// Loads one session as `settings` give it to the encoder, threads and provider; blocks for about half a second.
    pub fn load(model: &PreparedModel, settings: &EncoderSettings) -> Result<Self, PrepareError> {
        settings.check(model.manifest.max_tokens)?;
        let sessions = Sessions::start(model, &EncoderSettings { sessions: 1, ..settings.clone() })?;
        let pass = sessions.passes.into_iter().next().ok_or_else(|| PrepareError::Start("no session was started".to_owned()))?;
        let tokens = Tokens::load(&model.tokenizer, settings.max_tokens)?;
        let query = tokens.frame(&model.manifest.query_prefix)?;
        Ok(Self { pass, tokens, query })
    }

    /// The token ids of what a person typed, as the encoder gives them to the model: special ones and prefix included, cut to `max_tokens`; only
    /// special ones for a text without content.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, PrepareError> {
        let windows = self.tokens.first(text, &self.query, 1).map_err(PrepareError::Start)?;
        Ok(windows.rows.into_iter().next().unwrap_or_else(|| self.tokens.nothing()))
    }

    /// One forward pass over one or more texts' token ids.
    pub fn forward(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, PrepareError> {
        self.pass.run(rows).map_err(PrepareError::Start)
    }
}
