//! The three models, original and swapped, behind one interface; and the configurations that are run.

use crate::weights::Random;
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Activation, VarBuilder};

/// A model with its cache.
pub trait Decoder {
    /// The logits after the last of these tokens `[1, seq]`, the first of which stands at `offset`: `[vocab]` in f64.
    fn forward(&mut self, tokens: &Tensor, offset: usize) -> Result<Vec<f64>>;
    /// The same model with the same cache, to go on from here with one token. Where caches are written in place, all of these write the same row: they are used one after another.
    fn fork(&self) -> Box<dyn Decoder>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    Llama,
    Qwen2,
    Gemma3,
}

impl Model {
    pub const ALL: [Model; 3] = [Model::Llama, Model::Qwen2, Model::Gemma3];

    pub fn name(self) -> &'static str {
        match self {
            Model::Llama => "llama",
            Model::Qwen2 => "qwen2",
            Model::Gemma3 => "gemma3",
        }
    }

    pub fn layers(self) -> usize {
        match self {
            Model::Llama | Model::Qwen2 => 3,
            // Local, global, local, global.
            Model::Gemma3 => 4,
        }
    }

    pub fn head_dim(self) -> usize {
        match self {
            Model::Llama | Model::Qwen2 => 64,
            Model::Gemma3 => 128,
        }
    }

    /// Of the layers that see everything.
    pub fn base(self) -> f64 {
        match self {
            Model::Llama => 500_000.0,
            Model::Qwen2 | Model::Gemma3 => 1_000_000.0,
        }
    }
}

/// Which code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Original,
    Swapped,
}

pub const VOCAB: usize = 512;
const WIDTH: usize = 256;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const LAST: usize = crate::FAR + 1;
/// Of Gemma 3's local layers, and their base.
const WINDOW: usize = 512;
const LOCAL_BASE: f64 = 10_000.0;

/// A model with the weights of `seed`; its bases are multiplied by `base`, which is 1 but where sensitivity to it is measured.
pub fn load(model: Model, code: Code, dtype: DType, base: f64, weights: Random) -> Result<Box<dyn Decoder>> {
    let vb = VarBuilder::from_backend(Box::new(weights), dtype, Device::Cpu);
    match code {
        Code::Original => of_original::load(model, base, vb),
        Code::Swapped => of_swapped::load(model, base, vb),
    }
}

fn numbers(logits: &Tensor) -> Result<Vec<f64>> {
    logits.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// The same code over the types of either crate, which have the same names.
macro_rules! models {
    ($module:ident, $models:ident) => {
        mod $module {
            use super::*;
            use $models::models::{gemma3, llama, qwen2};

            #[derive(Clone)]
            struct Llama {
                model: llama::Llama,
                cache: llama::Cache,
            }

            impl Decoder for Llama {
                fn forward(&mut self, tokens: &Tensor, offset: usize) -> Result<Vec<f64>> {
                    numbers(&self.model.forward(tokens, offset, &mut self.cache)?)
                }

                fn fork(&self) -> Box<dyn Decoder> {
                    Box::new(self.clone())
                }
            }

            #[derive(Clone)]
            struct Qwen2(qwen2::ModelForCausalLM);

            impl Decoder for Qwen2 {
                fn forward(&mut self, tokens: &Tensor, offset: usize) -> Result<Vec<f64>> {
                    numbers(&self.0.forward(tokens, offset)?)
                }

                fn fork(&self) -> Box<dyn Decoder> {
                    Box::new(self.clone())
                }
            }

            #[derive(Clone)]
            struct Gemma3(gemma3::Model);

            impl Decoder for Gemma3 {
                fn forward(&mut self, tokens: &Tensor, offset: usize) -> Result<Vec<f64>> {
                    numbers(&self.0.forward(tokens, offset)?)
                }

                fn fork(&self) -> Box<dyn Decoder> {
                    Box::new(self.clone())
                }
            }

            pub fn load(model: Model, base: f64, vb: VarBuilder) -> Result<Box<dyn Decoder>> {
                Ok(match model {
                    Model::Llama => {
                        // Llama 3.2's scaling: its bands take effect within the positions that are run.
                        let config = llama::Config {
                            hidden_size: WIDTH,
                            intermediate_size: 2 * WIDTH,
                            vocab_size: VOCAB,
                            num_hidden_layers: model.layers(),
                            num_attention_heads: HEADS,
                            num_key_value_heads: KV_HEADS,
                            use_flash_attn: false,
                            rms_norm_eps: 1e-5,
                            rope_theta: (model.base() * base) as f32,
                            bos_token_id: None,
                            eos_token_id: None,
                            rope_scaling: Some(llama::Llama3RopeConfig {
                                factor: 32.0,
                                low_freq_factor: 1.0,
                                high_freq_factor: 4.0,
                                original_max_position_embeddings: 8192,
                                rope_type: llama::Llama3RopeType::Llama3,
                            }),
                            max_position_embeddings: LAST,
                            tie_word_embeddings: false,
                        };
                        let cache = llama::Cache::new(true, vb.dtype(), &config, vb.device())?;
                        let model = llama::Llama::load(vb, &config)?;
                        Box::new(Llama { model, cache })
                    }
                    Model::Qwen2 => {
                        let config = qwen2::Config {
                            vocab_size: VOCAB,
                            hidden_size: WIDTH,
                            intermediate_size: 2 * WIDTH,
                            num_hidden_layers: model.layers(),
                            num_attention_heads: HEADS,
                            num_key_value_heads: KV_HEADS,
                            max_position_embeddings: LAST,
                            sliding_window: LAST,
                            max_window_layers: model.layers(),
                            tie_word_embeddings: false,
                            rope_theta: model.base() * base,
                            rms_norm_eps: 1e-6,
                            use_sliding_window: false,
                            hidden_act: Activation::Silu,
                        };
                        Box::new(Qwen2(qwen2::ModelForCausalLM::new(&config, vb)?))
                    }
                    Model::Gemma3 => {
                        let config = gemma3::Config {
                            attention_bias: false,
                            head_dim: model.head_dim(),
                            hidden_activation: Activation::GeluPytorchTanh,
                            hidden_size: WIDTH,
                            intermediate_size: 2 * WIDTH,
                            num_attention_heads: HEADS,
                            num_hidden_layers: model.layers(),
                            num_key_value_heads: KV_HEADS,
                            rms_norm_eps: 1e-6,
                            rope_theta: model.base() * base,
                            rope_local_base_freq: LOCAL_BASE * base,
                            vocab_size: VOCAB,
                            final_logit_softcapping: None,
                            attn_logit_softcapping: None,
                            query_pre_attn_scalar: model.head_dim(),
                            sliding_window: WINDOW,
                            sliding_window_pattern: 2,
                            max_position_embeddings: LAST,
                        };
                        Box::new(Gemma3(gemma3::Model::new(false, &config, vb)?))
                    }
                })
            }
        }
    };
}

models!(of_original, original);
models!(of_swapped, swapped);
