//! The options of `posenc compare`. Every default is the lab's own.

use std::path::PathBuf;

use clap::Args;
use posenc_lab::compare::{CALIBRATED_STEPS, DEFAULT_ENCODINGS, DEFAULT_FACTORS, LEFT_OUT, Request};
use posenc_lab::results::{ModelConfig, TrainingConfig};
use posenc_lab::scalings::ScalingMethod;
use posenc_lab::text::{BUNDLED_NAME, Tokens};

use super::units::{Betas, Budget, Length, List, Scalings};

/// Train small models that differ in nothing but their encoding, and see what each does past its trained length
///
/// For every encoding and seed a small transformer is trained on real text, then evaluated at the trained
/// length and far past it. All start from the same weights and read the same batches. The verdicts follow
/// from a rule that was fixed before any run. `docs/method.md` describes rule, limits and files.
///
/// A results folder receives every run as soon as it is finished. After Ctrl-C, a crash or a power cut the
/// same command resumes there: it repeats at most the run that was in progress, and ends with the same
/// numbers. A folder that holds another comparison is refused, and nothing in it is touched.
#[derive(Clone, Debug, Args)]
#[command(
    verbatim_doc_comment,
    args_override_self = true,
    after_help = "\
Examples:
  posenc compare                                   the default comparison
  posenc compare --budget 10m --seeds 1,2,3,4,5    longer training, five seeds
  posenc compare --encodings none,rotary --steps 600 --out two
  posenc compare --text my.txt --tokens bytes --length 128 --lengths 1x,2x,4x"
)]
pub struct CompareArguments {
    #[arg(
        long,
        value_name = "NAMES",
        default_value_t = List(Request::default().encodings),
        hide_default_value = true,
        help = format!("Encodings, as `posenc list` names them [default: {} of them]", DEFAULT_ENCODINGS.len()),
        long_help = format!(
            "Encodings, as `posenc list` names them\n\nNot in the default, so that the others are trained for long enough in its time:\n{}.\n\n[default: {}]",
            LEFT_OUT.join(", "),
            DEFAULT_ENCODINGS.join(",")
        ),
        help_heading = COMPARED
    )]
    encodings: List<String>,

    /// One run per encoding and seed
    ///
    /// A seed fixes the initial weights and the batches. One seed cannot show how much is luck.
    #[arg(long, value_name = "NUMBERS", default_value_t = List(Request::default().seeds), help_heading = COMPARED, verbatim_doc_comment)]
    seeds: List<u64>,

    #[arg(
        long,
        value_name = "FILE",
        help = format!("A text in UTF-8 to train on and measure with [default: {BUNDLED_NAME}]"),
        long_help = format!(
            "A text in UTF-8 to train on and measure with [default: {BUNDLED_NAME}]\n\n\
             Its last tenth is held out, or more where the longest evaluation needs more."
        ),
        help_heading = COMPARED
    )]
    text: Option<PathBuf>,

    /// What a token is: characters or bytes
    #[arg(long, value_name = "UNIT", value_parser = tokens, default_value = Request::default().tokens.name(), help_heading = COMPARED)]
    tokens: Tokens,

    /// The results folder; one that holds the same comparison is resumed
    #[arg(long, value_name = "DIR", default_value_os_t = Request::default().out, help_heading = COMPARED)]
    out: PathBuf,

    #[arg(
        long,
        value_name = "TIME",
        default_value_t = Budget { seconds: Request::default().budget_seconds },
        conflicts_with = "steps",
        help = BUDGET,
        long_help = format!(
            "{BUDGET}\n\n\
             The number of steps is calibrated to this once, on the machine that begins the comparison, and kept\n\
             in the folder: whoever resumes takes the same steps. It is never below {} nor above {}; for more or\n\
             fewer, say --steps.",
            CALIBRATED_STEPS.start(),
            CALIBRATED_STEPS.end()
        ),
        help_heading = TRAINING
    )]
    budget: Budget,

    /// Training steps of each run, instead of a budget
    #[arg(long, value_name = "N", help_heading = TRAINING)]
    steps: Option<usize>,

    /// Tokens per training sequence: the trained length
    #[arg(long, value_name = "N", default_value_t = Request::default().training.length, help_heading = TRAINING)]
    length: usize,

    /// Sequences per step
    #[arg(long, value_name = "N", default_value_t = Request::default().training.batch, help_heading = TRAINING)]
    batch: usize,

    /// Highest learning rate; it falls to a tenth along a cosine
    #[arg(long, value_name = "X", default_value_t = Request::default().training.learning_rate, allow_negative_numbers = true, help_heading = TRAINING)]
    learning_rate: f64,

    /// AdamW's decoupled weight decay
    #[arg(long, value_name = "X", default_value_t = Request::default().training.weight_decay, allow_negative_numbers = true, help_heading = TRAINING)]
    weight_decay: f64,

    /// AdamW's two averaging factors
    #[arg(long, value_name = "A,B", default_value_t = Betas(Request::default().training.betas), allow_hyphen_values = true, help_heading = TRAINING)]
    betas: Betas,

    /// Share of the steps spent warming up
    #[arg(long, value_name = "X", default_value_t = Request::default().training.warmup, allow_negative_numbers = true, help_heading = TRAINING)]
    warmup: f64,

    /// The gradient's norm is clipped to this
    #[arg(long, value_name = "X", default_value_t = Request::default().training.clip, allow_negative_numbers = true, help_heading = TRAINING)]
    clip: f64,

    /// Transformer blocks
    #[arg(long, value_name = "N", default_value_t = Request::default().model.layers, help_heading = MODEL)]
    layers: usize,

    /// Width of the residual stream
    #[arg(long, value_name = "N", default_value_t = Request::default().model.model_dim, help_heading = MODEL)]
    model_dim: usize,

    /// Attention heads; they split the width evenly
    #[arg(long, value_name = "N", default_value_t = Request::default().model.heads, help_heading = MODEL)]
    heads: usize,

    /// Hidden width of the MLP
    #[arg(long, value_name = "N", default_value_t = Request::default().model.mlp_dim, help_heading = MODEL)]
    mlp_dim: usize,

    /// Evaluated lengths, as tokens or multiples
    ///
    /// Ascending from the trained length: 64,96,128 or 1x,1.5x,2x.
    #[arg(long, value_name = "LENGTHS", default_value_t = List(DEFAULT_FACTORS.map(Length::Times).to_vec()), help_heading = EVALUATION, verbatim_doc_comment)]
    lengths: List<Length>,

    /// The most held-out tokens read for the mean at each length
    #[arg(long, value_name = "N", default_value_t = Request::default().window_tokens, help_heading = EVALUATION)]
    window_tokens: usize,

    /// Places at which the windows of every length end
    ///
    /// Only the last few targets before each are scored, so that the targets are the same at every length.
    #[arg(long, value_name = "N", default_value_t = Request::default().aligned_places, help_heading = EVALUATION, verbatim_doc_comment)]
    aligned_places: usize,

    /// Targets scored before each of these places
    #[arg(long, value_name = "N", default_value_t = Request::default().aligned_targets, help_heading = EVALUATION)]
    aligned_targets: usize,

    #[arg(
        long,
        value_name = "NAMES",
        default_value_t = Scalings(Request::default().scalings),
        hide_default_value = true,
        help = format!("{SCALINGS} [default: {} of them]", ScalingMethod::ALL.len()),
        long_help = format!(
            "{SCALINGS}\n\n\
             No model is trained for this: the same weights turn queries and keys by smaller angles.\n\n\
             [default: {}]",
            Scalings(Request::default().scalings)
        ),
        help_heading = EVALUATION
    )]
    scalings: Scalings,
}

const COMPARED: &str = "What is compared";
const TRAINING: &str = "Training";
const MODEL: &str = "Model";
const EVALUATION: &str = "Evaluation";
const SCALINGS: &str = "Scalings under which rotary models are read again, or none";
const BUDGET: &str = "About how long to take, as 240, 90s, 4m or 1.5h";

impl CompareArguments {
    /// What the lab is asked. What these values must be to each other is for the lab to check.
    pub fn request(&self) -> Request {
        Request {
            out: self.out.clone(),
            text: self.text.clone(),
            tokens: self.tokens,
            encodings: self.encodings.0.clone(),
            seeds: self.seeds.0.clone(),
            steps: self.steps,
            budget_seconds: self.budget.seconds,
            model: ModelConfig {
                layers: self.layers,
                model_dim: self.model_dim,
                heads: self.heads,
                mlp_dim: self.mlp_dim,
            },
            training: TrainingConfig {
                length: self.length,
                batch: self.batch,
                learning_rate: self.learning_rate,
                weight_decay: self.weight_decay,
                betas: self.betas.0,
                warmup: self.warmup,
                clip: self.clip,
                ..Request::default().training
            },
            lengths: Some(self.lengths.0.iter().map(|length| length.tokens(self.length)).collect()),
            window_tokens: self.window_tokens,
            aligned_places: self.aligned_places,
            aligned_targets: self.aligned_targets,
            scalings: self.scalings.0.clone(),
        }
    }
}

fn tokens(name: &str) -> Result<Tokens, &'static str> {
    Tokens::from_name(name).ok_or("expected characters or bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, read};
    use crate::export::{command::command, fixture};
    use posenc_lab::results::Config;
    use std::ffi::OsString;

    fn parse(words: impl IntoIterator<Item = String>) -> Request {
        match read(words.into_iter().map(OsString::from)).unwrap().command {
            Command::Compare(arguments) => arguments.request(),
            other => panic!("{other:?}"),
        }
    }

    /// The words that a POSIX shell makes of a command with quotes and continued lines.
    fn shell_words(command: &str) -> Vec<String> {
        let mut words = Vec::new();
        let (mut word, mut quoted) = (None::<String>, false);
        let mut characters = command.chars();
        while let Some(c) = characters.next() {
            match c {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                '\\' if !quoted => match characters.next() {
                    Some('\n') | None => {}
                    Some(c) => word.get_or_insert_default().push(c),
                },
                c if c.is_whitespace() && !quoted => words.extend(word.take()),
                c => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    fn check(config: &Config) {
        let request = parse(shell_words(&command(config)));
        assert_eq!(request.encodings, config.encodings);
        assert_eq!(request.seeds, config.seeds);
        assert_eq!(request.tokens.name(), config.text.tokens);
        assert_eq!(request.model, config.model);
        assert_eq!(request.steps, Some(config.training.steps));
        let training = TrainingConfig {
            steps: request.training.steps,
            steps_from: request.training.steps_from.clone(),
            ..config.training.clone()
        };
        assert_eq!(request.training, training);
        assert_eq!(request.lengths.as_ref(), Some(&config.lengths));
        assert_eq!(request.window_tokens, config.window_tokens);
        assert_eq!(
            (request.aligned_places, request.aligned_targets),
            (config.aligned_places, config.aligned_targets)
        );
        assert_eq!(request.scalings, config.scalings);
        let path = (config.text.name != BUNDLED_NAME).then(|| PathBuf::from(&config.text.name));
        assert_eq!(request.text, path);
    }

    #[test]
    fn the_command_that_a_report_prints_asks_for_the_same() {
        let mut config = fixture::pilot().config;
        check(&config);
        config.text.name = "/tmp/it's <here>/a \\ text.txt".into();
        config.text.tokens = "bytes".into();
        config.seeds = vec![u64::MAX];
        config.training.learning_rate = 1e-5 / 3.0;
        config.training.betas = [0.0, 0.1 + 0.2];
        config.training.weight_decay = 0.0;
        config.lengths = vec![64];
        config.scalings.clear();
        check(&config);
    }

    #[test]
    fn nothing_typed_is_the_labs_default() {
        let words = ["posenc", "compare"].map(String::from);
        let mut request = parse(words);
        // Spelled out, they are the same five lengths.
        assert_eq!(request.lengths.take(), Some(vec![64, 96, 128, 256, 512]));
        assert_eq!(format!("{request:?}"), format!("{:?}", Request::default()));
    }

    #[test]
    fn lengths_follow_the_trained_length() {
        let request = parse("posenc compare --length 100 --lengths 1x,1.5x,777".split(' ').map(String::from));
        assert_eq!(request.lengths, Some(vec![100, 150, 777]));
        let request = parse("posenc compare --length 100".split(' ').map(String::from));
        assert_eq!(request.lengths, Some(vec![100, 150, 200, 400, 800]));
    }

    #[test]
    fn the_last_of_an_option_holds() {
        let request = parse("posenc compare --steps 3 --steps 4".split(' ').map(String::from));
        assert_eq!(request.steps, Some(4));
    }
}
