//! Checks that one command, applied to two copies of a model, does the same twice. Knows nothing of
//! how a test is written.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::codec;
use crate::codec::EncodeFailure;
use crate::engine::EngineThread;
use crate::model::{Command, Context, Listed, Model, RandomSeed};
use crate::options::Options;
use crate::panics::panic_message;

/// The answer of a command.
pub(super) enum Answer<O, R> {
    Accepted(O),
    Rejected(R),
    Panicked(String),
}

impl<O, R> Answer<O, R> {
    pub(super) fn verdict(&self) -> String {
        match self {
            Self::Accepted(_) => "accepted".to_owned(),
            Self::Rejected(_) => "rejected".to_owned(),
            Self::Panicked(message) => format!("ended by a panic: {message}"),
        }
    }
}

/// One of the two times that a command was applied.
pub(super) struct Attempt<M: Model, C: Command<M>> {
    /// The model after the command if it was accepted. Otherwise the model before it, as after a
    /// rollback in the engine.
    pub(super) model: M,
    pub(super) events: Vec<M::Event>,
    pub(super) answer: Answer<C::Output, C::Rejection>,
}

/// The content of a command's context.
pub(super) struct Moment<'a> {
    pub(super) seed: RandomSeed,
    pub(super) sequence: u64,
    pub(super) time_ns: u64,
    pub(super) metadata: &'a [u8],
}

/// How two models are compared: with the function that a test has given, else by their encodings.
pub(super) struct Comparison<M>(pub(super) Option<Equality<M>>);

/// A function that says whether two models are equal.
pub(super) type Equality<M> = Box<dyn Fn(&M, &M) -> bool>;

impl<M: Model> Comparison<M> {
    /// Encodes and decodes a model. Returns the decoded model, or an error if it is not equal.
    pub(super) fn redecoded(&self, model: &M) -> Result<M, String> {
        let decoded = codec::decode_model(&encoded(model)?).map_err(|reason| {
            format!("cannot be decoded from its own encoding, as every start must do: {reason}")
        })?;
        match self.difference(model, &decoded)? {
            None => Ok(decoded),
            Some(difference) => Err(format!(
                "changes when it is encoded and decoded: it differs {difference}. Does it contain \
                 a `HashMap`, or a `Serialize` and `Deserialize` that do not mirror each other? \
                 Use an ordered map, or say with `compared_by` when two models are equal"
            )),
        }
    }

    /// Says where two models differ, if they do.
    fn difference(&self, left: &M, right: &M) -> Result<Option<String>, String> {
        if let Some(equal) = &self.0 {
            let different = !equal(left, right);
            return Ok(different.then(|| "according to `compared_by`".to_owned()));
        }
        let (left, right) = (encoded(left)?, encoded(right)?);
        if left == right {
            return Ok(None);
        }
        let same = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
        let (left, right) = (left.len(), right.len());
        Ok(Some(format!("at byte {same} of their encodings of {left} and {right} bytes")))
    }
}

/// Applies a command to two copies of a model. One of them was encoded and decoded before, as it is
/// by a snapshot. So the two differ in everything that is not part of the value, for example in the
/// order of a `HashMap`. `Err` says what was not the same both times.
pub(super) fn attempt_twice<M: Model, C: Listed<M>>(
    base: &M,
    command: &C,
    moment: &Moment<'_>,
    comparison: &Comparison<M>,
) -> Result<[Attempt<M, C>; 2], String> {
    let name = command_name::<M, C>();
    let told = |problem| format!("the model before `{name}` {problem}");
    let witness = comparison.redecoded(base).map_err(told)?;
    let decoded = comparison.redecoded(base).map_err(told)?;
    let bytes = encoded_command(command).map_err(|problem| format!("`{name}` {problem}"))?;
    let first = attempt::<M, C>(base.clone(), &bytes, moment)?;
    if let Some(difference) = comparison.difference(base, &witness)? {
        return Err(format!(
            "`{name}` was {} and has changed an older version of the model, which differs \
             {difference}. Clones of the model must not share data that is changed in place, such \
             as a `Mutex`, a `RefCell` or an atomic behind an `Arc`",
            first.answer.verdict()
        ));
    }
    let told = |problem| format!("the model after `{name}` {problem}");
    comparison.redecoded(&first.model).map_err(told)?;
    let second = attempt::<M, C>(decoded, &bytes, moment)?;
    match parted(&first, &second, comparison)? {
        None => Ok([first, second]),
        Some(parted) => Err(format!(
            "`{name}` is not deterministic: applied twice, with equal models and contexts, \
             {parted}. See `prevalence::docs::determinism` for what commands must not do"
        )),
    }
}

/// Says what was not the same both times, if anything was not.
fn parted<M: Model, C: Command<M>>(
    first: &Attempt<M, C>,
    second: &Attempt<M, C>,
    comparison: &Comparison<M>,
) -> Result<Option<String>, String> {
    let verdicts = [first.answer.verdict(), second.answer.verdict()];
    let [verdict, other] = &verdicts;
    if verdict != other {
        return Ok(Some(format!("it was {verdict} once and {other} the other time")));
    }
    let (events, others) = (first.events.len(), second.events.len());
    if events != others {
        return Ok(Some(format!("it emitted {events} events once and {others} the other time")));
    }
    let difference = comparison.difference(&first.model, &second.model)?;
    Ok(difference.map(|difference| format!("it left models that differ {difference}")))
}

/// Decodes and applies a command, as the engine does.
fn attempt<M: Model, C: Listed<M>>(
    base: M,
    bytes: &[u8],
    moment: &Moment<'_>,
) -> Result<Attempt<M, C>, String> {
    let Moment { seed, sequence, time_ns, metadata } = *moment;
    let (mut model, mut events) = (base.clone(), Vec::new());
    let mut cx = Context::new(seed, sequence, time_ns, metadata, &mut events);
    // A command must not wait for an engine, here as in a database.
    let guard = EngineThread::enter();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        codec::decode_exact::<C>(bytes).map(|command| command.apply(&mut model, &mut cx))
    }));
    drop(guard);
    let answer = match caught {
        Ok(Ok(Ok(output))) => {
            return Ok(Attempt { model, events, answer: Answer::Accepted(output) });
        }
        Ok(Ok(Err(rejection))) => Answer::Rejected(rejection),
        Ok(Err(reason)) => {
            let name = command_name::<M, C>();
            return Err(format!(
                "`{name}` cannot be decoded from its own encoding, so a database would refuse it: \
                 {reason}. Make Serialize and Deserialize mirror each other"
            ));
        }
        Err(panic) => Answer::Panicked(panic_message(panic)),
    };
    Ok(Attempt { model: base, events: Vec::new(), answer })
}

fn encoded_command<C: serde::Serialize>(command: &C) -> Result<Vec<u8>, String> {
    let (mut bytes, limit) = (Vec::new(), Options::default().max_command_bytes);
    codec::encode_onto(command, &mut bytes, limit).map_err(|failure| match failure {
        EncodeFailure::TooLarge { bytes } => {
            format!("takes {bytes} bytes; a database accepts at most {limit}")
        }
        EncodeFailure::Failed(reason) => format!("cannot be encoded: {reason}"),
    })?;
    Ok(bytes)
}

fn encoded<M: Model>(model: &M) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    codec::encode_stream(model, &mut bytes)
        .map_err(|error| format!("cannot be encoded, as every snapshot must do: {error}"))?;
    Ok(bytes)
}

/// Returns the command's name in the journal.
pub(super) fn command_name<M: Model, C: Listed<M>>() -> &'static str {
    let entry = M::entries().iter().find(|entry| entry.tag() == C::TAG);
    entry.map_or("a command", |entry| entry.name())
}
