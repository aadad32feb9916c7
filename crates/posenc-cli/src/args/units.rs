//! Values that are more than a number: lists, a length as tokens or as a multiple, a time with its unit, AdamW's pair of factors.

use std::fmt;
use std::str::FromStr;

use posenc_lab::scalings::ScalingMethod;

/// A length in tokens (`96`), or as a multiple of the trained length (`1.5x`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    Tokens(usize),
    Times(f64),
}

impl Length {
    /// In tokens; a multiple that falls between two is rounded to the nearer.
    pub fn tokens(self, trained: usize) -> usize {
        match self {
            Length::Tokens(tokens) => tokens,
            Length::Times(factor) => (factor * trained as f64).round() as usize,
        }
    }
}

impl FromStr for Length {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected tokens, as 96, or a multiple of the trained length, as 1.5x";
        match text.strip_suffix(['x', '×']) {
            Some(factor) => match factor.parse::<f64>() {
                Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(Length::Times(factor)),
                _ => Err(EXPECTED),
            },
            None => text.parse().map(Length::Tokens).map_err(|_| EXPECTED),
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Length::Tokens(tokens) => write!(f, "{tokens}"),
            Length::Times(factor) => write!(f, "{factor}x"),
        }
    }
}

/// A time that someone is willing to wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    pub seconds: f64,
}

impl FromStr for Budget {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a time above zero, as 240, 90s, 4m or 1.5h";
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" | "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(EXPECTED),
        };
        match digits.parse::<f64>() {
            Ok(number) if number.is_finite() && number > 0.0 => Ok(Budget { seconds: number * unit }),
            _ => Err(EXPECTED),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            s if s >= 60.0 && s % 60.0 == 0.0 => write!(f, "{}m", s / 60.0),
            s => write!(f, "{s}s"),
        }
    }
}

/// Values parted by commas.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(|item| item.trim().parse()).collect::<Result<_, _>>().map(List)
    }
}

impl<T: fmt::Display> fmt::Display for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// Scalings parted by commas, or `none`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalings(pub Vec<ScalingMethod>);

impl FromStr for Scalings {
    type Err = posenc::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "none" {
            return Ok(Scalings(Vec::new()));
        }
        text.parse::<List<ScalingMethod>>().map(|list| Scalings(list.0))
    }
}

impl fmt::Display for Scalings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "none");
        }
        List(self.0.iter().map(|scaling| scaling.name()).collect()).fmt(f)
    }
}

/// AdamW's two averaging factors, `0.9,0.95`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Betas(pub [f64; 2]);

impl FromStr for Betas {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        text.split_once(',')
            .and_then(|(first, second)| Some(Betas([number(first)?, number(second)?])))
            .ok_or("expected two numbers, as 0.9,0.95")
    }
}

impl fmt::Display for Betas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_tokens_or_multiples() {
        assert_eq!("96".parse(), Ok(Length::Tokens(96)));
        assert_eq!("1.5x".parse::<Length>().unwrap().tokens(64), 96);
        assert_eq!(Length::Times(1.5).to_string().parse(), Ok(Length::Times(1.5)));
        assert_eq!("1.5×".parse::<Length>().unwrap().tokens(65), 98);
        for wrong in ["", "x", "-1x", "0x", "infx", "NaNx", "1.5", "-3", "1e400x"] {
            assert!(wrong.parse::<Length>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn scalings_are_names_or_none() {
        for text in ["none", "yarn", "linear,ntk,yarn,dynamic"] {
            assert_eq!(text.parse::<Scalings>().unwrap().to_string(), text);
        }
        assert_eq!("NTK, linear".parse(), Ok(Scalings(vec![ScalingMethod::Ntk, ScalingMethod::Linear])));
        for wrong in ["", "yarn,", "yarn,none", "rope"] {
            assert!(wrong.parse::<Scalings>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn betas_are_two_numbers() {
        assert_eq!("0.9,0.95".parse(), Ok(Betas([0.9, 0.95])));
        assert_eq!(Betas([0.9, 0.95]).to_string(), "0.9,0.95");
        for wrong in ["", "0.9", "0.9,", "0.9,0.95,0.99", "a,b"] {
            assert!(wrong.parse::<Betas>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_units_and_read_back() {
        for (text, seconds) in [("240", 240.0), ("90s", 90.0), ("4m", 240.0), ("4min", 240.0), ("1.5h", 5400.0)] {
            let budget: Budget = text.parse().unwrap();
            assert_eq!(budget.seconds, seconds);
            assert_eq!(budget.to_string().parse(), Ok(budget));
        }
        for wrong in ["", "m", "0", "-4m", "4d", "inf", "NaN", "4 m"] {
            assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
        }
    }
}
