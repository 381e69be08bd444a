//! Patterns of names, as Redis has them.

use std::fmt;
use std::str::FromStr;

/// A pattern of topic names, for [`Bus::subscribe_matching`](super::Bus::subscribe_matching).
///
/// | in a pattern | stands for |
/// | --- | --- |
/// | `*` | any characters, none too; dots and slashes are characters like others |
/// | `?` | any one character |
/// | `[abc]`, `[a-z]` | one character of these; `^` in front: one that is none of these |
/// | `\` | the next character, whatever it means otherwise |
/// | everything else | itself, in its case |
///
/// It is the language of Redis's `PSUBSCRIBE`, with one difference: a pattern that makes no sense
/// is refused instead of guessed at. Matching takes at most the length of the pattern times that of
/// the name.
///
/// ```
/// use haybox::pubsub::Pattern;
///
/// let rooms: Pattern = "room.*.messages".parse()?;
/// assert!(rooms.matches("room.kitchen.messages"));
/// assert!(!rooms.matches("room.kitchen"));
/// assert!(Pattern::new("room.[").is_err());
/// # Ok::<(), haybox::pubsub::PatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Any,
    One(One),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum One {
    Whatever,
    Literal(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Why a text is no [`Pattern`], and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    problem: &'static str,
    at: usize,
}

impl PatternError {
    /// The byte of the text at which the part begins that makes no sense.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} of the pattern", self.problem, self.at)
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// For a `[` without its `]`, a class with nothing in it, a range that runs backwards, and a
    /// `\` at the end.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let parts = Reader {
            text,
            rest: text.char_indices(),
        };
        Ok(Self {
            text: text.to_owned(),
            parts: parts.read()?,
        })
    }

    /// The pattern that matches exactly one name, whatever characters it has.
    ///
    /// ```
    /// use haybox::pubsub::Pattern;
    ///
    /// assert!(Pattern::literal("50 % [sale]").matches("50 % [sale]"));
    /// ```
    #[must_use]
    pub fn literal(name: &str) -> Self {
        let mut text = String::with_capacity(name.len());
        for character in name.chars() {
            if matches!(character, '*' | '?' | '[' | '\\') {
                text.push('\\');
            }
            text.push(character);
        }
        let literal = |character| Part::One(One::Literal(character));
        Self {
            text,
            parts: name.chars().map(literal).collect(),
        }
    }

    /// The text that it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches the whole of a name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut part, mut rest) = (0, name.chars());
        // Where to go on when what follows the last star does not fit: the star takes one more
        // character. Earlier stars need no second try, since what they took is as short as can be.
        let mut last_star = None;
        loop {
            let mut ahead = rest.clone();
            match (self.parts.get(part), ahead.next()) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    part += 1;
                    last_star = Some((part, rest.clone()));
                    continue;
                }
                (Some(Part::One(one)), Some(character)) if one.is(character) => {
                    (part, rest) = (part + 1, ahead);
                    continue;
                }
                _ => {}
            }
            let Some((after_star, taken)) = &mut last_star else {
                return false;
            };
            if taken.next().is_none() {
                return false;
            }
            (part, rest) = (*after_star, taken.clone());
        }
    }
}

impl One {
    fn is(&self, character: char) -> bool {
        match self {
            Self::Whatever => true,
            Self::Literal(literal) => *literal == character,
            Self::Class { negated, ranges } => {
                let is_in = |(first, last): &(char, char)| (*first..=*last).contains(&character);
                ranges.iter().any(is_in) != *negated
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::new(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

struct Reader<'t> {
    text: &'t str,
    rest: std::str::CharIndices<'t>,
}

impl Reader<'_> {
    fn read(mut self) -> Result<Vec<Part>, PatternError> {
        let mut parts = Vec::new();
        while let Some((at, character)) = self.rest.next() {
            let part = match character {
                '*' => Part::Any,
                '?' => Part::One(One::Whatever),
                '[' => Part::One(self.class(at)?),
                '\\' => Part::One(One::Literal(self.escaped(at)?)),
                literal => Part::One(One::Literal(literal)),
            };
            // Two stars say what one says.
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        Ok(parts)
    }

    /// What follows a `[`.
    fn class(&mut self, opened: usize) -> Result<One, PatternError> {
        let negated = self.next_is('^');
        let mut ranges = Vec::new();
        while !self.next_is(']') {
            let (at, first) = self.member(opened)?;
            let last = if self.next_is('-') {
                self.member(opened)?.1
            } else {
                first
            };
            if last < first {
                // As `-` takes the end of the class for that of the range.
                let problem = match last {
                    ']' => "a range that ends with `]` (a `-` of its own is `\\-`)",
                    _ => "a range that runs backwards",
                };
                return Err(error(problem, at));
            }
            ranges.push((first, last));
        }
        if ranges.is_empty() {
            return Err(error("a class with nothing in it", opened));
        }
        Ok(One::Class { negated, ranges })
    }

    /// A character of a class, and where it is.
    fn member(&mut self, opened: usize) -> Result<(usize, char), PatternError> {
        match self.rest.next() {
            None => Err(error("a `[` without its `]`", opened)),
            Some((at, '\\')) => Ok((at, self.escaped(at)?)),
            Some(found) => Ok(found),
        }
    }

    fn escaped(&mut self, at: usize) -> Result<char, PatternError> {
        let next = self.rest.next().map(|(_, character)| character);
        next.ok_or_else(|| error("a `\\` with nothing after it", at))
    }

    fn next_is(&mut self, wanted: char) -> bool {
        let at = self.rest.offset();
        let is_next = self.text[at..].starts_with(wanted);
        if is_next {
            self.rest.next();
        }
        is_next
    }
}

fn error(problem: &'static str, at: usize) -> PatternError {
    PatternError { problem, at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn what_matches_and_what_does_not() {
        for (text, matched, others) in [
            ("", &[""][..], &["a"][..]),
            ("*", &["", "a", "a.b/ä"], &[]),
            ("a*", &["a", "ab"], &["", "ba"]),
            ("*a", &["a", "ba", "aaa"], &["", "ab"]),
            ("a*b*c", &["abc", "axbbxc", "abcbc"], &["ab", "acb", "abcx"]),
            ("**", &["", "a"], &[]),
            ("a?c", &["abc", "aäc"], &["ac", "abbc"]),
            ("[a-cx]1", &["a1", "c1", "x1"], &["d1", "A1", "1"]),
            ("[^a-c]", &["d", "ä"], &["a", "", "dd"]),
            (r"\*\[", &["*["], &["a["]),
            (r"[\]\-^]", &["]", "-", "^"], &["\\", "a"]),
            ("[-a]", &["-", "a"], &["b"]),
        ] {
            let pattern = pattern(text);
            for name in matched {
                assert!(pattern.matches(name), "{text} matches {name}");
            }
            for name in others {
                assert!(!pattern.matches(name), "{text} does not match {name}");
            }
            assert_eq!(pattern.to_string(), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, at) in [
            ("a[", 1),
            ("ä[b", 2),
            ("[]", 0),
            ("[^]", 0),
            ("[z-a]", 1),
            ("[a-", 0),
            ("ab\\", 2),
            ("[\\", 1),
        ] {
            let error = Pattern::new(text).unwrap_err();
            assert_eq!(error.position(), at, "{text}: {error}");
        }
        let error = Pattern::new("[a-]").unwrap_err();
        assert!(error.to_string().contains("ends with `]`"), "{error}");
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = pattern(&"a*".repeat(50));
        assert!(!pattern.matches(&("a".repeat(20_000) + "b")[1..].replace('a', "b")));
        assert!(pattern.matches(&"a".repeat(20_000)));
        let never = Pattern::new(&("*a".repeat(40) + "*b")).unwrap();
        assert!(!never.matches(&"a".repeat(5_000)));
    }

    #[test]
    fn a_literal_is_what_it_says() {
        for name in ["", "a*b", "[x]", r"\", "ä?"] {
            let literal = Pattern::literal(name);
            assert!(literal.matches(name));
            assert_eq!(pattern(literal.as_str()), literal);
        }
    }
}
