//! Owns applying one command twice, to two copies of a model, and what must come out equal. Knows
//! nothing of how a test is written.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::codec;
use crate::codec::EncodeFailure;
use crate::engine::EngineThread;
use crate::model::{Command, Context, Model, RandomSeed, Registered};
use crate::options::Options;
use crate::process::panic_message;

/// What a command came to.
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
    /// After the command, if it was accepted; otherwise as before, as the engine rolls back.
    pub(super) model: M,
    pub(super) events: Vec<M::Event>,
    pub(super) answer: Answer<C::Output, C::Rejection>,
}

/// What a command learns from its context.
pub(super) struct Moment<'a> {
    pub(super) seed: RandomSeed,
    pub(super) sequence: u64,
    pub(super) time_ns: u64,
    pub(super) metadata: &'a [u8],
}

/// How two models are compared: by their encodings, or as a test has asked for.
pub(super) struct Comparison<M>(pub(super) Option<Equality<M>>);

/// Whether two are the same.
pub(super) type Equality<M> = Box<dyn Fn(&M, &M) -> bool>;

impl<M: Model> Comparison<M> {
    /// The model as it comes out of its own encoding, equal to what it was.
    pub(super) fn redecoded(&self, model: &M) -> Result<M, String> {
        let decoded = codec::decode_model(&encoded(model)?).map_err(|reason| {
            format!("cannot be decoded from its own encoding, as a start needs it: {reason}")
        })?;
        match self.difference(model, &decoded)? {
            None => Ok(decoded),
            Some(difference) => Err(format!(
                "is another one once it was encoded and decoded: it differs {difference}. Is there \
                 a `HashMap` in it, or a `Serialize` and `Deserialize` that do not mirror each \
                 other? Use an ordered map, or say what makes two models equal, with `compared_by`"
            )),
        }
    }

    /// What is different about them, if anything is.
    fn difference(&self, left: &M, right: &M) -> Result<Option<String>, String> {
        if let Some(equal) = &self.0 {
            let different = !equal(left, right);
            return Ok(different.then(|| "as `compared_by` says".to_owned()));
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

/// Applies a command to two copies of a model, of which one was encoded and decoded before, as a
/// snapshot is: so they differ in all that does not belong to the value, such as the order of a
/// `HashMap`. `Err` says what did not come out equal.
pub(super) fn attempt_twice<M: Model, C: Registered<M>>(
    base: &M,
    command: &C,
    moment: &Moment<'_>,
    comparison: &Comparison<M>,
) -> Result<[Attempt<M, C>; 2], String> {
    let name = command_name::<M, C>();
    let told = |problem| format!("the model that `{name}` is applied to {problem}");
    let witness = comparison.redecoded(base).map_err(told)?;
    let decoded = comparison.redecoded(base).map_err(told)?;
    let bytes = encoded_command(command).map_err(|problem| format!("`{name}` {problem}"))?;
    let first = attempt::<M, C>(base.clone(), &bytes, moment)?;
    if let Some(difference) = comparison.difference(base, &witness)? {
        return Err(format!(
            "`{name}` was {} and has left a trace in a version from before it, which differs \
             {difference}. Clones of the model must not share what is changed in place, as by a \
             `Mutex`, `RefCell` or atomic behind an `Arc`",
            first.answer.verdict()
        ));
    }
    let told = |problem| format!("the model that `{name}` has left {problem}");
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

/// What the two times did not have in common.
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
fn attempt<M: Model, C: Registered<M>>(
    base: M,
    bytes: &[u8],
    moment: &Moment<'_>,
) -> Result<Attempt<M, C>, String> {
    let Moment { seed, sequence, time_ns, metadata } = *moment;
    let (mut model, mut events) = (base.clone(), Vec::new());
    let mut cx = Context::new(seed, sequence, time_ns, metadata, &mut events);
    // What a command must not do in a database it must not do here.
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
                "`{name}` cannot be decoded from its own encoding, so that a database would refuse \
                 it: {reason}"
            ));
        }
        Err(panic) => Answer::Panicked(panic_message(&*panic)),
    };
    Ok(Attempt { model: base, events: Vec::new(), answer })
}

fn encoded_command<C: serde::Serialize>(command: &C) -> Result<Vec<u8>, String> {
    let (mut bytes, limit) = (Vec::new(), Options::default().max_command_bytes);
    codec::encode_onto(command, &mut bytes, limit).map_err(|failure| match failure {
        EncodeFailure::TooLarge { bytes } => {
            format!("takes {bytes} bytes, and {limit} are the most that a database takes")
        }
        EncodeFailure::Failed(reason) => format!("cannot be encoded: {reason}"),
    })?;
    Ok(bytes)
}

fn encoded<M: Model>(model: &M) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    codec::encode_stream(model, &mut bytes)
        .map_err(|error| format!("cannot be encoded, as a snapshot needs it: {error}"))?;
    Ok(bytes)
}

/// As the journal calls it.
pub(super) fn command_name<M: Model, C: Registered<M>>() -> &'static str {
    let entry = M::entries().iter().find(|entry| entry.tag() == C::TAG);
    entry.map_or("a command", |entry| entry.name())
}
