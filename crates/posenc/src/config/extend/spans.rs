//! Where the values of a JSON text stand, so that one can be changed and every other byte kept.

use std::ops::Range;

/// A value of a text that a parser has read before: only its shape matters here.
#[derive(Clone, Debug)]
pub(super) struct Spanned {
    /// Its bytes.
    pub at: Range<usize>,
    /// Its members, where it is an object.
    pub members: Vec<Member>,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub key: String,
    /// Where the key's quote opens.
    pub start: usize,
    pub value: Spanned,
}

/// The outermost value of a text that is known to be JSON.
pub(super) fn scan(text: &str) -> Option<Spanned> {
    Scanner { text, at: 0 }.value()
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl Scanner<'_> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while self.byte().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Steps over this byte.
    fn skip(&mut self, expected: u8) -> Option<()> {
        (self.byte()? == expected).then(|| self.at += 1)
    }

    fn value(&mut self) -> Option<Spanned> {
        self.space();
        let start = self.at;
        let mut members = Vec::new();
        match self.byte()? {
            b'{' => {
                self.at += 1;
                loop {
                    self.space();
                    if self.byte()? == b'}' {
                        break;
                    }
                    let start = self.at;
                    self.string()?;
                    let key = serde_json::from_str(&self.text[start..self.at]).ok()?;
                    self.space();
                    self.skip(b':')?;
                    members.push(Member {
                        key,
                        start,
                        value: self.value()?,
                    });
                    self.space();
                    if self.byte()? == b',' {
                        self.at += 1;
                    }
                }
                self.at += 1;
            }
            b'[' => {
                self.at += 1;
                loop {
                    self.space();
                    match self.byte()? {
                        b']' => break,
                        b',' => self.at += 1,
                        _ => drop(self.value()?),
                    }
                }
                self.at += 1;
            }
            b'"' => self.string()?,
            _ => {
                let ends = |b: u8| b.is_ascii_whitespace() || b",]}".contains(&b);
                while self.byte().is_some_and(|b| !ends(b)) {
                    self.at += 1;
                }
            }
        }
        Some(Spanned {
            at: start..self.at,
            members,
        })
    }

    fn string(&mut self) -> Option<()> {
        self.skip(b'"')?;
        loop {
            match self.byte()? {
                b'"' => return self.skip(b'"'),
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }
}

impl Spanned {
    pub fn get(&self, key: &str) -> Option<&Spanned> {
        self.members.iter().find(|member| member.key == key).map(|member| &member.value)
    }

    /// The object at a path of keys.
    pub fn object(&self, path: &str) -> Option<&Spanned> {
        path.split('.')
            .filter(|key| !key.is_empty())
            .try_fold(self, |object, key| object.get(key))
    }
}

/// Changes to a text: bytes and what takes their place.
#[derive(Default)]
pub(super) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    pub fn replace(&mut self, at: Range<usize>, with: String) {
        self.0.push((at, with));
    }

    /// The text with all changes made, which do not overlap.
    pub fn applied(mut self, text: &str) -> String {
        self.0.sort_by_key(|(at, _)| (at.start, at.end));
        let mut out = String::new();
        let mut from = 0;
        for (at, with) in &self.0 {
            out.push_str(&text[from..at.start]);
            out.push_str(with);
            from = at.end;
        }
        out + &text[from..]
    }
}

/// How a text lays objects out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Spaces of one level; none where a text is one line.
    pub step: Option<usize>,
    /// The step is a tab.
    pub tabs: bool,
    /// Lines end as on Windows.
    pub crlf: bool,
}

impl Layout {
    /// That of the outermost object.
    pub fn of(text: &str, object: &Spanned) -> Layout {
        let before = object.members.first().map_or("", |first| &text[object.at.start + 1..first.start]);
        let lines = before.rsplit_once('\n');
        Layout {
            step: lines.map(|(_, indent)| indent.chars().count()),
            tabs: lines.is_some_and(|(_, indent)| indent.contains('\t')),
            crlf: lines.is_some_and(|(above, _)| above.ends_with('\r')),
        }
    }

    fn indent(&self, depth: usize) -> String {
        let unit = if self.tabs { "\t" } else { " " };
        unit.repeat(self.step.unwrap_or(0) * depth)
    }

    /// What stands between members at this depth, after the comma.
    pub fn between(&self, depth: usize) -> String {
        match self.step {
            Some(_) => format!("{}{}", if self.crlf { "\r\n" } else { "\n" }, self.indent(depth)),
            None => " ".into(),
        }
    }

    /// An object whose members are written already; `depth` is theirs.
    pub fn object(&self, members: &[(String, String)], depth: usize) -> String {
        let written: Vec<String> = members.iter().map(|(key, value)| format!("{}: {value}", quoted(key))).collect();
        self.block("{", "}", &written, depth)
    }

    /// A list as transformers writes it: an item on a line, where the text has lines.
    pub fn list(&self, items: &[f64], depth: usize) -> String {
        let written: Vec<String> = items.iter().map(|x| number(*x)).collect();
        self.block("[", "]", &written, depth)
    }

    fn block(&self, open: &str, close: &str, items: &[String], depth: usize) -> String {
        match self.step {
            Some(_) if !items.is_empty() => {
                let between = self.between(depth);
                format!(
                    "{open}{between}{}{}{close}",
                    items.join(&format!(",{between}")),
                    self.between(depth.saturating_sub(1))
                )
            }
            _ => format!("{open}{}{close}", items.join(", ")),
        }
    }
}

pub(super) fn quoted(key: &str) -> String {
    serde_json::Value::from(key).to_string()
}

/// A number that reads back as itself, with a point: transformers wants floats to look like floats.
pub(super) fn number(x: f64) -> String {
    serde_json::Number::from_f64(x).map_or_else(|| "null".into(), |x| x.to_string())
}
