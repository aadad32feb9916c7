//! What a comparison says while it runs: one line that is rewritten on a terminal, a line per run in a file.

use std::io::Write;

use posenc_lab::compare::Event;
use posenc_lab::results::Run;

use crate::export::answer::measured;
use crate::export::words;

/// Longer lines would break on a narrow terminal, and a broken line cannot be rewritten.
const COLUMNS: usize = 79;
/// Back to the line's start, and erase it.
const CLEAR: &str = "\r\x1b[2K";

/// What is known of the comparison, and where it is shown.
pub struct Progress<W: Write> {
    out: W,
    terminal: bool,
    /// The run in progress: `run 3/18 rotary seed 1`.
    run: String,
    /// Where the run stands, and how long the whole still takes.
    state: String,
    left: String,
}

impl<W: Write> Progress<W> {
    /// Progress for a terminal, or without control characters for anything else.
    pub fn new(out: W, terminal: bool) -> Self {
        Progress {
            out,
            terminal,
            run: String::new(),
            state: String::new(),
            left: String::new(),
        }
    }

    /// Shows what happened.
    pub fn show(&mut self, event: &Event<'_>) {
        match *event {
            Event::Note(note) => self.line(note),
            Event::Begun {
                finished,
                total,
                steps,
                steps_from,
            } => self.begun(finished, total, steps, steps_from),
            Event::RunBegun {
                number,
                total,
                encoding,
                seed,
                plan,
            } => {
                self.run = format!("run {number}/{total} {encoding} seed {seed}");
                self.state.clear();
                if self.terminal {
                    self.rewrite();
                } else {
                    self.line(&format!("{}: {plan}", self.run));
                }
            }
            Event::Step {
                step,
                steps,
                loss,
                seconds_left,
            } => {
                self.state = format!(", step {step}/{steps}, loss {}", words::loss(loss));
                if let Some(seconds) = seconds_left {
                    self.left = format!(", {} left", time(seconds));
                }
                self.rewrite();
            }
            Event::Evaluating => {
                self.state = ", evaluating".into();
                self.rewrite();
            }
            Event::RunFinished(run) => self.finished(run),
        }
    }

    /// Takes the rewritten line away, so that what follows starts on an empty one.
    pub fn clear(&mut self) {
        if self.terminal {
            self.write(CLEAR);
        }
    }

    fn begun(&mut self, finished: usize, total: usize, steps: usize, steps_from: &str) {
        let mut line = format!("{} of {} ({steps_from})", words::plural(total, "run"), words::plural(steps, "step"));
        match finished {
            0 => {}
            _ if finished == total => line += ", all of them finished before",
            _ => line += &format!(", {finished} of them finished before"),
        }
        if finished < total {
            line += "; if it is interrupted, the same command resumes";
        }
        self.line(&line);
    }

    /// On a terminal the line of the next run takes its place; elsewhere it stays, with what a reader of the log looks for.
    fn finished(&mut self, run: &Run) {
        if self.terminal {
            return;
        }
        let at = run
            .lengths
            .first()
            .and_then(|at| measured(run, at.length))
            .map_or_else(String::new, |losses| format!(", loss {}", words::loss(losses.mean)));
        let line = format!(
            "{} finished in {}{at}{}",
            self.run,
            time(run.training_seconds + run.evaluation_seconds),
            self.left
        );
        self.line(&line);
    }

    /// A line that stays.
    fn line(&mut self, text: &str) {
        let clear = if self.terminal { CLEAR } else { "" };
        self.write(&format!("{clear}{text}\n"));
    }

    fn rewrite(&mut self) {
        if !self.terminal {
            return;
        }
        let line: String = [&self.run, &self.state, &self.left]
            .into_iter()
            .flat_map(|part| part.chars())
            .take(COLUMNS)
            .collect();
        self.write(&format!("{CLEAR}{line}"));
    }

    /// In one piece, so that a terminal does not flicker. What cannot be written is not missed: a closed stderr does not end a comparison.
    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// A time to wait: `50 s`, `2 min 10 s`, `1 h 5 min`.
fn time(seconds: f64) -> String {
    if !seconds.is_finite() {
        return words::NOTHING.into();
    }
    let s = seconds.max(0.0).round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixture;

    /// What is written for the events of a resumed comparison.
    fn written(terminal: bool) -> String {
        let results = fixture::pilot();
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, terminal);
        progress.show(&Event::Note("the text is short"));
        progress.show(&Event::Begun {
            finished: 2,
            total: 18,
            steps: 1600,
            steps_from: "calibrated",
        });
        progress.show(&Event::RunBegun {
            number: 3,
            total: 18,
            encoding: "rotary",
            seed: 1,
            plan: "rotary, 8 pairs",
        });
        progress.show(&Event::Step {
            step: 240,
            steps: 1600,
            loss: 1.934,
            seconds_left: Some(130.2),
        });
        progress.show(&Event::Evaluating);
        progress.show(&Event::RunFinished(&results.runs[6]));
        progress.clear();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_sees_one_line_rewritten() {
        let text = written(true);
        assert_eq!(text.matches('\n').count(), 2, "the note and the beginning stay: {text:?}");
        assert!(
            text.contains("\r\x1b[2Krun 3/18 rotary seed 1, step 240/1600, loss 1.93, 2 min 10 s left\r"),
            "{text:?}"
        );
        assert!(
            text.contains("\r\x1b[2Krun 3/18 rotary seed 1, evaluating, 2 min 10 s left\r"),
            "{text:?}"
        );
        assert!(text.ends_with("\r\x1b[2K"));
    }

    #[test]
    fn a_file_sees_a_line_per_run_and_no_control_characters() {
        let text = written(false);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(
            lines[1],
            "18 runs of 1,600 steps (calibrated), 2 of them finished before; if it is interrupted, the same command resumes"
        );
        assert_eq!(lines[2], "run 3/18 rotary seed 1: rotary, 8 pairs");
        assert!(
            lines[3].starts_with("run 3/18 rotary seed 1 finished in ") && lines[3].ends_with(", loss 1.57, 2 min 10 s left"),
            "{}",
            lines[3]
        );
    }

    #[test]
    fn a_line_never_breaks() {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, true);
        progress.show(&Event::RunBegun {
            number: 1,
            total: 1,
            encoding: &"long-".repeat(40),
            seed: 0,
            plan: "",
        });
        assert_eq!(
            String::from_utf8(out).unwrap().trim_start_matches("\r\x1b[2K").chars().count(),
            COLUMNS
        );
    }

    #[test]
    fn times_are_rounded_to_what_matters() {
        assert_eq!(time(49.6), "50 s");
        assert_eq!(time(59.7), "1 min 0 s");
        assert_eq!(time(3900.0), "1 h 5 min");
        assert_eq!(time(f64::NAN), "—");
        assert_eq!(time(-1.0), "0 s");
    }
}
