//! Which sessions run a model on this machine: on a GPU where the settings ask for one, else on the processor's cores.

use super::{
    Architecture, Precision, PrepareError, PreparedModel, Provider, ProviderSetting,
    cuda::{self, Bucketed},
    forward::{Forward, Weights},
    products::Products,
    provider::Places,
    settings::EncoderSettings,
    tokens::Tokens,
    worker::Pass,
};

/// Loaded sessions, and how much each may take at a time.
pub(super) struct Sessions {
    pub passes: Vec<Box<dyn Pass>>,
    pub provider: Provider,
    pub batch_tokens: usize,
    /// Whether int8 runs on products that this processor is slow with.
    pub slow_products: bool,
}

impl Sessions {
    /// Loads what `settings` ask for. `cuda` without a usable GPU fails, `auto` takes the processor and warns.
    pub(super) fn start(model: &PreparedModel, settings: &EncoderSettings) -> Result<Self, PrepareError> {
        match settings.provider {
            ProviderSetting::Cpu => Self::on_cpu(model, settings),
            ProviderSetting::Cuda => Self::on_gpu(model, settings),
            ProviderSetting::Auto => Self::on_gpu(model, settings).or_else(|error| {
                tracing::warn!(%error, "encoder.provider = \"auto\": forward passes run on the processor");
                Self::on_cpu(model, settings)
            }),
        }
    }

    fn on_cpu(model: &PreparedModel, settings: &EncoderSettings) -> Result<Self, PrepareError> {
        if model.manifest.precision == Precision::Fp16 {
            return Err(PrepareError::Settings("the precision fp16 is for GPUs: a processor computes it slower than fp32".to_owned()));
        }
        let layout = settings.layout_here(model.manifest.precision);
        let weights = Weights::load(model)?;
        let passes = (0..layout.sessions).map(|_| Ok(Box::new(Forward::load(model, &weights, layout.threads)?) as Box<dyn Pass>));
        Ok(Self {
            passes: passes.collect::<Result<_, PrepareError>>()?,
            provider: Provider::Cpu,
            batch_tokens: settings.batch_tokens_on_cpu(),
            slow_products: weights.products == Some(Products::Unsigned),
        })
    }

    /// One session: a GPU runs one pass after the other anyway.
    fn on_gpu(model: &PreparedModel, settings: &EncoderSettings) -> Result<Self, PrepareError> {
        if model.manifest.architecture == Architecture::Graph {
            let name = &model.manifest.name;
            return Err(PrepareError::Settings(format!(
                "{name} came with a graph of its own, which runs on the processor only: set encoder.provider = \"cpu\""
            )));
        }
        let halves = match model.manifest.precision {
            Precision::Fp32 => false,
            Precision::Fp16 => true,
            Precision::Int8 => {
                return Err(PrepareError::Settings("the precision int8 is for processors: set encoder.precision = \"fp16\" for a GPU".to_owned()));
            }
        };
        let library = Places::here(model)?.load().map_err(|error| PrepareError::Start(error.to_string()))?;
        let mut pass = Bucketed::on_gpu(model, &library, halves)?;
        // A driver that is too old is found out here, while `auto` can still choose.
        pass.run(&[&Tokens::load(&model.tokenizer, settings.max_tokens)?.nothing()]).map_err(PrepareError::Start)?;
        let batch_tokens = if settings.batch_tokens == 0 { cuda::batch_tokens(model, halves) } else { settings.batch_tokens };
        Ok(Self { passes: vec![Box::new(pass)], provider: Provider::Cuda, batch_tokens, slow_products: false })
    }
}
