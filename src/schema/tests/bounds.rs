//! Types without end, types that refuse, and types that are too large.

use serde::de::{Deserializer, Error as _};

use super::*;

#[derive(Serialize, Deserialize)]
struct Folder {
    name: String,
    inside: Vec<Folder>,
    beside: Option<Box<Folder>>,
    by_name: BTreeMap<String, Folder>,
    size: u64,
}

#[derive(Serialize, Deserialize)]
enum Term {
    Sum(Box<Term>, Box<Term>),
    Call { name: String, arguments: Vec<Term>, strict: bool },
    Number(f64),
    Not(Box<Term>, u8),
}

#[derive(Serialize, Deserialize)]
struct Wood(Vec<Wood>);

#[derive(Serialize, Deserialize)]
struct Endless(Box<Endless>, u8);

#[test]
fn a_type_that_contains_itself_is_seen_once() {
    assert_eq!(seen::<Folder>(), "s[*](*){s*}u");
    assert_eq!(seen::<Term>(), "<*|s[*]t|d|*1>");
    assert_eq!(seen::<(Term, u32)>(), "<*|s[*]t|d|*1>u");
    assert_eq!(seen::<Wood>(), "[*]");
    // No value of this type can be made.
    assert_eq!(seen::<Endless>(), "*");
    assert_eq!(seen::<(u8, Endless, u8)>(), "1*");
}

mod mutual {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub enum Statement {
        Block(Vec<Statement>),
        If(Expression, Box<Statement>),
        Nothing,
    }

    #[derive(Serialize, Deserialize)]
    pub enum Expression {
        Does(Box<Statement>, u8),
        Both(Box<(Expression, Expression)>),
        Is(bool),
    }
}

#[test]
fn types_that_contain_each_other_are_seen() {
    assert_eq!(seen::<mutual::Statement>(), "<[*]|<*1|*|t>*|>");
    assert_eq!(seen::<mutual::Expression>(), "<<[*]|*|>1|*|t>");
}

/// Needs a format that describes itself.
#[derive(Debug)]
struct Described;

impl<'de> Deserialize<'de> for Described {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(serde::de::IgnoredAny).map(|_| Self)
    }
}

/// Refuses every text.
#[derive(Debug)]
struct Choosy;

impl<'de> Deserialize<'de> for Choosy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Err(D::Error::custom(String::deserialize(deserializer)?))
    }
}

struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        panic!("on purpose: {}", u32::deserialize(deserializer)?)
    }
}

#[test]
fn what_refuses_hides_only_what_follows_it() {
    assert_eq!(seen::<(u8, Choosy, u8)>(), "1s*");
    assert_eq!(seen::<(u8, Vec<Choosy>, u8, Option<Choosy>, BTreeMap<u8, Choosy>, u8)>(), {
        "1[s]1(s){1s}1"
    });
    assert_eq!(seen::<(Result<Choosy, Choosy>, u8)>(), "<s|s>*");
    assert_eq!(seen::<(Result<Choosy, u32>, Kind2)>(), "<s|u><s||1>");
    assert_eq!(seen::<(u8, Described, u8)>(), "1*");
    assert_eq!(seen::<(Vec<Described>, u8)>(), "[*]1");
}

#[test]
fn a_panic_ends_the_search() {
    assert_eq!(seen::<(u8, Panics, u8)>(), "1u*");
    assert_eq!(seen::<Result<u8, Panics>>(), "<1|u>");
}

/// Reads another value behind the first depending on that.
struct Depends;

impl<'de> Deserialize<'de> for Depends {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::{SeqAccess, Visitor};
        struct Two;
        impl<'de> Visitor<'de> for Two {
            type Value = Depends;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a kind and its value")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Depends, A::Error> {
                match values.next_element::<u8>()? {
                    Some(1) => values.next_element::<Kind2>()?.map(drop),
                    _ => values.next_element::<u64>()?.map(drop),
                };
                values.next_element::<Choosy>().ok();
                Ok(Depends)
            }
        }
        deserializer.deserialize_tuple(3, Two)
    }
}

#[test]
fn values_that_depend_on_others_are_no_obstacle() {
    let seen = seen::<(Depends, u8)>();
    assert!(seen.starts_with("1<s||1>"), "{seen}");
}

macro_rules! wide {
    ($name:ident, $inner:ty, $($variant:ident)*) => {
        #[derive(Serialize, Deserialize)]
        enum $name { $($variant($inner, $inner)),* }
    };
}

wide!(Wide1, Term, A B C D E F G H I J K L M N O P Q R S T U V W X Y Z);
wide!(Wide2, Wide1, A B C D E F G H I J K L M N O P Q R S T U V W X Y Z);
wide!(Wide3, Wide2, A B C D E F G H I J K L M N O P Q R S T U V W X Y Z);

#[test]
fn a_type_that_is_too_large_is_seen_in_part() {
    let began = std::time::Instant::now();
    for text in [
        write(&nodes_of(&trace::<Wide3>())),
        write(&nodes_of(&trace::<Vec<[[[Option<()>; 32]; 32]; 9]>>())),
    ] {
        assert!((8 << 10..17 << 10).contains(&text.len()), "{}", text.len());
        assert_eq!(
            compare(&parse(&text).unwrap(), &nodes_of(&trace::<Wide3>())).is_ok(),
            text.contains('<')
        );
    }
    assert_eq!(write(&nodes_of(&trace::<Wide3>())), write(&nodes_of(&trace::<Wide3>())));
    println!("it took {:?}", began.elapsed());
}

#[test]
fn a_text_that_is_not_understood_is_equal_to_everything() {
    let known = described::<Count>();
    let shape = known.shape();
    let deep = format!("1{}{}", "[".repeat(1_000), "]".repeat(1_000));
    for text in ["", "2u", "1?", "1(u", "1u)", "1(u]", "1<u", "1<u~", "1<u~|u>", &deep] {
        assert_eq!(parse(text), None, "{text}");
        assert_eq!(shape.difference_to(text), None, "{text}");
    }
    assert!(shape.difference_to("1s").is_some());
}
