//! Owns the schema that follows from what was seen.

use super::super::types::{Content, Part, Schema, Type};
use super::{
    CONTAINS_ITSELF, Enclosing, Fields, MOST_STEPS, SeenVariant, SeenVariants, Tracer, VariantForm,
    What,
};

/// A new type is compared with so many before it. An equal one further back is stored twice.
const MOST_COMPARED: usize = 64;

const REFUSES: &str = "its Deserialize refuses every made-up value";
const DEPENDS: &str = "what it reads depends on what it has read before";
const TOO_LARGE: &str = "it is too large or too deep to be seen";
const PANICS: &str = "its Deserialize panics, or this program aborts when code panics";

impl Tracer {
    pub(super) fn schema(&self) -> Schema {
        let mut made = Made { seen: self, types: Vec::new(), around: Vec::new() };
        let root = made.whole(0);
        let types = made.types.into_iter().map(|(_, made)| made.unwrap_or(Type::Tuple(Vec::new())));
        Schema { root, types: types.collect() }
    }

    /// Returns why the rest of a group was not seen; `None` if all of it was.
    fn why_unseen(&self, group: usize) -> Option<&'static str> {
        let group = self.groups.get(group)?;
        if group.unsteady_from.is_some() {
            return Some(DEPENDS);
        }
        let is_too_large = self.steps > MOST_STEPS || self.nodes.len() >= super::MOST_NODES;
        match group.is_whole {
            true => None,
            false if self.has_panicked || !cfg!(panic = "unwind") => Some(PANICS),
            false if is_too_large => Some(TOO_LARGE),
            false => Some(REFUSES),
        }
    }
}

/// A schema that is being made.
struct Made<'t> {
    seen: &'t Tracer,
    /// Each with its number; `None` for one that is not complete yet.
    types: Vec<(u32, Option<Type>)>,
    /// The nodes of the types around the present place, and their numbers.
    around: Vec<(usize, u32)>,
}

/// The nodes of a group that are left.
struct Rest<'t> {
    nodes: std::slice::Iter<'t, usize>,
    why_unseen: &'static str,
}

impl<'t> Made<'t> {
    fn rest(&self, group: usize) -> Rest<'t> {
        let nodes: &'t [usize] = match self.seen.groups.get(group) {
            None => &[],
            Some(group) => {
                let steady = group.unsteady_from.unwrap_or(group.nodes.len());
                group.nodes.get(..steady).unwrap_or(&group.nodes)
            }
        };
        let why_unseen = self.seen.why_unseen(group).unwrap_or(REFUSES);
        Rest { nodes: nodes.iter(), why_unseen }
    }

    /// Makes the one value of a group. A `Deserialize` can ask for one value only, so even one that
    /// has refused what it got has asked for nothing else.
    fn whole(&mut self, group: usize) -> Part {
        let mut rest = self.rest(group);
        self.next(&mut rest)
    }

    fn next(&mut self, rest: &mut Rest<'t>) -> Part {
        let Some(&id) = rest.nodes.next() else { return Part::opaque(rest.why_unseen) };
        match self.seen.nodes.get(id) {
            Some(What::Leaf(leaf, _)) => Part::Leaf(*leaf),
            Some(What::Again(node)) => {
                let around = self.around.iter().find(|(known, _)| known == node);
                around.map_or_else(|| Part::opaque(CONTAINS_ITSELF), |(_, it)| Part::Type(*it))
            }
            Some(What::Unknown(reason)) => Part::opaque(reason),
            Some(What::End) | None => Part::opaque(rest.why_unseen),
            Some(What::Begin(fields)) => {
                self.type_of(id, |made| made.tuple_or_struct(*fields, rest))
            }
            Some(What::Enclosed(Enclosing::Option, group)) => {
                self.type_of(id, |made| Type::Option(made.whole(*group)))
            }
            Some(What::Enclosed(Enclosing::Sequence, group)) => {
                self.type_of(id, |made| Type::Sequence(made.whole(*group)))
            }
            Some(What::Enclosed(Enclosing::Map, group)) => self.type_of(id, |made| {
                let mut rest = made.rest(*group);
                let key = made.next(&mut rest);
                let value = made.next(&mut rest);
                Type::Map(key, value)
            }),
            Some(What::Enum(seen)) if seen.all.is_empty() => Part::opaque(rest.why_unseen),
            Some(What::Enum(seen)) => self.type_of(id, |made| made.variants(seen)),
        }
    }

    /// Makes the type for which a node stands.
    fn type_of(&mut self, node: usize, make: impl FnOnce(&mut Self) -> Type) -> Part {
        let number = self.reserve();
        self.around.push((node, number));
        let made = make(self);
        self.around.pop();
        self.complete(number, made)
    }

    fn reserve(&mut self) -> u32 {
        let number = u32::try_from(self.types.len()).expect("there are at most so many nodes");
        self.types.push((number, None));
        number
    }

    /// Stores a type, unless there is an equal one. All types inside it are complete, and those
    /// that were there before are not there twice. So an equal one has the same numbers in it, and
    /// this one is the last.
    fn complete(&mut self, number: u32, made: Type) -> Part {
        let is_equal = |it: &&(u32, Option<Type>)| it.1.as_ref() == Some(&made);
        let equal = self.types.iter().rev().take(MOST_COMPARED).find(is_equal).map(|it| it.0);
        if let Some(equal) = equal
            && usize::try_from(number).is_ok_and(|number| number + 1 == self.types.len())
        {
            self.types.pop();
            return Part::Type(equal);
        }
        if let Some(place) = usize::try_from(number).ok().and_then(|it| self.types.get_mut(it)) {
            place.1 = Some(made);
        }
        Part::Type(number)
    }

    fn tuple_or_struct(&mut self, fields: Fields, rest: &mut Rest<'t>) -> Type {
        let (parts, names) = self.fields(fields, rest);
        if !fields.is_struct {
            return Type::Tuple(parts);
        }
        Type::Struct(names.into_iter().zip(parts).collect())
    }

    /// Makes the values up to the end of a struct or a tuple, with their names.
    fn fields(&mut self, fields: Fields, rest: &mut Rest<'t>) -> (Vec<Part>, Vec<String>) {
        let mut parts = Vec::new();
        let is_whole = loop {
            let next = rest.nodes.clone().next().and_then(|id| self.seen.nodes.get(*id));
            match next {
                Some(What::End) => {
                    rest.nodes.next();
                    break true;
                }
                Some(_) => parts.push(self.next(rest)),
                None => break false,
            }
        };
        let has_aliases = self.seen.with_aliases.contains(&fields.names);
        while !is_whole && !has_aliases && parts.len() < fields.length {
            parts.push(Part::opaque(rest.why_unseen));
        }
        let name = |index: usize| match fields.names.get(index) {
            Some(name) if !has_aliases => (*name).to_owned(),
            _ => index.to_string(),
        };
        let names = (0..parts.len()).map(name).collect();
        (parts, names)
    }

    fn variants(&mut self, seen: &SeenVariants) -> Type {
        let has_names = seen.count == seen.names.len();
        let name = |index: usize| match seen.names.get(index) {
            Some(name) if has_names => (*name).to_owned(),
            _ => index.to_string(),
        };
        let variants = seen.all.iter().enumerate();
        let variants = variants.map(|(at, variant)| (name(at), self.content(variant))).collect();
        Type::Enum { variants, more: seen.all.len() < seen.count }
    }

    fn content(&mut self, variant: &SeenVariant) -> Content {
        let mut rest = self.rest(variant.group);
        let first = rest.nodes.clone().next().and_then(|id| self.seen.nodes.get(*id));
        match (variant.form, first) {
            (VariantForm::Unit, _) if self.seen.why_unseen(variant.group).is_none() => {
                Content::Unit
            }
            (VariantForm::Tuple | VariantForm::Struct, Some(What::Begin(fields))) => {
                rest.nodes.next();
                let fields = *fields;
                let (parts, names) = self.fields(fields, &mut rest);
                if !fields.is_struct {
                    return Content::Tuple(parts);
                }
                Content::Struct(names.into_iter().zip(parts).collect())
            }
            _ => Content::Newtype(self.whole(variant.group)),
        }
    }
}
