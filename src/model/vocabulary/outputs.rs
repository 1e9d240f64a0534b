//! Owns how a command's output becomes JSON, which only its own type knows. An output may be
//! `Serialize`, but nothing requires that.
//!
//! As with rejections, the choice is made where `commands!` knows the type.

use std::any::Any;
use std::marker::PhantomData;

use serde::Serialize;

use crate::json;

/// Writes an output of a known type as JSON of at most so many bytes.
pub type OutputToJson = fn(&dyn Any, usize) -> Result<String, String>;

/// Stands for a type of outputs. `(&&OfOutput::<O>::new()).output_to_json()` calls the method of
/// the first of these traits that applies: [`WithSerialize`], [`WithoutSerialize`].
pub struct OfOutput<O>(PhantomData<fn() -> O>);

impl<O> OfOutput<O> {
    /// Makes one. It has no content.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<O> Default for OfOutput<O> {
    fn default() -> Self {
        Self::new()
    }
}

/// Chosen for an output that can be serialized.
pub trait WithSerialize {
    /// Returns how it is written as JSON.
    fn output_to_json(&self) -> Option<OutputToJson>;
}

impl<O: Serialize + 'static> WithSerialize for &OfOutput<O> {
    fn output_to_json(&self) -> Option<OutputToJson> {
        Some(|output, most_bytes| match output.downcast_ref::<O>() {
            Some(output) => json::text_within(output, most_bytes),
            None => Err("it is an output of another type".to_owned()),
        })
    }
}

/// Chosen for every other output.
pub trait WithoutSerialize {
    /// Returns that it has no JSON.
    fn output_to_json(&self) -> Option<OutputToJson>;
}

impl<O> WithoutSerialize for OfOutput<O> {
    fn output_to_json(&self) -> Option<OutputToJson> {
        None
    }
}
