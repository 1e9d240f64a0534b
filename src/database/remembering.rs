//! Owns the options of what is remembered of requests, and how a caller asks what became of one.
//! Knows nothing of how it is remembered.

use std::time::Duration;

use super::{Builder, Database};
use crate::engine::{Rejections, RequestKey, RequestStatus};
use crate::model::{Metadata, Model};

/// Options of request ids and of refused commands.
impl<M: Model, I> Builder<M, I> {
    /// Sets how many request ids are remembered, from 0 (none) to 16,777,216. Default: 65,536. A
    /// command with a remembered id is not applied again
    /// ([`ExecuteError::Duplicate`](crate::ExecuteError::Duplicate)). The ids of the newest
    /// accepted commands are kept, and the oldest id is forgotten first, unless it is
    /// [promised](Self::remember_requests_for) for some time yet. Ids with their actors may take 64
    /// bytes each on average. If they are longer, fewer are kept, but the newest id is always kept.
    ///
    /// Snapshots contain the ids, so they are the same after every start and crash. The number may
    /// change at the next open: a smaller number forgets the oldest ids that are not promised, and
    /// a larger number does not bring back forgotten ids. Each id takes its own length, that of its
    /// actor, that of an [output](Self::remembered_outputs) that is kept, and about 165 bytes of
    /// memory.
    pub fn remembered_requests(mut self, requests: usize) -> Self {
        self.options_mut().remembered_requests = requests;
        self
    }

    /// Promises that a request id is remembered for so long after its command, in journaled time.
    /// Default: zero, so that only the number decides. A client that retries within this time never
    /// has its command applied twice.
    ///
    /// Ids that were accepted before the promise was given may be forgotten already. An open that
    /// replays more of them than fit keeps them beyond the memory until they are old enough.
    ///
    /// The memory is as large as
    /// [`remembered_requests`](Self::remembered_requests) says. If it is full of ids that are
    /// promised, a further command with an id is refused before it is applied
    /// ([`ExecuteError::RequestsFull`](crate::ExecuteError::RequestsFull)), and nothing is
    /// forgotten. So choose a number that is larger than the most commands with ids in this time:
    /// 1,000 in a second for ten minutes are 600,000 ids, in about 120 MB. As long as there is
    /// room, ids are remembered for longer than promised.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, ExecuteError, Metadata, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Counter(u64);
    /// # impl Model for Counter { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Add(u64);
    /// # impl Command<Counter> for Add {
    /// #     type Output = u64;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, counter: &mut Counter, _: &mut Context<'_, Counter>)
    /// #         -> Result<u64, Self::Rejection> { counter.0 += self.0; Ok(counter.0) }
    /// # }
    /// # prevalence::commands! { Counter { 1 => Add } }
    /// use std::time::Duration;
    ///
    /// let builder = Database::<Counter>::builder().remembered_requests(2);
    /// let counter = builder.remember_requests_for(Duration::from_secs(600)).open_in_memory()?;
    /// let add = |id: &str| {
    ///     let request = Metadata { request_id: id.to_owned(), ..Metadata::default() };
    ///     counter.execute_with(&request, Add(1))
    /// };
    /// assert_eq!((add("a")?, add("b")?), (1, 2));
    /// assert!(matches!(add("c"), Err(ExecuteError::RequestsFull { remembered: 2, .. })));
    /// assert!(matches!(add("a"), Err(ExecuteError::Duplicate { sequence: 1, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remember_requests_for(mut self, time: Duration) -> Self {
        self.options_mut().remember_requests_for = time;
        self
    }

    /// Sets whether each [actor](Metadata::actor) has request ids of their own. Default: no. Then
    /// the same id from two actors is the same request. With it, clients that do not know of each
    /// other cannot take each other's ids.
    pub fn request_ids_by_actor(mut self, by_actor: bool) -> Self {
        self.options_mut().request_ids_by_actor = by_actor;
        self
    }

    /// Sets the most bytes of a request id, from 150 to 65,535. Default: 255. A command with a
    /// longer one is refused. Followers' own ids take up to 150 bytes. What the journal holds
    /// already stays valid.
    pub fn max_request_id_bytes(mut self, bytes: usize) -> Self {
        self.options_mut().max_request_id_bytes = bytes;
        self
    }

    /// Remembers the output of a command with its request id, so that a retry gets it:
    /// [`FirstAnswer::output`](crate::FirstAnswer::output). Default: 0, which remembers none. The
    /// command's output must be `Serialize`, and take at most so many bytes as JSON, up to 1 MiB;
    /// otherwise it is not remembered, and the retry gets the sequence alone.
    ///
    /// Outputs are as durable as the ids. A replay makes them again, as they are made by then.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, ExecuteError, Metadata, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Counter(u64);
    /// # impl Model for Counter { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Add(u64);
    /// # impl Command<Counter> for Add {
    /// #     type Output = u64;
    /// #     type Rejection = std::convert::Infallible;
    /// #     fn apply(self, counter: &mut Counter, _: &mut Context<'_, Counter>)
    /// #         -> Result<u64, Self::Rejection> { counter.0 += self.0; Ok(counter.0) }
    /// # }
    /// # prevalence::commands! { Counter { 1 => Add } }
    /// let counter = Database::<Counter>::builder().remembered_outputs(100).open_in_memory()?;
    /// let request = Metadata { request_id: "7".to_owned(), ..Metadata::default() };
    /// counter.execute_with(&request, Add(5))?;
    /// match counter.execute_with(&request, Add(5)) {
    ///     Err(ExecuteError::Duplicate { sequence, first }) => {
    ///         assert_eq!((sequence, first.command), (1, Some("Add")));
    ///         assert_eq!(first.output::<u64>()?, Some(5));
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remembered_outputs(mut self, most_bytes: usize) -> Self {
        self.options_mut().remembered_output_bytes = most_bytes;
        self
    }

    /// Sets how many refused commands are remembered, from 1 to 1,048,576, and for how long.
    /// Default: 4,096, for ten minutes. They are in memory alone, and take at most 2 KiB each on
    /// average.
    pub fn remembered_rejections(mut self, rejections: usize, time: Duration) -> Self {
        let options = self.options_mut();
        options.remembered_rejections = rejections;
        options.remember_rejections_for = time;
        self
    }
}

impl<M: Model> Database<M> {
    /// Returns what became of the command with this request id, without sending it again.
    ///
    /// An accepted command is found for as long as its id is
    /// [remembered](Builder::remembered_requests), across restarts and crashes. A refused one is
    /// found for a [while](Builder::remembered_rejections), in this process alone. Where ids
    /// [belong to actors](Builder::request_ids_by_actor), the actor is that of this handle's
    /// [metadata](Self::with_metadata).
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, Metadata, Model, RequestStatus};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Counter(u64);
    /// # impl Model for Counter { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Take(u64);
    /// # impl Command<Counter> for Take {
    /// #     type Output = u64;
    /// #     type Rejection = String;
    /// #     fn apply(self, counter: &mut Counter, _: &mut Context<'_, Counter>)
    /// #         -> Result<u64, Self::Rejection> {
    /// #         counter.0 = counter.0.checked_sub(self.0)
    /// #             .ok_or_else(|| format!("only {} are left", counter.0))?; Ok(counter.0) }
    /// # }
    /// # prevalence::commands! { Counter { 1 => Take } }
    /// # let counter = Database::<Counter>::builder().initial(Counter(5)).open_in_memory()?;
    /// let request = |id: &str| Metadata { request_id: id.to_owned(), ..Metadata::default() };
    /// counter.execute_with(&request("one"), Take(3)).ok();
    /// counter.execute_with(&request("two"), Take(3)).ok();
    /// assert_eq!(counter.status("one"), RequestStatus::Accepted { sequence: 1 });
    /// match counter.status("two") {
    ///     RequestStatus::Rejected { reason, .. } => assert_eq!(reason, "only 2 are left"),
    ///     other => panic!("{other:?}"),
    /// }
    /// assert_eq!(counter.status("three"), RequestStatus::Unknown);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn status(&self, request_id: &str) -> RequestStatus {
        let engine = &self.engine;
        if engine.process.is_forked() || request_id.is_empty() {
            return RequestStatus::Unknown;
        }
        let shared = &engine.shared;
        let by_actor = shared.requests.limits().by_actor;
        let metadata = if by_actor { Metadata::decode(&self.metadata) } else { Ok(<_>::default()) };
        let actor = metadata.unwrap_or_default().actor;
        let key = RequestKey::new(&actor, request_id, by_actor);
        let newest = || shared.published.pin().sequence;
        let status = shared.requests.status(&key, newest);
        // For commands that could not be written since, ids may have been forgotten that the newest
        // version still has. To search all of it takes a while, so this comes last.
        let is_behind = || shared.status.poisoned().is_some() || shared.status.is_refusing();
        if status == RequestStatus::Unknown && is_behind() {
            let newest = shared.published.pin();
            if let Some(accepted) = newest.requests.find(&key) {
                return RequestStatus::Accepted { sequence: accepted.sequence };
            }
        }
        status
    }

    /// Listens to the refusals of commands that are submitted from now on, with or without a
    /// request id: rejected by their own rules, panicked, stale, or not written. Nothing is durable
    /// of them, and the database never waits for whoever listens: who is slow
    /// [misses](Rejections::missed) some.
    ///
    /// ```
    /// # use prevalence::{Command, Context, Database, Model};
    /// # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// # struct Counter(u64);
    /// # impl Model for Counter { type Event = (); }
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Take(u64);
    /// # impl Command<Counter> for Take {
    /// #     type Output = u64;
    /// #     type Rejection = String;
    /// #     fn apply(self, counter: &mut Counter, _: &mut Context<'_, Counter>)
    /// #         -> Result<u64, Self::Rejection> {
    /// #         counter.0 = counter.0.checked_sub(self.0)
    /// #             .ok_or_else(|| format!("only {} are left", counter.0))?; Ok(counter.0) }
    /// # }
    /// # prevalence::commands! { Counter { 1 => Take } }
    /// # let counter = Database::<Counter>::builder().initial(Counter(2)).open_in_memory()?;
    /// let mut rejections = counter.rejections();
    /// counter.execute(Take(3)).ok();
    /// let refused = rejections.next().expect("one was refused");
    /// assert_eq!((refused.command, refused.reason.as_str()), ("Take", "only 2 are left"));
    /// assert_eq!(rejections.missed(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn rejections(&self) -> Rejections {
        Rejections::new(self.engine.shared.requests.clone(), self.engine.process)
    }
}
