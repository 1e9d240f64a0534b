//! Owns the conditions of `--where`: what they mean, and whether a command meets one. Knows nothing
//! of databases.
//!
//! ```text
//! condition   comparison, or conditions with `and`, `or`, `not` and parentheses
//! comparison  PATH = VALUE, also with !=, <, <=, >, >= and ~ (a text that contains another)
//! PATH        names of fields and variants, keys and numbers of elements, with dots between them;
//!             what has dots or blanks itself is in quotes: prices."a.b".cents
//! VALUE       a number, true, false, null, or a text, in quotes if it is more than one word
//! ```
//! The fields are read as far as a path leads: then every number keeps all its digits.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::CharIndices;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::decimal::Decimal;

/// A longer condition is refused, so that its levels fit on the stack.
const MOST_BYTES: usize = 4096;
/// Conditions may be nested so deep.
const MOST_LEVELS: usize = 64;

/// What a command must meet.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    Compare(Vec<String>, Comparison, Scalar),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Number(Decimal),
    Text(String),
    /// Truth, `null`, an array or an object: these have no order.
    Other(Value),
}

impl Scalar {
    /// Reads a value in JSON; `None` if it is none.
    fn of(json: &str) -> Option<Self> {
        if let Some(number) = Decimal::parse(json) {
            return Some(Self::Number(number));
        }
        serde_json::from_str(json).ok().map(|value| match value {
            Value::String(text) => Self::Text(text),
            value => Self::Other(value),
        })
    }
}

impl Condition {
    /// Returns whether the fields of a command meet it. What is not there is `null`.
    pub fn holds(&self, fields: &RawValue) -> bool {
        match self {
            Self::Not(inner) => !inner.holds(fields),
            Self::All(inner) => inner.iter().all(|it| it.holds(fields)),
            Self::Any(inner) => inner.iter().any(|it| it.holds(fields)),
            Self::Compare(path, comparison, wanted) => {
                compare(at(fields.get(), path), *comparison, wanted)
            }
        }
    }
}

/// Returns what a path leads to, as JSON.
fn at<'v>(fields: &'v str, path: &[String]) -> &'v str {
    path.iter().fold(fields, |value, step| {
        let found = match value.as_bytes().first() {
            Some(b'{') => serde_json::from_str::<BTreeMap<String, &RawValue>>(value)
                .ok()
                .and_then(|entries| entries.get(step).copied()),
            Some(b'[') => elements(value)
                .and_then(|elements| elements.get(step.parse::<usize>().ok()?).copied()),
            _ => None,
        };
        found.map_or("null", RawValue::get)
    })
}

fn elements(value: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value).ok()
}

fn compare(found: &str, comparison: Comparison, wanted: &Scalar) -> bool {
    use Comparison::{Contains, Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let of_kind = Scalar::of(found);
    let order = of_kind.as_ref().and_then(|found| order(found, wanted));
    match comparison {
        Equal => order == Some(Ordering::Equal),
        NotEqual => order != Some(Ordering::Equal),
        Less => order == Some(Ordering::Less),
        LessOrEqual => order.is_some_and(Ordering::is_le),
        Greater => order == Some(Ordering::Greater),
        GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        Contains => match (&of_kind, wanted) {
            (Some(Scalar::Text(text)), Scalar::Text(part)) => text.contains(part.as_str()),
            (Some(Scalar::Other(Value::Array(_))), part) => elements(found)
                .is_some_and(|all| all.iter().any(|it| compare(it.get(), Equal, part))),
            _ => false,
        },
    }
}

/// Compares two values of one kind; `None` if they are of two.
fn order(left: &Scalar, right: &Scalar) -> Option<Ordering> {
    match (left, right) {
        (Scalar::Number(left), Scalar::Number(right)) => Some(left.cmp(right)),
        (Scalar::Text(left), Scalar::Text(right)) => Some(left.cmp(right)),
        (left, right) if left == right => Some(Ordering::Equal),
        _ => None,
    }
}

/// Reads a condition. The error says what is wrong with it.
pub fn parse(text: &str) -> Result<Condition, String> {
    if text.len() > MOST_BYTES {
        return Err(format!("it has more than {MOST_BYTES} bytes"));
    }
    let mut reading = Reading { text, rest: text.char_indices().peekable(), level: 0 };
    let condition = reading.any()?;
    match reading.word()? {
        None => Ok(condition),
        Some(word) => Err(format!("`{}` stands behind its end", word.text())),
    }
}

struct Reading<'t> {
    text: &'t str,
    rest: Peekable<CharIndices<'t>>,
    level: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Word {
    Plain(String),
    Quoted(String),
    Sign(&'static str),
}

impl Word {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Quoted(text) => text,
            Self::Sign(sign) => sign,
        }
    }
}

const SIGNS: [&str; 10] = ["==", "!=", "<=", ">=", "=", "<", ">", "~", "(", ")"];

impl Reading<'_> {
    fn any(&mut self) -> Result<Condition, String> {
        let mut all = vec![self.all()?];
        while self.takes("or")? {
            all.push(self.all()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Any(all) })
    }

    fn all(&mut self) -> Result<Condition, String> {
        let mut all = vec![self.one()?];
        while self.takes("and")? {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::All(all) })
    }

    fn one(&mut self) -> Result<Condition, String> {
        self.level += 1;
        if self.level > MOST_LEVELS {
            return Err(format!("it is nested more than {MOST_LEVELS} levels deep"));
        }
        let condition = self.one_inside();
        self.level -= 1;
        condition
    }

    fn one_inside(&mut self) -> Result<Condition, String> {
        let before = self.rest.clone();
        match self.word()?.ok_or("a name of a field is missing at its end")? {
            Word::Plain(word) if word == "not" => return Ok(Condition::Not(Box::new(self.one()?))),
            Word::Plain(_) | Word::Quoted(_) => self.rest = before,
            Word::Sign("(") => {
                let inner = self.any()?;
                return match self.word()? {
                    Some(Word::Sign(")")) => Ok(inner),
                    _ => Err("a `)` is missing".to_owned()),
                };
            }
            Word::Sign(sign) => {
                return Err(format!("a name of a field is missing before `{sign}`"));
            }
        }
        let path = self.path()?;
        let told = path.join(".");
        let comparison = match self.word()? {
            Some(Word::Sign("=" | "==")) => Comparison::Equal,
            Some(Word::Sign("!=")) => Comparison::NotEqual,
            Some(Word::Sign("<")) => Comparison::Less,
            Some(Word::Sign("<=")) => Comparison::LessOrEqual,
            Some(Word::Sign(">")) => Comparison::Greater,
            Some(Word::Sign(">=")) => Comparison::GreaterOrEqual,
            Some(Word::Sign("~")) => Comparison::Contains,
            _ => return Err(format!("behind `{told}` one of = != < <= > >= ~ is missing")),
        };
        let value = match self.word()? {
            Some(Word::Quoted(text)) => Scalar::Text(text),
            // A number, true, false or null, and otherwise a text.
            Some(Word::Plain(word)) => Scalar::of(&word).unwrap_or(Scalar::Text(word)),
            _ => return Err(format!("a value for `{told}` is missing")),
        };
        Ok(Condition::Compare(path, comparison, value))
    }

    /// Reads a path. Dots in quotes are part of a name.
    fn path(&mut self) -> Result<Vec<String>, String> {
        self.skip_blanks();
        let mut steps = Vec::new();
        loop {
            steps.push(match self.rest.peek() {
                Some(&(_, quote @ ('"' | '\''))) => self.quoted(quote)?,
                _ => self.plain(|it| it != '.'),
            });
            if self.rest.next_if(|(_, it)| *it == '.').is_none() {
                return Ok(steps);
            }
        }
    }

    fn takes(&mut self, wanted: &str) -> Result<bool, String> {
        let before = self.rest.clone();
        let found = matches!(self.word()?, Some(Word::Plain(word)) if word == wanted);
        if !found {
            self.rest = before;
        }
        Ok(found)
    }

    fn word(&mut self) -> Result<Option<Word>, String> {
        self.skip_blanks();
        let Some(&(at, first)) = self.rest.peek() else { return Ok(None) };
        let behind = self.text.get(at..).unwrap_or_default();
        if let Some(sign) = SIGNS.iter().find(|sign| behind.starts_with(**sign)) {
            for _ in sign.chars() {
                self.rest.next();
            }
            return Ok(Some(Word::Sign(sign)));
        }
        if first == '"' || first == '\'' {
            return self.quoted(first).map(|text| Some(Word::Quoted(text)));
        }
        let word = self.plain(|_| true);
        match word.is_empty() {
            true => Err(format!("`{first}` has no meaning")),
            false => Ok(Some(Word::Plain(word))),
        }
    }

    fn skip_blanks(&mut self) {
        while self.rest.next_if(|(_, it)| it.is_whitespace()).is_some() {}
    }

    /// Reads a text in quotes, which begins with `quote`.
    fn quoted(&mut self, quote: char) -> Result<String, String> {
        self.rest.next();
        let mut text = String::new();
        loop {
            match self.rest.next() {
                Some((_, it)) if it == quote => return Ok(text),
                Some((_, it)) => text.push(it),
                None => return Err(format!("a {quote} is missing")),
            }
        }
    }

    /// Reads as far as there are no blanks, signs or quotes, and `goes_on` holds.
    fn plain(&mut self, goes_on: impl Fn(char) -> bool) -> String {
        let is_inside = |it: char| !it.is_whitespace() && !"=!<>~()\"'".contains(it) && goes_on(it);
        let mut word = String::new();
        while let Some((_, it)) = self.rest.next_if(|(_, it)| is_inside(*it)) {
            word.push(it);
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_hold_for_what_they_describe() {
        let fields = json!({
            "amount": 150, "big": u64::MAX, "rate": 0.5, "name": "ann b", "list": [1, "two"],
            "to": { "Account": { "id": 7 } }, "none": null, "yes": true, "not": 3,
            "prices": { "a.b": { "cents": 5 }, "a b": 6, "": 7 }, "nested": [[1], [2, 3]],
        });
        let fields = serde_json::value::to_raw_value(&fields).unwrap();
        for holds in [
            "amount > 100",
            "amount>=150 and amount<=150",
            "amount = 150.0",
            "amount == 150 or amount = 1",
            "big = 18446744073709551615",
            "big > 18446744073709551614",
            "rate < 1",
            "name = \"ann b\"",
            "name ~ 'n b'",
            "list ~ two",
            "list.1 = two",
            "to.Account.id = 7",
            "none = null",
            "nowhere.at.all = null",
            "yes = true",
            "not (amount = 1 or amount = 2)",
            "not amount = 1 and amount != 2",
            "'not' = 3",
            "(amount = 1 or amount = 150) and yes = true",
            "amount = 150 or amount = 1 and yes = false",
            "name > abc",
            "name != 5",
            "prices.\"a.b\".cents = 5",
            "\"prices\".'a b' = 6 and prices.\"\" = 7",
            "nested.1.0 = 2 and nested.0 = [1] and nested ~ [1]",
        ] {
            assert!(parse(holds).unwrap().holds(&fields), "{holds}");
        }
        for fails in [
            "amount > 150",
            "amount = \"150\"",
            "big = 18446744073709551614",
            "name > 5",
            "name < 5",
            "nowhere > 0",
            "prices.a.b.cents = 5",
            "'to.Account.id' = 7",
            "yes = 1",
            "(amount = 150 or amount = 1) and yes = false",
        ] {
            assert!(!parse(fails).unwrap().holds(&fields), "{fails}");
        }
    }

    #[test]
    fn numbers_of_more_than_64_bits_keep_all_digits() {
        let (most, least) = (u128::MAX, i128::MIN);
        let json = format!("{{\"most\": {most}, \"least\": {least}, \"both\": [{most}]}}");
        let fields = RawValue::from_string(json).unwrap();
        let holds = |text: &str| parse(text).unwrap().holds(&fields);
        assert!(holds(&format!("most = {most} and least = {least} and both ~ {most}")));
        assert!(holds(&format!("most > {} and least < {}", most - 1, least + 1)));
        assert!(holds(&format!("most != {} and not both ~ {}", most - 1, most - 1)));
        assert!(!holds(&format!("least >= {}", least + 1)));
        assert!(holds("most > 1e38 and most < 3.5e38 and least < -1"));
    }

    #[test]
    fn what_is_no_condition_is_an_error_that_says_why() {
        for (text, why) in [
            ("", "a name of a field is missing"),
            ("amount", "one of = != < <= > >= ~ is missing"),
            ("amount >", "a value for `amount` is missing"),
            ("> 5", "before `>`"),
            ("(a = 1", "a `)` is missing"),
            ("a = 1)", "`)` stands behind its end"),
            ("a = 1 b = 2", "`b` stands behind its end"),
            ("a = \"x", "a \" is missing"),
            ("a ! 1", "`!` has no meaning"),
            ("a.\"b = 1", "a \" is missing"),
            ("\"a.b\" c = 1", "behind `a.b` one of"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(parse(&"(".repeat(4000)).unwrap_err().contains("levels"));
        assert!(parse(&"not ".repeat(1000)).unwrap_err().contains("levels"));
        assert!(parse(&"a".repeat(5000)).unwrap_err().contains("bytes"));
    }
}
