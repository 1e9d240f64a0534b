//! Owns the text of a shape, and the values that it stands for.
//!
//! The text is [`REVISION`], then the values, one after the other. Structs, tuples and newtypes
//! leave no trace, because the codec writes only what is in them.
//!
//! - `u`: an unsigned integer of 16 to 128 bits, `i`: a signed one; the codec writes all of them in
//!   one form. `1` and `-`: a `u8` and an `i8`.
//! - `t`: a `bool`, `c`: a `char`, `f` and `d`: an `f32` and an `f64`.
//! - `s`: a string, `y`: bytes.
//! - `(…)`: an option, `[…]`: a sequence of these, `{…}`: a map of these.
//! - `<…|…>`: an enum with what each variant holds; `~` before its end: there may be more.
//! - `*`: any values, or none.

/// The text begins with it. If a later build finds out more, or other things, about the same type,
/// it writes another one: shapes of different revisions are not compared.
const REVISION: char = '1';

/// A text does not become much longer. What does not fit is unknown.
const MOST_TEXT_BYTES: usize = 16 << 10;

/// A text whose values are nested deeper is not understood. A trace does not go so deep.
const MOST_LEVELS: usize = 128;

const UNKNOWN: char = '*';
const MORE: char = '~';

/// What is written as one value that says by itself where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Unsigned,
    Signed,
    U8,
    I8,
    Bool,
    Char,
    F32,
    F64,
    Text,
    Bytes,
}

impl Leaf {
    const ALL: [(Self, char); 10] = [
        (Self::Unsigned, 'u'),
        (Self::Signed, 'i'),
        (Self::U8, '1'),
        (Self::I8, '-'),
        (Self::Bool, 't'),
        (Self::Char, 'c'),
        (Self::F32, 'f'),
        (Self::F64, 'd'),
        (Self::Text, 's'),
        (Self::Bytes, 'y'),
    ];

    fn letter(self) -> char {
        let found = Self::ALL.iter().find(|(leaf, _)| *leaf == self);
        found.map_or(UNKNOWN, |(_, letter)| *letter)
    }

    fn of_letter(letter: char) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == letter).map(|(leaf, _)| *leaf)
    }
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf(Leaf),
    Option(Vec<Node>),
    Sequence(Vec<Node>),
    Map(Vec<Node>),
    Enum(Variants),
    /// Any number of values.
    Unknown,
}

/// The variants of an enum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Variants {
    pub(super) all: Vec<Vec<Node>>,
    /// Whether there may be others behind these.
    pub(super) more: bool,
    /// Their names in this program; empty if they are not known.
    pub(super) names: Vec<String>,
}

/// A value of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// The field in this program, such as `account.cents`; empty if it is not known.
    pub(super) field: String,
}

/// Returns the text of a shape.
pub(super) fn write(values: &[Node]) -> String {
    let mut text = String::from(REVISION);
    write_values(values, &mut text);
    text
}

fn write_values(values: &[Node], text: &mut String) {
    for value in values {
        if text.len() >= MOST_TEXT_BYTES {
            text.push(UNKNOWN);
            return;
        }
        match &value.kind {
            Kind::Leaf(leaf) => text.push(leaf.letter()),
            Kind::Option(inner) => write_enclosed(('(', ')'), inner, text),
            Kind::Sequence(inner) => write_enclosed(('[', ']'), inner, text),
            Kind::Map(inner) => write_enclosed(('{', '}'), inner, text),
            Kind::Enum(variants) => write_variants(variants, text),
            Kind::Unknown => text.push(UNKNOWN),
        }
    }
}

fn write_enclosed((begin, end): (char, char), inner: &[Node], text: &mut String) {
    text.push(begin);
    write_values(inner, text);
    text.push(end);
}

fn write_variants(variants: &Variants, text: &mut String) {
    let mut more = variants.more;
    text.push('<');
    for (at, inner) in variants.all.iter().enumerate() {
        if text.len() >= MOST_TEXT_BYTES {
            if at == 0 {
                text.push(UNKNOWN);
            }
            more = true;
            break;
        }
        if at > 0 {
            text.push('|');
        }
        write_values(inner, text);
    }
    if more {
        text.push(MORE);
    }
    text.push('>');
}

/// Returns the values of a text; `None` if this build does not understand it.
pub(super) fn parse(text: &str) -> Option<Vec<Node>> {
    let mut rest = text.chars().peekable();
    if rest.next() != Some(REVISION) {
        return None;
    }
    let values = parse_values(&mut rest, 0)?;
    rest.next().is_none().then_some(values)
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Reads values up to the end of what encloses them, which stays.
fn parse_values(rest: &mut Rest<'_>, level: usize) -> Option<Vec<Node>> {
    if level > MOST_LEVELS {
        return None;
    }
    let mut values = Vec::new();
    while let Some(letter) = rest.next_if(|next| !")]}|~>".contains(*next)) {
        let kind = match letter {
            UNKNOWN => Kind::Unknown,
            '(' => Kind::Option(parse_enclosed(rest, ')', level)?),
            '[' => Kind::Sequence(parse_enclosed(rest, ']', level)?),
            '{' => Kind::Map(parse_enclosed(rest, '}', level)?),
            '<' => Kind::Enum(parse_variants(rest, level)?),
            letter => Kind::Leaf(Leaf::of_letter(letter)?),
        };
        values.push(Node { kind, field: String::new() });
    }
    Some(values)
}

fn parse_enclosed(rest: &mut Rest<'_>, end: char, level: usize) -> Option<Vec<Node>> {
    let inner = parse_values(rest, level + 1)?;
    (rest.next() == Some(end)).then_some(inner)
}

fn parse_variants(rest: &mut Rest<'_>, level: usize) -> Option<Variants> {
    let mut variants = Variants::default();
    loop {
        variants.all.push(parse_values(rest, level + 1)?);
        match rest.next()? {
            '|' => {}
            MORE => {
                variants.more = true;
                return (rest.next()? == '>').then_some(variants);
            }
            '>' => return Some(variants),
            _ => return None,
        }
    }
}
