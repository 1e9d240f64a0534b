//! What is seen of each kind of type, and which differences count.

mod bounds;
mod differences;
mod moved;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroI8, NonZeroU64};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::*;
use crate::collections::{Map, Set, Vector};
use crate::schema::described;
use crate::schema::trace::trace;
use crate::test_support::Count;
use std::sync::Arc;

/// The text without its revision.
fn seen<T: DeserializeOwned>() -> String {
    let text = write(&nodes_of(&trace::<T>()));
    let values = parse(&text).unwrap();
    assert_eq!(write(&values), text, "a text means what was seen");
    text.strip_prefix('1').unwrap().to_owned()
}

#[test]
fn every_kind_of_value_is_seen() {
    assert_eq!(seen::<(bool, char, f32, f64, u8, i8)>(), "tcfd1-");
    assert_eq!(seen::<(u16, u32, u64, u128, usize)>(), "uuuuu");
    assert_eq!(seen::<(i16, i32, i64, i128, isize)>(), "iiiii");
    assert_eq!(seen::<(String, Box<str>, PathBuf)>(), "sss");
    assert_eq!(seen::<(Vec<u8>, [u8; 3], Option<u32>)>(), "[1]111(u)");
    assert_eq!(seen::<((), PhantomData<u8>)>(), "");
    assert_eq!(seen::<(Box<u64>, NonZeroU64, NonZeroI8)>(), "uu-");
    assert_eq!(seen::<(Duration, SystemTime, Range<u32>)>(), "uuuuuu");
    assert_eq!(seen::<(Ipv4Addr, IpAddr)>(), "1111<1111|1111111111111111>");
    assert_eq!(seen::<Result<u32, String>>(), "<u|s>");
    assert_eq!(seen::<Vec<Vec<(u8, String)>>>(), "[[1s]]");
}

#[test]
fn all_collections_are_seen_by_what_is_in_them() {
    assert_eq!(seen::<HashMap<String, u64>>(), "{su}");
    assert_eq!(seen::<BTreeMap<(u8, u8), BTreeSet<i64>>>(), "{11[i]}");
    assert_eq!(seen::<Map<u32, Map<String, f64>>>(), "{u{sd}}");
    assert_eq!(seen::<(Set<u64>, Vector<Option<String>>)>(), "[u][(s)]");
    assert_eq!(seen::<imbl::OrdMap<u32, imbl::Vector<bool>>>(), "{u[t]}");
    assert_eq!(seen::<(imbl::HashMap<u32, u8>, imbl::OrdSet<u32>)>(), "{u1}[u]");
}

#[derive(Serialize, Deserialize)]
struct Account {
    cents: u64,
    owner: String,
    #[serde(default)]
    note: Option<String>,
    #[serde(skip)]
    _cached: f64,
}

#[derive(Serialize, Deserialize)]
struct Newtype(Account);

#[derive(Serialize, Deserialize)]
enum Status {
    Open,
    #[serde(alias = "Barred")]
    Frozen(u32, bool),
    Closed {
        by: Newtype,
    },
    Other(Kind2),
}

#[derive(Serialize, Deserialize)]
enum Kind2 {
    First(String),
    Second,
    Third(u8),
}

#[test]
fn structs_are_what_is_in_them_and_enums_have_all_their_variants() {
    assert_eq!(seen::<Account>(), "us(s)");
    assert_eq!(seen::<Newtype>(), "us(s)");
    assert_eq!(seen::<Status>(), "<|ut|us(s)|<s||1>>");
    assert_eq!(seen::<(Status, u32, Status)>(), "<|ut|us(s)|<s||1>>u<|ut|us(s)|<s||1>>");
    assert_eq!(seen::<Vec<Kind2>>(), "[<s||1>]");
}

/// A type that is used again below itself, but with other parameters, does not contain itself.
#[test]
fn generic_types_are_told_apart_by_their_parameters() {
    #[derive(Serialize, Deserialize)]
    struct Pair<A, B> {
        first: A,
        second: B,
    }
    assert_eq!(seen::<Pair<u32, Pair<u8, Pair<bool, char>>>>(), "u1tc");
}

mod bytes {
    use serde::{Deserialize, Deserializer};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
        struct Id;
        impl serde::de::Visitor<'_> for Id {
            type Value = [u8; 16];
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("16 bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<[u8; 16], E> {
                bytes.try_into().map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Id)
    }

    pub fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
        let text = String::deserialize(deserializer)?;
        let year = text.strip_suffix("-01-01T00:00:00Z").ok_or("no date");
        year.and_then(|year| year.parse().map_err(|_| "no year")).map_err(serde::de::Error::custom)
    }
}

/// A type that refuses some values is tried with others.
#[test]
fn types_that_refuse_a_value_get_another() {
    #[derive(Deserialize)]
    struct Strict {
        #[serde(deserialize_with = "bytes::deserialize")]
        _id: [u8; 16],
        #[serde(deserialize_with = "bytes::date")]
        _at: u16,
        _end: f32,
    }
    assert_eq!(seen::<Strict>(), "ysf");
    assert_eq!(seen::<Vec<(Strict, Strict)>>(), "[ysfysf]");
}

#[test]
fn a_shape_is_found_out_once_and_is_always_the_same() {
    let first = described::<Count>();
    assert!(Arc::ptr_eq(&first, &described::<Count>()));
    assert_eq!(first.shape().text(), write(&nodes_of(&trace::<Count>())));
    assert_eq!(first.shape().difference_to(first.shape().text()), None);
}
