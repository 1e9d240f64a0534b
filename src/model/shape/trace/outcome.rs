//! Owns the shape that follows from what was seen.

use super::super::text::{Kind, Node, Variants};
use super::{Enclosing, Field, Seen, Tracer, What};

impl Tracer {
    /// Returns the values of a group, as far as they were seen.
    pub(super) fn values(&self, group: usize) -> Vec<Node> {
        let Some(group) = self.groups.get(group) else { return Vec::new() };
        let steady = group.unsteady_from.unwrap_or(group.nodes.len());
        let seen = group.nodes.iter().take(steady).filter_map(|&id| self.nodes.get(id));
        let mut values: Vec<Node> = seen.map(|seen| self.value(seen)).collect();
        if !group.is_whole || group.unsteady_from.is_some() {
            values.push(Node { kind: Kind::Unknown, field: String::new() });
        }
        // One unknown value stands for any number of them.
        values
            .dedup_by(|second, first| first.kind == Kind::Unknown && second.kind == Kind::Unknown);
        values
    }

    fn value(&self, seen: &Seen) -> Node {
        let kind = match &seen.what {
            What::Leaf(leaf, _) => Kind::Leaf(*leaf),
            What::Enclosed(Enclosing::Option, group) => Kind::Option(self.values(*group)),
            What::Enclosed(Enclosing::Sequence, group) => Kind::Sequence(self.values(*group)),
            What::Enclosed(Enclosing::Map, group) => Kind::Map(self.values(*group)),
            What::Enum(seen) if !seen.all.is_empty() => Kind::Enum(Variants {
                all: seen.all.iter().map(|(group, _)| self.values(*group)).collect(),
                more: seen.all.len() < seen.count,
                names: if seen.count == seen.names.len() { seen.names } else { &[] },
            }),
            What::Enum(_) | What::Unknown => Kind::Unknown,
        };
        Node { kind, field: self.named(&seen.field) }
    }

    fn named(&self, fields: &[Field]) -> String {
        let name = |field: &Field| match field.names.get(field.index) {
            Some(name) if !self.with_aliases.contains(&field.names) => (*name).to_owned(),
            _ => field.index.to_string(),
        };
        fields.iter().map(name).collect::<Vec<_>>().join(".")
    }
}
