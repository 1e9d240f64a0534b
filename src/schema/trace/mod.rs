//! Owns finding out the schema of a type: it deserialises the type again and again from values that
//! are made up, until nothing new is seen.
//!
//! A pass takes one way through the type, with one variant of each enum. What it sees is kept as
//! nodes, and the next pass finds them again by their place. A pass that a type refuses leads to
//! other values in the next one, and in the end to fewer: an empty sequence, `None`.
//!
//! A type that contains itself would be seen without end. So a visitor that is at work already is
//! not followed once more: it is noted as the type around it, and its values are made up
//! *silently*, without a note.

mod deserializer;
mod outcome;
mod values;
mod variants;

use serde::de::DeserializeOwned;

use super::types::{Leaf, Schema};
use crate::codec::alone;
use crate::panics::told_of_panics;
use crate::process::Floor;

/// Bounds on all passes together. They are reached only by a type with very many variants, or by a
/// very entangled one; then the rest is unknown.
const MOST_PASSES: usize = 2_000;
const MOST_STEPS: usize = 100_000;
const MOST_NODES: usize = 20_000;

/// So many passes in which nothing new was seen are the end.
const MOST_IDLE_PASSES: usize = 16;

/// Values are not followed deeper than this.
const MOST_LEVELS: usize = 64;

/// A variant that was refused so often is not tried again, so that what is behind it can be seen.
const MOST_REFUSALS: usize = 3;

const CONTAINS_ITSELF: &str = "it contains nothing but itself";

/// What was seen of a value.
enum What {
    /// How many of the values that can be made up were refused.
    Leaf(Leaf, usize),
    Enclosed(Enclosing, usize),
    Enum(SeenVariants),
    /// A struct or a tuple begins. Its values follow, and then its end.
    Begin(Fields),
    End,
    /// A value of the type around it that this node stands for.
    Again(usize),
    /// Why it cannot be seen.
    Unknown(&'static str),
}

/// The fields of a struct or a tuple: so many, and their names if they have any.
#[derive(Clone, Copy)]
struct Fields {
    names: &'static [&'static str],
    length: usize,
    is_struct: bool,
}

/// How a variant holds its values.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum VariantForm {
    #[default]
    Unit,
    Newtype,
    Tuple,
    Struct,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Enclosing {
    Option,
    Sequence,
    Map,
}

struct SeenVariants {
    all: Vec<SeenVariant>,
    names: &'static [&'static str],
    /// How many there are. A type may list other names for the same variants.
    count: usize,
}

struct SeenVariant {
    group: usize,
    /// How often it was tried.
    tries: usize,
    form: VariantForm,
}

/// Values that follow each other: the whole, a variant, or an entry.
#[derive(Default)]
struct Group {
    nodes: Vec<usize>,
    /// Whether a pass came to its end.
    is_whole: bool,
    /// Whether everything in it was seen.
    is_complete: bool,
    refusals: usize,
    /// From here on its values depend on others, and are not followed.
    unsteady_from: Option<usize>,
}

#[derive(Default)]
struct Tracer {
    nodes: Vec<What>,
    groups: Vec<Group>,
    /// The group whose values are read, and the place of the next one.
    group: usize,
    place: usize,
    /// The visitors that are at work, and the nodes of the types that they make.
    visitors: Vec<(&'static str, Option<usize>)>,
    /// Lists of fields of which a type has read fewer: it has other names for the same ones.
    with_aliases: Vec<&'static [&'static str]>,
    /// Variants of enums that can be made without end.
    finite: Vec<(&'static str, usize)>,
    silent: usize,
    steps: usize,
    /// Grows with everything that is new.
    progress: usize,
    /// What is to blame if the type refuses now.
    last_leaf: Option<usize>,
    refused_in: Option<usize>,
    is_excused: bool,
    /// Whether a panic has ended the search.
    has_panicked: bool,
    floor: Option<Floor>,
}

/// Returns the schema of a type.
pub(super) fn trace<T: DeserializeOwned>() -> Schema {
    let mut tracer = Tracer { groups: vec![Group::default()], ..Tracer::default() };
    // A panic would end the process.
    if cfg!(panic = "unwind") {
        // A collection must not take its entries from a snapshot that is being decoded.
        alone(|| tracer.run::<T>());
    }
    tracer.schema()
}

impl Tracer {
    fn run<T: DeserializeOwned>(&mut self) {
        self.floor = Some(Floor::of_decoding());
        let mut idle = 0;
        for _ in 0..MOST_PASSES {
            let before = self.progress;
            let pass = || self.inside(0, |tracer| T::deserialize(tracer).map(drop));
            let Ok(passed) = told_of_panics("Deserialize", pass) else {
                // It would panic again, and each panic leaves a message.
                self.has_panicked = true;
                return;
            };
            match passed {
                Ok(()) if self.groups.first().is_some_and(|whole| whole.is_complete) => return,
                Ok(()) => {}
                Err(_) => self.blame(),
            }
            idle = if self.progress == before { idle + 1 } else { 0 };
            if idle > MOST_IDLE_PASSES || self.steps > MOST_STEPS {
                return;
            }
        }
    }

    /// Decides what the next pass does in another way after the type has refused.
    fn blame(&mut self) {
        let refused_in = self.refused_in.take();
        let last_leaf = self.last_leaf.take();
        if std::mem::take(&mut self.is_excused) {
            return;
        }
        if let Some(What::Leaf(leaf, refused)) = last_leaf.and_then(|id| self.nodes.get_mut(id))
            && *refused < values::count(*leaf)
        {
            *refused += 1;
            self.progress += 1;
            return;
        }
        if let Some(group) = refused_in.and_then(|id| self.groups.get_mut(id))
            && group.refusals < MOST_REFUSALS
        {
            group.refusals += 1;
            self.progress += 1;
        }
    }

    /// Counts a step; false at the bounds.
    fn may_go_on(&mut self) -> bool {
        self.steps += 1;
        let is_deep = self.floor.is_some_and(Floor::is_reached);
        let goes_on = self.steps <= MOST_STEPS && self.visitors.len() <= MOST_LEVELS && !is_deep;
        if !goes_on {
            self.last_leaf = None;
        }
        goes_on
    }

    /// Runs what a visitor does. If it is at work already, it makes the type around it once more.
    fn visit<R>(&mut self, visitor: &'static str, run: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.visitors.iter().rposition(|(at_work, _)| *at_work == visitor);
        let again = before.filter(|_| self.silent == 0);
        if let Some(before) = again {
            // The visitor of a newtype makes no node of its own: what is in it stands for it.
            let around = self.visitors.iter().skip(before).find_map(|(_, node)| *node);
            let what = around.map_or(What::Unknown(CONTAINS_ITSELF), What::Again);
            self.note(|| what, |what| matches!(what, What::Again(_) | What::Unknown(_)));
        }
        self.silent += usize::from(again.is_some());
        self.visitors.push((visitor, None));
        let result = run(self);
        self.visitors.pop();
        self.silent -= usize::from(again.is_some());
        result
    }

    /// Notes which node stands for the type that the visitor at work makes.
    fn stands_for_visitor(&mut self, node: usize) {
        if let Some((_, known)) = self.visitors.last_mut() {
            known.get_or_insert(node);
        }
    }

    fn has_aliases(&mut self, names: &'static [&'static str]) {
        if !self.with_aliases.contains(&names) {
            self.with_aliases.push(names);
        }
    }

    /// Finds the node at the present place, or makes it. `None` if it is not to be followed.
    fn note(&mut self, make: impl FnOnce() -> What, fits: fn(&What) -> bool) -> Option<usize> {
        if self.silent > 0 {
            return None;
        }
        let place = self.place;
        self.place += 1;
        let group = self.groups.get_mut(self.group)?;
        if group.unsteady_from.is_some_and(|from| place >= from) {
            return None;
        }
        match group.nodes.get(place).copied() {
            Some(id) if self.nodes.get(id).is_some_and(fits) => Some(id),
            None if !group.is_whole && self.nodes.len() < MOST_NODES => {
                let id = self.nodes.len();
                group.nodes.push(id);
                self.nodes.push(make());
                self.progress += 1;
                Some(id)
            }
            _ => {
                group.end_at(place);
                None
            }
        }
    }

    fn new_group(&mut self) -> usize {
        self.groups.push(Group::default());
        self.groups.len() - 1
    }

    /// Notes a value; returns the number of the one to make up.
    fn leaf(&mut self, leaf: Leaf) -> usize {
        let fits = |what: &What| matches!(what, What::Leaf(..));
        let id = self.note(|| What::Leaf(leaf, 0), fits);
        self.last_leaf = id;
        match id.and_then(|id| self.nodes.get_mut(id)) {
            // If all were refused, something else may be the cause: then it is the first again.
            Some(What::Leaf(known, refused)) if *known == leaf => *refused % values::count(leaf),
            Some(_) => {
                self.is_another();
                0
            }
            None => 0,
        }
    }

    /// Notes a value that is nothing in an encoding. No value of it can be refused.
    fn unit(&mut self) {
        self.note(|| What::Leaf(Leaf::Unit, 0), |what| matches!(what, What::Leaf(Leaf::Unit, _)));
    }

    /// The node before the present place stands for something else than what was met there.
    fn is_another(&mut self) {
        let place = self.place - 1;
        if let Some(group) = self.groups.get_mut(self.group) {
            group.end_at(place);
        }
    }

    /// Notes the beginning of a struct or a tuple.
    fn begin(&mut self, fields: Fields) {
        let id = self.note(|| What::Begin(fields), |what| matches!(what, What::Begin(_)));
        let Some(id) = id else { return };
        self.stands_for_visitor(id);
        if let Some(What::Begin(known)) = self.nodes.get(id)
            && (known.length, known.names, known.is_struct)
                != (fields.length, fields.names, fields.is_struct)
        {
            self.is_another();
        }
    }

    fn end_of_fields(&mut self) {
        self.note(|| What::End, |what| matches!(what, What::End));
    }

    /// Notes something that encloses a group; returns that. `None` if it is to be empty.
    fn enclosed(&mut self, enclosing: Enclosing) -> Option<usize> {
        let inner = self.groups.len();
        let fits: fn(&What) -> bool = match enclosing {
            Enclosing::Option => |what| matches!(what, What::Enclosed(Enclosing::Option, _)),
            Enclosing::Sequence => |what| matches!(what, What::Enclosed(Enclosing::Sequence, _)),
            Enclosing::Map => |what| matches!(what, What::Enclosed(Enclosing::Map, _)),
        };
        let id = self.note(|| What::Enclosed(enclosing, inner), fits)?;
        self.stands_for_visitor(id);
        let Some(What::Enclosed(_, group)) = self.nodes.get(id) else {
            return None;
        };
        let group = *group;
        if group == inner {
            self.new_group();
        }
        self.groups.get(group).is_some_and(|it| it.refusals == 0).then_some(group)
    }

    fn unknown(&mut self, reason: &'static str) {
        self.note(|| What::Unknown(reason), |what| matches!(what, What::Unknown(_)));
    }

    /// The pass fails for a reason that the type is not to blame for.
    fn excuse(&mut self) {
        self.is_excused = true;
    }

    /// Runs what reads the values of a group.
    fn inside<R, E>(
        &mut self,
        group: usize,
        run: impl FnOnce(&mut Self) -> Result<R, E>,
    ) -> Result<R, E> {
        let (result, place) = self.inside_from(group, 0, run);
        if result.is_ok() {
            self.end(group, place);
        }
        result
    }

    /// Runs what reads the values of a group from a place on. Returns the place behind them.
    fn inside_from<R, E>(
        &mut self,
        group: usize,
        place: usize,
        run: impl FnOnce(&mut Self) -> Result<R, E>,
    ) -> (Result<R, E>, usize) {
        let group_before = std::mem::replace(&mut self.group, group);
        let place_before = std::mem::replace(&mut self.place, place);
        let result = run(self);
        if result.is_err() {
            self.refused_in.get_or_insert(group);
        }
        self.group = group_before;
        let place = std::mem::replace(&mut self.place, place_before);
        (result, place)
    }

    /// Ends a group whose values were read up to this place.
    fn end(&mut self, group: usize, place: usize) {
        self.refused_in = None;
        self.is_excused = false;
        let Some(ended) = self.groups.get_mut(group) else { return };
        if place < ended.nodes.len() {
            ended.end_at(place);
        }
        let was = (ended.is_whole, ended.is_complete);
        ended.is_whole = true;
        let nodes = std::mem::take(&mut ended.nodes);
        let is_complete = nodes.iter().all(|&id| self.is_complete(id));
        if let Some(ended) = self.groups.get_mut(group) {
            ended.nodes = nodes;
            ended.is_complete = is_complete;
        }
        self.progress += usize::from(was != (true, is_complete));
    }

    fn is_complete(&self, id: usize) -> bool {
        let is_done = |group: usize| {
            self.groups.get(group).is_some_and(|it| it.is_complete || it.refusals > 0)
        };
        match self.nodes.get(id) {
            Some(What::Enclosed(_, group)) => is_done(*group),
            Some(What::Enum(seen)) => {
                seen.all.len() == seen.count
                    && seen.all.iter().all(|variant| {
                        let group = self.groups.get(variant.group);
                        group.is_some_and(|it| it.is_complete || it.refusals >= MOST_REFUSALS)
                    })
            }
            _ => true,
        }
    }
}

impl Group {
    /// Notes that the values from a place on are not always the same.
    fn end_at(&mut self, place: usize) {
        if self.unsteady_from.is_none_or(|from| place < from) {
            self.unsteady_from = Some(place);
        }
    }
}
