//! The command that repeats a comparison. It spells out every number, because a default may change with the version.

use posenc_lab::results::Config;
use posenc_lab::text::BUNDLED_NAME;

/// `posenc compare …`, one group of options a line, ready to paste into a shell.
pub fn command(config: &Config) -> String {
    let join = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let seeds = config.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    let (model, training) = (&config.model, &config.training);
    let mut lines = vec!["posenc compare".to_string()];
    lines.push(format!("--encodings {} --seeds {seeds}", quote(&config.encodings.join(","))));
    let text = if config.text.name == BUNDLED_NAME {
        String::new()
    } else {
        // Any other name is the path that was given.
        format!("--text {} ", quote(&config.text.name))
    };
    lines.push(format!("{text}--tokens {}", config.text.tokens));
    lines.push(format!(
        "--layers {} --model-dim {} --heads {} --mlp-dim {}",
        model.layers, model.model_dim, model.heads, model.mlp_dim
    ));
    lines.push(format!(
        "--length {} --batch {} --steps {}",
        training.length, training.batch, training.steps
    ));
    lines.push(format!(
        "--learning-rate {} --weight-decay {} --betas {},{} --warmup {} --clip {}",
        training.learning_rate, training.weight_decay, training.betas[0], training.betas[1], training.warmup, training.clip
    ));
    lines.push(format!(
        "--lengths {} --window-tokens {} --aligned-places {} --aligned-targets {}",
        join(&config.lengths),
        config.window_tokens,
        config.aligned_places,
        config.aligned_targets
    ));
    let scalings: Vec<&str> = config.scalings.iter().map(|scaling| scaling.name()).collect();
    lines.push(format!(
        "--scalings {}",
        if scalings.is_empty() { "none".into() } else { scalings.join(",") }
    ));
    lines.join(" \\\n  ")
}

/// A word that a POSIX shell reads back as it is.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
