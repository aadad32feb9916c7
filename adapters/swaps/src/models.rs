//! The three models, original and swapped, behind one interface; and the configurations that are run.

use crate::weights::{Moved, Weights};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Activation, VarBuilder};
use posenc::rotate::Scaling;
use posenc::{Pairing, Rotary};

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

    /// The rotations of its layers.
    pub fn rotations(self) -> Vec<Rotary> {
        let halves = Rotary::new(Pairing::Halves);
        match self {
            Model::Llama => vec![halves.with_base(LLAMA_BASE).with_scaling(LLAMA_SCALING)],
            Model::Qwen2 => vec![halves.with_base(WIDE_BASE)],
            Model::Gemma3 => vec![halves.clone().with_base(LOCAL_BASE), halves.with_base(WIDE_BASE)],
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
/// The longest sum of products in a layer.
pub const LONGEST_SUM: usize = 2 * WIDTH;
const WIDTH: usize = 256;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const POSITIONS: usize = crate::measure::FAR + 1;
/// Llama 3.2's.
const LLAMA_BASE: f64 = 500_000.0;
const LLAMA_SCALING: Scaling = Scaling::Llama3 {
    factor: 32.0,
    original_len: 8192,
    low_freq_factor: 1.0,
    high_freq_factor: 4.0,
};
/// Qwen2's, and Gemma 3's global layers'.
const WIDE_BASE: f64 = 1_000_000.0;
/// Gemma 3's local layers', and their window.
const LOCAL_BASE: f64 = 10_000.0;
const WINDOW: usize = 32;

/// A model with weights of a seed.
pub fn load(model: Model, code: Code, dtype: DType, seed: u64, moved: Moved) -> Result<Box<dyn Decoder>> {
    let gemma = model == Model::Gemma3;
    let vb = VarBuilder::from_backend(Box::new(Weights { seed, gemma, moved }), dtype, Device::Cpu);
    match code {
        Code::Original => of_original::load(model, vb),
        Code::Swapped => of_swapped::load(model, vb),
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

            pub fn load(model: Model, vb: VarBuilder) -> Result<Box<dyn Decoder>> {
                Ok(match model {
                    Model::Llama => {
                        let config = llama::Config {
                            hidden_size: WIDTH,
                            intermediate_size: 2 * WIDTH,
                            vocab_size: VOCAB,
                            num_hidden_layers: model.layers(),
                            num_attention_heads: HEADS,
                            num_key_value_heads: KV_HEADS,
                            use_flash_attn: false,
                            rms_norm_eps: 1e-5,
                            rope_theta: LLAMA_BASE as f32,
                            bos_token_id: None,
                            eos_token_id: None,
                            rope_scaling: Some(llama::Llama3RopeConfig {
                                factor: 32.0,
                                low_freq_factor: 1.0,
                                high_freq_factor: 4.0,
                                original_max_position_embeddings: 8192,
                                rope_type: llama::Llama3RopeType::Llama3,
                            }),
                            max_position_embeddings: POSITIONS,
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
                            max_position_embeddings: POSITIONS,
                            sliding_window: POSITIONS,
                            max_window_layers: model.layers(),
                            tie_word_embeddings: false,
                            rope_theta: WIDE_BASE,
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
                            // candle's cache refuses the values of more than one key head (0.11.1); the 1B model has one.
                            num_key_value_heads: 1,
                            rms_norm_eps: 1e-6,
                            rope_theta: WIDE_BASE,
                            rope_local_base_freq: LOCAL_BASE,
                            vocab_size: VOCAB,
                            final_logit_softcapping: None,
                            attn_logit_softcapping: None,
                            query_pre_attn_scalar: model.head_dim(),
                            sliding_window: WINDOW,
                            sliding_window_pattern: 2,
                            max_position_embeddings: POSITIONS,
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
