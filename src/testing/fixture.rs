//! Owns how a test of one command reads: given, when, then. Knows nothing of what makes a command
//! deterministic.

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use super::twice::{Answer, Attempt, Comparison, Moment, attempt_twice, command_name};
use crate::files::DatabaseId;
use crate::model::{Metadata, Model, RandomSeed, Registered, time_ns};

/// 2000-01-01 00:00:00 UTC.
const DEFAULT_TIME: Duration = Duration::from_secs(946_684_800);

/// A model in a test, and what the next command's [`Context`](crate::Context) will say: made by
/// [`given`].
///
/// There is no database: nothing is journaled, and no thread runs. But commands are encoded,
/// decoded and applied as they are there, and one that is rejected or panics is rolled back. Request
/// ids are not remembered: a command that is executed twice is applied twice.
///
/// Each command is applied twice, to two copies of the model, of which one was encoded and decoded
/// before. The test fails if they are not equal afterwards, compared by their encodings; if one
/// time it was accepted and the other time not; if it emitted more events one time than the other;
/// or if an older clone of the model has changed. So a command that reads a clock, a static or the
/// order of a `HashMap` is noticed, as far as the model or the number of events shows it. Outputs,
/// rejections and events themselves are compared where the test says what they should be.
///
/// A model whose equal values are encoded differently, such as one that holds a `HashMap`, fails:
/// see [`compared_by`](Self::compared_by).
#[must_use = "a model alone tests nothing; say `when` a command is executed"]
pub struct Fixture<M: Model> {
    model: M,
    sequence: u64,
    time_ns: u64,
    metadata: Vec<u8>,
    comparison: Comparison<M>,
}

/// Begins a test with this model, at sequence 0. Commands get the time 2000-01-01 00:00:00 UTC, no
/// metadata and the random numbers of the database id 0, unless told otherwise.
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
/// When the model cannot be encoded and decoded, as a database does with its initial model.
#[track_caller]
pub fn given<M: Model>(model: M) -> Fixture<M> {
    // Whatever comes out of its encoding, as in a database.
    let (model, comparison) = match Comparison(Some(Box::new(|_, _| true))).redecoded(&model) {
        Ok(model) => (model, Comparison(None)),
        Err(problem) => panic!("the given model {problem}"),
    };
    let time_ns = time_ns(SystemTime::UNIX_EPOCH + DEFAULT_TIME);
    Fixture { model, sequence: 0, time_ns, metadata: Vec::new(), comparison }
}

impl<M: Model> Fixture<M> {
    /// The commands from here on come at this time; the next ones, too. As in a database, time does
    /// not go back: an earlier one than that before changes nothing.
    pub fn at_time(mut self, time: SystemTime) -> Self {
        self.time_ns = self.time_ns.max(time_ns(time));
        self
    }

    /// The commands from here on come so much later than those before: in the year 2554 at the
    /// latest, where the times end that a database can hold.
    pub fn later_by(self, duration: Duration) -> Self {
        let later_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self { time_ns: self.time_ns.saturating_add(later_ns), ..self }
    }

    /// The commands from here on are asked for by this caller.
    ///
    /// # Panics
    /// When it takes more than 65,535 bytes.
    #[track_caller]
    pub fn with_metadata(self, metadata: &Metadata) -> Self {
        match metadata.encode() {
            Ok(bytes) => Self { metadata: bytes, ..self },
            Err(_) => panic!("the metadata takes more than 65,535 bytes"),
        }
    }

    /// The next command has this sequence; 1 unless told otherwise.
    ///
    /// # Panics
    /// When it is 0.
    #[track_caller]
    pub fn next_sequence(mut self, sequence: u64) -> Self {
        assert!(sequence > 0, "the first command has sequence 1");
        self.sequence = sequence - 1;
        self
    }

    /// Two models are equal when `equal` says so, whatever their encodings are: for models that
    /// hold a `HashMap`.
    pub fn compared_by(mut self, equal: impl Fn(&M, &M) -> bool + 'static) -> Self {
        self.comparison = Comparison(Some(Box::new(equal)));
        self
    }

    /// Executes a command that is part of what is given.
    ///
    /// # Panics
    /// When it is not accepted, or not deterministic.
    #[track_caller]
    pub fn and<C: Registered<M>>(self, command: C) -> Self {
        let executed = self.when(command);
        executed.accepted();
        executed.fixture
    }

    /// Executes the command that is tested.
    ///
    /// # Panics
    /// When it is not deterministic.
    #[track_caller]
    #[must_use = "say what should have come of it: `then`, `then_output`, `then_rejected`, …"]
    pub fn when<C: Registered<M>>(mut self, command: C) -> Executed<M, C> {
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

    /// The model so far.
    #[must_use]
    pub fn model(&self) -> &M {
        &self.model
    }
}

/// A command that was executed in a [`Fixture`], and what came of it.
pub struct Executed<M: Model, C: Registered<M>> {
    fixture: Fixture<M>,
    attempts: [Attempt<M, C>; 2],
}

impl<M: Model, C: Registered<M>> Executed<M, C> {
    /// The command was accepted, and `check` finds the model and its output right.
    ///
    /// # Panics
    /// When it was rejected or has panicked.
    #[track_caller]
    pub fn then(self, check: impl FnOnce(&M, &C::Output)) -> Self {
        let [output, _] = self.accepted();
        check(&self.fixture.model, output);
        self
    }

    /// The command was accepted, both times with this output.
    ///
    /// # Panics
    /// When it was rejected, has panicked, or has another output.
    #[track_caller]
    pub fn then_output(self, expected: &C::Output) -> Self
    where
        C::Output: PartialEq + Debug,
    {
        self.compare("output", &self.accepted(), expected);
        self
    }

    /// The command was rejected, and `check` finds the rejection right, and the model, which is as
    /// it was before.
    ///
    /// # Panics
    /// When it was accepted or has panicked.
    #[track_caller]
    pub fn then_rejected(self, check: impl FnOnce(&M, &C::Rejection)) -> Self {
        let [rejection, _] = self.rejected();
        check(&self.fixture.model, rejection);
        self
    }

    /// The command was rejected, both times with this rejection.
    ///
    /// # Panics
    /// When it was accepted, has panicked, or has another rejection.
    #[track_caller]
    pub fn then_rejection(self, expected: &C::Rejection) -> Self
    where
        C::Rejection: PartialEq + Debug,
    {
        self.compare("rejection", &self.rejected(), expected);
        self
    }

    /// The command emitted these events, both times; none if it was rejected.
    ///
    /// # Panics
    /// When it emitted others.
    #[track_caller]
    pub fn then_events(self, expected: &[M::Event]) -> Self
    where
        M::Event: PartialEq + Debug,
    {
        let [first, second] = &self.attempts;
        self.compare("events", &[&*first.events, &*second.events], expected);
        self
    }

    /// What the command emitted, in order; nothing if it was rejected or panicked.
    #[must_use]
    pub fn events(&self) -> &[M::Event] {
        let [first, _] = &self.attempts;
        &first.events
    }

    /// Goes on with a further command after this one; see [`Fixture::when`].
    ///
    /// # Panics
    /// When it is not deterministic.
    #[track_caller]
    #[must_use = "say what should have come of it: `then`, `then_output`, `then_rejected`, …"]
    pub fn when<D: Registered<M>>(self, command: D) -> Executed<M, D> {
        self.fixture.when(command)
    }

    /// Goes on with the model as it is now, and with another time or caller.
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
