//! One session without queue, cache or threads of its own: the yardstick that benchmarks hold the encoder and the whole service against.

use ort::{session::Session, value::Tensor};

use super::{
    EncoderSettings, Precision, PrepareError, PreparedModel, forward,
    graph::{Attr, Dim, Graph},
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
        let settings = EncoderSettings { sessions: 1, ..settings.for_model(model.manifest.max_tokens)? };
        let sessions = Sessions::start(model, &settings)?;
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

/// One matrix product of the kind that a model's forward pass is made of, alone: the limit that its speed is held against.
pub struct BareProduct {
    session: Session,
    input: Tensor<i64>,
}

impl BareProduct {
    const ROWS: usize = 256;
    const WIDTH: usize = 1536;

    /// Loads the product for one thread, with the model's library.
    pub fn load(model: &PreparedModel, precision: Precision) -> Result<Self, PrepareError> {
        let (rows, width) = (Self::ROWS, Self::WIDTH);
        let mut graph = Graph::default();
        let input = graph.input("input", &[Dim::Fixed(rows), Dim::Fixed(1)]);
        let shape = graph.ints("shape", &[rows as i64, width as i64]);
        // Made inside: copying an input of that size would count as well.
        let product = match precision {
            Precision::Fp32 | Precision::Fp16 => {
                let input = graph.op("Cast", &[&input], vec![Attr::Int("to", 1)]);
                let input = graph.op("Expand", &[&input, &shape], Vec::new());
                let weights = graph.weight("weights", &[width, width], &vec![0.5; width * width]);
                graph.op("MatMul", &[&input, &weights], Vec::new())
            }
            Precision::Int8 => {
                let input = graph.op("Cast", &[&input], vec![Attr::Int("to", 2)]);
                let input = graph.op("Expand", &[&input, &shape], Vec::new());
                let weights = graph.weight_i8("weights", &[width, width], &vec![1; width * width]);
                let zero = graph.byte("zero", 128);
                graph.op("MatMulInteger", &[&input, &weights, &zero], Vec::new())
            }
        };
        // One number of it, so that the product is all there is to do.
        let corner = [graph.ints("start", &[0, 0]), graph.ints("end", &[1, 1])];
        let product = graph.op("Slice", &[&product, &corner[0], &corner[1]], Vec::new());
        let product = graph.op("Cast", &[&product], vec![Attr::Int("to", 1)]);
        graph.output("product", product, &[Dim::Fixed(1), Dim::Fixed(1)]);
        let session = forward::session(model, &graph.into_bytes("product", "1"), 1)?;
        let input = Tensor::from_array(([rows, 1], vec![100_i64; rows])).map_err(|error| PrepareError::Start(error.message().to_owned()))?;
        Ok(Self { session, input })
    }

    /// Multiplies once.
    pub fn run(&mut self) -> Result<(), PrepareError> {
        let ran = self.session.run(ort::inputs!["input" => &self.input]);
        ran.map(drop).map_err(|error| PrepareError::Start(error.message().to_owned()))
    }

    /// Multiplications and additions of one run.
    pub fn operations(&self) -> f64 {
        2.0 * (Self::ROWS * Self::WIDTH * Self::WIDTH) as f64
    }
}
