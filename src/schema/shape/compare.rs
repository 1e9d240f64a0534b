//! Owns whether what was written with one shape can be read with another one, and the words for
//! where it cannot.

use super::text::{Kind, Leaf, Node, Variants};

/// Compares the shape that was stored with that of this program. They are equal, except that one
/// may have more variants at the end of an enum. If the program has fewer, an older release was put
/// back; what the newer one wrote in a variant that is missing is an error when it is decoded. The
/// error says where they differ.
pub(super) fn compare(stored: &[Node], present: &[Node]) -> Result<(), String> {
    compare_values(stored, present, "")
}

/// Compares values that follow each other. `within` says in what they are.
///
/// Unknown values may be any number of values. So only those before the first and those behind the
/// last unknown ones are known to stand in the same place.
fn compare_values(stored: &[Node], present: &[Node], within: &str) -> Result<(), String> {
    let (mut stored, mut present) = (stored, present);
    let mut number = 1;
    loop {
        match (stored.split_first(), present.split_first()) {
            (None, None) => return Ok(()),
            (Some((old, _)), _) if is_unknown(old) => break,
            (_, Some((new, _))) if is_unknown(new) => break,
            (old, new) => {
                compare_both(old.map(|it| it.0), new.map(|it| it.0), number, within)?;
                stored = old.map_or(&[], |it| it.1);
                present = new.map_or(&[], |it| it.1);
            }
        }
        number += 1;
    }
    loop {
        match (stored.split_last(), present.split_last()) {
            (None, None) => return Ok(()),
            (Some((old, _)), _) if is_unknown(old) => return Ok(()),
            (_, Some((new, _))) if is_unknown(new) => return Ok(()),
            (old, new) => {
                number = stored.len().max(present.len());
                compare_both(old.map(|it| it.0), new.map(|it| it.0), number, within)?;
                stored = old.map_or(&[], |it| it.1);
                present = new.map_or(&[], |it| it.1);
            }
        }
    }
}

fn is_unknown(node: &Node) -> bool {
    node.kind == Kind::Unknown
}

/// Compares two values that stand in the same place, of which one may be missing.
fn compare_both(
    stored: Option<&Node>,
    present: Option<&Node>,
    number: usize,
    within: &str,
) -> Result<(), String> {
    let place = || {
        let field = present.map(|node| node.field.as_str()).filter(|field| !field.is_empty());
        let place = field.map_or_else(|| format!("value {number}"), |it| format!("`{it}`"));
        format!("{place}{within}")
    };
    let (Some(old), Some(new)) = (stored, present) else {
        return Err(differ(&place(), stored, present));
    };
    match (&old.kind, &new.kind) {
        (Kind::Sequence(old) | Kind::Map(old), Kind::Sequence(new) | Kind::Map(new)) => {
            return compare_values(old, new, &format!(" of each entry of {}", place()));
        }
        _ if is_counted_bytes(&old.kind) && is_counted_bytes(&new.kind) => return Ok(()),
        (Kind::Leaf(old), Kind::Leaf(new)) if old == new => return Ok(()),
        _ => {}
    }
    match (variants(&old.kind), variants(&new.kind)) {
        (Some(before), Some(now)) => compare_variants(&before, &now, &place()),
        _ => Err(differ(&place(), stored, present)),
    }
}

/// Compares the variants that both enums have.
fn compare_variants(before: &Variants, now: &Variants, place: &str) -> Result<(), String> {
    for (at, (old, new)) in before.all.iter().zip(&now.all).enumerate() {
        let name = now.names.get(at);
        let name = name.map_or_else(|| format!("variant {}", at + 1), |it| format!("`{it}`"));
        compare_values(old, new, &format!(" of {name} of {place}"))?;
    }
    Ok(())
}

/// The codec writes text, bytes and sequences of bytes in the same form. Bytes that are no text are
/// an error where text is read.
fn is_counted_bytes(kind: &Kind) -> bool {
    match kind {
        Kind::Leaf(leaf) => matches!(leaf, Leaf::Text | Leaf::Bytes),
        Kind::Sequence(inner) => {
            matches!(inner.as_slice(), [Node { kind: Kind::Leaf(Leaf::U8), .. }])
        }
        _ => false,
    }
}

/// An option is written as an enum of two variants.
fn variants(kind: &Kind) -> Option<Variants> {
    match kind {
        Kind::Enum(variants) => Some(variants.clone()),
        Kind::Option(inner) => Some(Variants {
            all: vec![Vec::new(), inner.clone()],
            more: false,
            names: vec!["None".to_owned(), "Some".to_owned()],
        }),
        _ => None,
    }
}

fn differ(place: &str, stored: Option<&Node>, present: Option<&Node>) -> String {
    let (stored, present) = (named(stored), named(present));
    format!("the file has {stored} where this program has {present}, at {place}")
}

fn named(node: Option<&Node>) -> String {
    let name = match node.map(|node| &node.kind) {
        None => "no further value",
        Some(Kind::Leaf(Leaf::Unsigned)) => "an unsigned integer (u16 to u128)",
        Some(Kind::Leaf(Leaf::Signed)) => "a signed integer (i16 to i128)",
        Some(Kind::Leaf(Leaf::U8)) => "a u8",
        Some(Kind::Leaf(Leaf::I8)) => "an i8",
        Some(Kind::Leaf(Leaf::Bool)) => "a bool",
        Some(Kind::Leaf(Leaf::Char)) => "a char",
        Some(Kind::Leaf(Leaf::F32)) => "an f32",
        Some(Kind::Leaf(Leaf::F64)) => "an f64",
        Some(Kind::Leaf(Leaf::Text)) => "a string",
        Some(Kind::Leaf(Leaf::Bytes)) => "bytes",
        Some(Kind::Option(_)) => "an Option",
        Some(Kind::Sequence(_)) => "a sequence",
        Some(Kind::Map(_)) => "a map",
        Some(Kind::Enum(variants)) => {
            let count = variants.all.len();
            return format!("an enum with {count} variant{}", if count == 1 { "" } else { "s" });
        }
        Some(Kind::Unknown) => "other values",
    };
    name.to_owned()
}
