//! Numbers and names as a reader sees them, the same in the terminal and on the page.

use posenc::Language;

/// The verdict in one word, the same as in the files.
pub use posenc_lab::csv::reach_name as reach;

/// Stands where a number cannot: refused, not measured, or not finite (a diverged run).
pub const NOTHING: &str = "—";

/// A loss in nats.
pub fn loss(nats: f64) -> String {
    if nats.is_finite() { format!("{nats:.2}") } else { NOTHING.into() }
}

/// A difference of losses, always signed. A value that rounds to zero is written `+0.00`, never `−0.00`.
pub fn rise(nats: f64) -> String {
    if !nats.is_finite() {
        return NOTHING.into();
    }
    let text = format!("{:.2}", nats.abs());
    let sign = if nats < 0.0 && text.bytes().any(|b| (b'1'..=b'9').contains(&b)) {
        '−'
    } else {
        '+'
    };
    format!("{sign}{text}")
}

/// Smallest and largest rise over the seeds, where there is more than one seed.
pub fn range(values: &[f64]) -> Option<String> {
    let (low, high) = extent(values.iter().copied())?;
    (values.len() > 1).then(|| format!("{} to {}", rise(low), rise(high)))
}

/// A measured number: two decimals, or a power of ten where that would say nothing.
pub fn number(x: f64) -> String {
    let text = match x.abs() {
        0.0 => "0".into(),
        size if !size.is_finite() => return NOTHING.into(),
        size if (0.005..1e5).contains(&size) => format!("{size:.2}"),
        size => format!("{size:.0e}").replace("e-", "e−"),
    };
    if x < 0.0 { format!("−{text}") } else { text }
}

/// The same in English or in Chinese.
pub fn say(lang: Language, en: impl Into<String>, zh: impl Into<String>) -> String {
    match lang {
        Language::English => en.into(),
        Language::Chinese => zh.into(),
    }
}

/// Claims of a demonstration with a mark each: seen, or loudly not.
pub fn verdicts(claims: impl Iterator<Item = (bool, String)>, lang: Language, columns: usize) -> String {
    let not_shown = say(lang, "✗ NOT SHOWN: ", "✗ 未能显示：");
    let mark = |holds| if holds { "✓ " } else { not_shown.as_str() };
    claims
        .map(|(holds, claim)| crate::columns::paragraph(mark(holds), &claim, columns))
        .collect()
}

/// A length as a multiple of the trained one: `8×`, `1.5×`.
pub fn ratio(length: usize, trained: usize) -> String {
    let text = format!("{:.2}", length as f64 / trained.max(1) as f64);
    format!("{}×", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A length with its multiple: `1.5× (96)`.
pub fn length(length: usize, trained: usize) -> String {
    format!("{} ({length})", ratio(length, trained))
}

/// An integer with its thousands apart: `1,234,567`.
pub fn count(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 seed`, `2 seeds`.
pub fn plural(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// A time that a person waited.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => NOTHING.into(),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5_400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}

/// Mean of what is there; `None` where nothing is, or where the mean is not finite.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0usize);
    for value in values {
        sum += value;
        n += 1;
    }
    let mean = sum / n as f64;
    mean.is_finite().then_some(mean)
}

/// Smallest and largest of the finite values.
pub fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|v| v.is_finite()).fold(None, |e, v| {
        Some(e.map_or((v, v), |(low, high): (f64, f64)| (low.min(v), high.max(v))))
    })
}

/// Text for HTML and SVG, in elements and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // HTML forbids the other control characters, even escaped; an error's text or a path may hold them.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(rise(0.834), "+0.83");
        assert_eq!(rise(-0.014), "−0.01");
        assert_eq!(rise(-0.001), "+0.00");
        assert_eq!(rise(f64::NAN), NOTHING);
        assert_eq!(ratio(96, 64), "1.5×");
        assert_eq!(ratio(512, 64), "8×");
        assert_eq!(ratio(640, 64), "10×");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(64), "64");
        assert_eq!(range(&[0.1, -0.2]).as_deref(), Some("−0.20 to +0.10"));
        assert_eq!(range(&[0.1]), None);
        assert_eq!(mean([]), None);
        assert_eq!(
            [0.0, 1.534, -39.2, 4e-16, -3e-3, f64::NAN].map(number),
            ["0", "1.53", "−39.20", "4e−16", "−3e−3", NOTHING]
        );
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<b a='1'>&\"\u{1}"), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;\u{fffd}");
    }
}
