//! Owns the form of a test of one command: given, when, then. Knows nothing of how a command is
//! checked for determinism.

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use super::determinism_check::{Answer, Attempt, Comparison, Moment, attempt_twice, command_name};
use crate::files::DatabaseId;
use crate::model::{Listed, Metadata, Model, RandomSeed, time_ns};

/// 2000-01-01 00:00:00 UTC.
const DEFAULT_TIME: Duration = Duration::from_secs(946_684_800);

/// A model in a test, and the [`Context`](crate::Context) of the next command. [`given`] makes it.
///
/// There is no database: nothing is journaled, and no thread runs. But commands are encoded,
/// decoded and applied as in a database, and a command that is rejected or panics is rolled back.
/// Request ids are not remembered: a command that is executed twice is applied twice.
///
/// Each command is applied to two copies of the model. One of them was encoded and decoded before.
/// The test fails
///
/// - if the two models are not equal afterwards, compared by their encodings,
/// - if the command was accepted one time and not the other time,
/// - if it emitted more events one time than the other time,
/// - or if an older clone of the model has changed.
///
/// So the test notices a command that reads a clock, a static or the order of a `HashMap`, if the
/// model or the number of events shows it. The outputs, rejections and events themselves are
/// compared if the test says what they should be.
///
/// A model whose equal values have different encodings fails, for example one that holds a
/// `HashMap`: see [`compared_by`](Self::compared_by).
#[must_use = "a model alone tests nothing: execute a command with `when`"]
pub struct Fixture<M: Model> {
    model: M,
    sequence: u64,
    time_ns: u64,
    metadata: Vec<u8>,
    comparison: Comparison<M>,
}

/// Begins a test with this model, at sequence 0. Unless the test says otherwise, commands get the
/// time 2000-01-01 00:00:00 UTC, no metadata, and the random numbers of the database id 0.
///
/// ```
/// # use prevalence::{Command, Context, Model};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Default, Serialize, Deserialize)] struct Bank { cents: u64 }
/// # impl Model for Bank { type Event = (); }
/// # #[derive(Serialize, Deserialize)] struct Deposit(u64);
/// # impl Command<Bank> for Deposit {
/// #     type Output = u64;
/// #     type Rejection = std::convert::Infallible;
/// #     fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<u64, Self::Rejection> {
/// #         bank.cents += self.0;
/// #         Ok(bank.cents)
/// #     }
/// # }
/// # #[derive(Serialize, Deserialize)] struct Withdraw(u64);
/// # impl Command<Bank> for Withdraw {
/// #     type Output = u64;
/// #     type Rejection = &'static str;
/// #     fn apply(self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<u64, Self::Rejection> {
/// #         bank.cents = bank.cents.checked_sub(self.0).ok_or("overdrawn")?;
/// #         Ok(bank.cents)
/// #     }
/// # }
/// # prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw } }
/// use prevalence::testing::given;
///
/// given(Bank::default())
///     .and(Deposit(500))
///     .when(Withdraw(200))
///     .then_output(&300)
///     .then(|bank, _| assert_eq!(bank.cents, 300));
///
/// given(Bank::default())
///     .when(Withdraw(200))
///     .then_rejected(|bank, rejection| {
///         assert_eq!((bank.cents, *rejection), (0, "overdrawn"));
///     });
/// ```
///
/// # Panics
/// If the model cannot be encoded and decoded, as a database does with its initial model.
#[track_caller]
pub fn given<M: Model>(model: M) -> Fixture<M> {
    // Any decoded model is accepted here, as in a database.
    let (model, comparison) = match Comparison(Some(Box::new(|_, _| true))).redecoded(&model) {
        Ok(model) => (model, Comparison(None)),
        Err(problem) => panic!("the given model {problem}"),
    };
    let time_ns = time_ns(SystemTime::UNIX_EPOCH + DEFAULT_TIME);
    Fixture { model, sequence: 0, time_ns, metadata: Vec::new(), comparison }
}

impl<M: Model> Fixture<M> {
    /// Sets the time of all following commands. As in a database, time does not go back: a time
    /// earlier than the present one changes nothing.
    pub fn at_time(mut self, time: SystemTime) -> Self {
        self.time_ns = self.time_ns.max(time_ns(time));
        self
    }

    /// Makes the time of all following commands later by this duration, up to the year 2554, which
    /// is the latest time that a database can hold.
    pub fn later_by(self, duration: Duration) -> Self {
        let later_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self { time_ns: self.time_ns.saturating_add(later_ns), ..self }
    }

    /// Sets the metadata of all following commands, for example who asks for them.
    ///
    /// # Panics
    /// If the metadata takes more than 65,535 bytes.
    #[track_caller]
    pub fn with_metadata(self, metadata: &Metadata) -> Self {
        match metadata.encode() {
            Ok(bytes) => Self { metadata: bytes, ..self },
            Err(_) => panic!("the metadata takes more than 65,535 bytes: make its texts shorter"),
        }
    }

    /// Sets the sequence of the next command, which is 1 otherwise.
    ///
    /// # Panics
    /// If the sequence is 0.
    #[track_caller]
    pub fn next_sequence(mut self, sequence: u64) -> Self {
        assert!(sequence > 0, "a command cannot have sequence 0: the first one has sequence 1");
        self.sequence = sequence - 1;
        self
    }

    /// Compares models with `equal` instead of by their encodings. Models that hold a `HashMap`
    /// need it.
    pub fn compared_by(mut self, equal: impl Fn(&M, &M) -> bool + 'static) -> Self {
        self.comparison = Comparison(Some(Box::new(equal)));
        self
    }

    /// Executes a command that prepares the test.
    ///
    /// # Panics
    /// If it is not accepted, or not deterministic.
    #[track_caller]
    pub fn and<C: Listed<M>>(self, command: C) -> Self {
        let executed = self.when(command);
        executed.accepted();
        executed.fixture
    }

    /// Executes the command that is tested.
    ///
    /// # Panics
    /// If it is not deterministic.
    #[track_caller]
    #[must_use = "check the result: `then`, `then_output`, `then_rejected`, …"]
    pub fn when<C: Listed<M>>(mut self, command: C) -> Executed<M, C> {
        let sequence = self.sequence + 1;
        let seed = RandomSeed::new(DatabaseId([0; 16]));
        let moment = Moment { seed, sequence, time_ns: self.time_ns, metadata: &self.metadata };
        let attempts = match attempt_twice(&self.model, &command, &moment, &self.comparison) {
            Ok(attempts) => attempts,
            Err(problem) => panic!("{problem}"),
        };
        let [first, _] = &attempts;
        if matches!(first.answer, Answer::Accepted(_)) {
            self.model = first.model.clone();
            self.sequence = sequence;
        }
        Executed { fixture: self, attempts }
    }

    /// Returns the present model.
    #[must_use]
    pub fn model(&self) -> &M {
        &self.model
    }
}

/// A command that was executed in a [`Fixture`], with its results.
pub struct Executed<M: Model, C: Listed<M>> {
    fixture: Fixture<M>,
    attempts: [Attempt<M, C>; 2],
}

impl<M: Model, C: Listed<M>> Executed<M, C> {
    /// Asserts that the command was accepted, and calls `check` with the model and the output.
    ///
    /// # Panics
    /// If the command was rejected or panicked.
    #[track_caller]
    pub fn then(self, check: impl FnOnce(&M, &C::Output)) -> Self {
        let [output, _] = self.accepted();
        check(&self.fixture.model, output);
        self
    }

    /// Asserts that the command was accepted, both times with this output.
    ///
    /// # Panics
    /// If the command was rejected, panicked, or has another output.
    #[track_caller]
    pub fn then_output(self, expected: &C::Output) -> Self
    where
        C::Output: PartialEq + Debug,
    {
        self.compare("output", &self.accepted(), expected);
        self
    }

    /// Asserts that the command was rejected, and calls `check` with the model, which has not
    /// changed, and the rejection.
    ///
    /// # Panics
    /// If the command was accepted or panicked.
    #[track_caller]
    pub fn then_rejected(self, check: impl FnOnce(&M, &C::Rejection)) -> Self {
        let [rejection, _] = self.rejected();
        check(&self.fixture.model, rejection);
        self
    }

    /// Asserts that the command was rejected, both times with this rejection.
    ///
    /// # Panics
    /// If the command was accepted, panicked, or has another rejection.
    #[track_caller]
    pub fn then_rejection(self, expected: &C::Rejection) -> Self
    where
        C::Rejection: PartialEq + Debug,
    {
        self.compare("rejection", &self.rejected(), expected);
        self
    }

    /// Asserts that the command emitted these events both times. A rejected command emits none.
    ///
    /// # Panics
    /// If it emitted other events.
    #[track_caller]
    pub fn then_events(self, expected: &[M::Event]) -> Self
    where
        M::Event: PartialEq + Debug,
    {
        let [first, second] = &self.attempts;
        self.compare("events", &[&*first.events, &*second.events], expected);
        self
    }

    /// Returns the command's events in order; none if it was rejected or panicked.
    #[must_use]
    pub fn events(&self) -> &[M::Event] {
        let [first, _] = &self.attempts;
        &first.events
    }

    /// Executes a further command after this one; see [`Fixture::when`].
    ///
    /// # Panics
    /// If it is not deterministic.
    #[track_caller]
    #[must_use = "check the result: `then`, `then_output`, `then_rejected`, …"]
    pub fn when<D: Listed<M>>(self, command: D) -> Executed<M, D> {
        self.fixture.when(command)
    }

    /// Returns the fixture after this command, for example to set another time or other metadata.
    pub fn fixture(self) -> Fixture<M> {
        self.fixture
    }

    #[track_caller]
    fn accepted(&self) -> [&C::Output; 2] {
        match self.attempts.each_ref().map(|attempt| &attempt.answer) {
            [Answer::Accepted(first), Answer::Accepted(second)] => [first, second],
            _ => self.panic_for("accepted"),
        }
    }

    #[track_caller]
    fn rejected(&self) -> [&C::Rejection; 2] {
        match self.attempts.each_ref().map(|attempt| &attempt.answer) {
            [Answer::Rejected(first), Answer::Rejected(second)] => [first, second],
            _ => self.panic_for("rejected"),
        }
    }

    #[track_caller]
    fn compare<T: PartialEq + Debug + ?Sized>(&self, what: &str, found: &[&T; 2], expected: &T) {
        let name = command_name::<M, C>();
        let [first, second] = *found;
        assert!(first == expected, "`{name}`: {what} is {first:?} and should be {expected:?}");
        assert!(
            second == expected,
            "`{name}` is not deterministic: applied twice, with equal models and contexts, its \
             {what} was {first:?} once and {second:?} the other time"
        );
    }

    #[track_caller]
    fn panic_for(&self, wanted: &str) -> ! {
        let [first, _] = &self.attempts;
        let (name, verdict) = (command_name::<M, C>(), first.answer.verdict());
        panic!("`{name}` should be {wanted}, and was {verdict}")
    }
}
