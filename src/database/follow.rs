//! Owns how a caller follows an open database. Knows nothing of how what it gets is found.

use super::{Database, Engine};
use crate::error::Error;
use crate::events::{Followed, From, Reached, Subscription};
use crate::model::Model;
use crate::process::FreedDeep;

impl<M: Model> Database<M> {
    /// Follows the database: returns every accepted command with its events, in order, without a
    /// gap and without a duplicate, first those that are stored and then those that become durable
    /// from now on. Only durable ones are given.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, From, Model};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Default, Serialize, Deserialize)]
    /// # struct Till(u64);
    /// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    /// # struct Paid(u64);
    /// # impl Model for Till { type Event = Paid; }
    /// # #[derive(Serialize, Deserialize)]
    /// # struct PayIn(u64);
    /// # impl Command<Till> for PayIn {
    /// #     type Output = ();
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, till: &mut Till, cx: &mut Context<'_, Till>)
    /// #         -> Result<(), Self::Rejection> { till.0 += self.0; cx.emit(Paid(self.0)); Ok(()) }
    /// # }
    /// # prevalence::commands! { Till { 1 => PayIn } }
    /// # let directory = tempfile::tempdir()?;
    /// let till = Database::<Till>::open(directory.path())?;
    /// till.execute(PayIn(100))?;
    /// let mut payments = till.subscribe(From::Beginning)?;
    /// till.execute(PayIn(50))?;
    /// for cents in [100, 50] {
    ///     let recorded = payments.next().expect("the till is open")?;
    ///     assert_eq!(recorded.events, [Paid(cents)]);
    /// }
    /// assert!(payments.try_next()?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// To continue after a restart, store the sequence of the last command that was worked on, and
    /// subscribe with [`From::After`] it. How far back a subscription can begin depends on
    /// [`Retention`](crate::Retention).
    ///
    /// A subscription does not keep the database open.
    ///
    /// # Errors
    /// [`Error::HistoryTruncated`] if the first wanted command is no longer stored; it says where
    /// history begins. Otherwise the errors of [`History::records`](crate::History::records).
    pub fn subscribe(&self, from: From) -> Result<Subscription<M>, Error> {
        Subscription::new(self.followed()?, from)
    }

    /// Returns what a follower needs.
    pub(crate) fn followed(&self) -> Result<Followed<M>, Error> {
        let Engine { shared, storage, directory, identity, durability, process, .. } =
            &*self.engine;
        if process.is_forked() {
            return Err(Error::Forked);
        }
        Ok(Followed {
            shared: FreedDeep::new((**shared).clone()),
            storage: storage.clone(),
            directory: directory.clone(),
            identity: identity.clone(),
            durability: *durability,
            process: *process,
        })
    }

    /// Waits, as a future, until the newest readable version has reached `sequence`. It needs no
    /// runtime. It gives the sequence that is reached then, and the errors of
    /// [`wait_for`](Self::wait_for) but the timeout.
    pub fn reached(&self, sequence: u64) -> Reached<M> {
        Reached::new((*self.engine.shared).clone(), self.engine.process, sequence)
    }

    /// Waits, as a future, until there is a newer version than that which is the newest now.
    /// Otherwise it is like [`reached`](Self::reached).
    pub fn changed(&self) -> Reached<M> {
        self.reached(self.sequence().saturating_add(1))
    }
}
