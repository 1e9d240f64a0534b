//! Owns which variant of an enum a pass takes.

use super::{Group, MOST_REFUSALS, SeenVariant, SeenVariants, Tracer, VariantForm, What};

impl Tracer {
    /// Notes an enum. Returns the variant to take, and its group if it is to be followed.
    pub(super) fn variant(
        &mut self,
        visitor: &'static str,
        names: &'static [&'static str],
    ) -> (usize, Option<(usize, usize)>) {
        let count = names.len();
        let make = || What::Enum(SeenVariants { all: Vec::new(), names, count });
        let id = self.note(make, |what| matches!(what, What::Enum(_)));
        if let Some(id) = id {
            self.stands_for_visitor(id);
        }
        let finite = self.finite.iter().find(|(of, _)| *of == visitor).map(|(_, index)| *index);
        let chosen = id.and_then(|id| self.choose(id, finite).map(|chosen| (id, chosen)));
        let Some((id, index)) = chosen else { return (finite.unwrap_or(0), None) };
        let new = self.groups.len();
        let Some(What::Enum(seen)) = self.nodes.get_mut(id) else { return (index, None) };
        let is_new = index == seen.all.len();
        if is_new {
            seen.all.push(SeenVariant { group: new, tries: 0, form: VariantForm::default() });
        }
        let Some(variant) = seen.all.get_mut(index) else { return (index, None) };
        variant.tries += 1;
        let group = variant.group;
        if is_new {
            self.new_group();
        }
        (index, Some((id, group)))
    }

    /// Chooses the variant of which least is known.
    fn choose(&self, id: usize, finite: Option<usize>) -> Option<usize> {
        let Some(What::Enum(seen)) = self.nodes.get(id) else { return None };
        if seen.all.len() < seen.count {
            return Some(seen.all.len());
        }
        let is_open = |group: &Group| !group.is_complete && group.refusals < MOST_REFUSALS;
        let open = seen
            .all
            .iter()
            .enumerate()
            .filter(|(_, variant)| self.groups.get(variant.group).is_some_and(is_open));
        let least = open.min_by_key(|(_, variant)| variant.tries).map(|(index, _)| index);
        least.or(finite.filter(|index| *index < seen.all.len())).or(Some(0))
    }

    /// Notes how a variant holds its values.
    pub(super) fn has_form(&mut self, id: usize, index: usize, form: VariantForm) {
        if let Some(What::Enum(seen)) = self.nodes.get_mut(id)
            && let Some(variant) = seen.all.get_mut(index)
        {
            variant.form = form;
        }
    }

    /// Notes that an enum has no variant with this number.
    pub(super) fn no_such_variant(&mut self, id: usize, index: usize) {
        self.excuse();
        if let Some(What::Enum(seen)) = self.nodes.get_mut(id)
            && index < seen.count
        {
            seen.count = index;
            seen.all.truncate(index);
            self.progress += 1;
        }
    }

    /// Notes that a variant was made.
    pub(super) fn is_finite(&mut self, visitor: &'static str, index: usize) {
        if !self.finite.iter().any(|(of, _)| *of == visitor) {
            self.finite.push((visitor, index));
            self.progress += 1;
        }
    }
}
