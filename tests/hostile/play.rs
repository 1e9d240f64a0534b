//! One play of a step: the handle, what was acknowledged, and every error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use prevalence::{Database, Error, ExecuteError, Health, Retention};

use super::diary::{Diary, Enter, builder};
use super::scene::{LARGE_BYTES, Scene};
use super::step::{IN_ITS_PLACE, PURGED};
use super::strike::Striker;

/// What was done with our database, with the results.
pub struct Play<'a> {
    pub scene: &'a Scene,
    striker: &'a Striker,
    retention: Retention,
    by_relative_path: bool,
    /// Whether a call that runs a user's code may pass its panic on to the caller.
    panics_go_on: bool,
    pub database: Option<Database<Diary>>,
    /// The acknowledged numbers, in their order.
    pub entered: Vec<u64>,
    /// The numbers that were in flight at a failure that left them in doubt.
    pub doubtful: Vec<u64>,
    next: u64,
    /// Whether the database must hold the purged history (`true`) or may hold it (`false`); `None`
    /// without a purge.
    purged: Option<bool>,
    /// Copies, with the numbers that they must hold.
    pub copies: Vec<(PathBuf, Vec<u64>)>,
    /// Every error.
    pub said: Vec<String>,
    /// The broken promises.
    pub violations: Vec<String>,
    pub is_poisoned: bool,
    /// Whether this run has an acknowledged command.
    pub has_begun: bool,
    /// Whether a close of the database returned `Ok`.
    pub is_closed_well: bool,
    /// A handle to the closed database.
    closed: Option<Database<Diary>>,
}

impl<'a> Play<'a> {
    pub fn new(scene: &'a Scene, striker: &'a Striker, retention: Retention) -> Self {
        Self {
            scene,
            striker,
            retention,
            by_relative_path: false,
            panics_go_on: false,
            database: None,
            entered: Vec::new(),
            doubtful: Vec::new(),
            next: 100,
            purged: None,
            copies: Vec::new(),
            said: Vec::new(),
            violations: Vec::new(),
            is_poisoned: false,
            has_begun: false,
            is_closed_well: false,
            closed: None,
        }
    }

    /// Sets whether a panic may reach the caller, because the step opens or works on a closed
    /// database.
    pub fn lets_panics_go_on(&mut self, go_on: bool) {
        self.panics_go_on = go_on;
    }

    /// Changes to the parent directory of our database, and names the database relative to it from
    /// now on.
    pub fn work_beside_it(&mut self) {
        std::env::set_current_dir(&self.scene.disk).unwrap();
        self.by_relative_path = true;
    }

    pub fn path(&self) -> PathBuf {
        if self.by_relative_path { "app.db".into() } else { self.scene.path.clone() }
    }

    /// Notes that our database holds the numbers 1 to `last`.
    pub fn knows(&mut self, last: u64) {
        super::say("knows ", last);
        self.entered = (1..=last).collect();
    }

    pub fn wrong(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    fn notes(&mut self, error: String) {
        if error.len() < 10 {
            self.wrong(format!("an error that says nothing: {error:?}"));
        }
        self.said.push(error);
    }

    /// Calls the crate, which may return an error, but not panic.
    pub fn call<T>(
        &mut self,
        body: impl FnOnce(Option<&Database<Diary>>) -> Result<T, Error>,
    ) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(|| body(self.database.as_ref()))) {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => {
                self.is_poisoned |= matches!(error, Error::Poisoned(_));
                self.notes(error.to_string());
            }
            Err(panic) if self.panics_go_on && panic.is::<&str>() => {
                self.notes("a panic of the user's code, on purpose, went on".to_owned());
            }
            Err(_) => self.wrong("the call panicked its caller"),
        }
        None
    }

    pub fn open(&mut self) {
        let (path, retention) = (self.path(), self.retention);
        let opened = self.call(|_| builder(retention).open(path));
        if self.striker.hazard == super::hazard::Hazard::Fork {
            *self.striker.handle.lock().unwrap() = opened.clone();
        }
        self.database = opened;
    }

    fn take_number(&mut self) -> u64 {
        self.next += 1;
        super::say("try ", self.next);
        self.next
    }

    pub fn enter(&mut self, large: bool) {
        self.enter_with(if large { LARGE_BYTES } else { 10 });
    }

    fn enter_with(&mut self, bytes: usize) {
        let number = self.take_number();
        let Some(database) = &self.database else { return };
        let command = Enter { number, padding: vec![3; bytes] };
        match catch_unwind(AssertUnwindSafe(|| database.execute(command))) {
            Ok(result) => self.answered(number, result),
            Err(_) => self.wrong("execute panicked its caller"),
        }
    }

    fn answered(
        &mut self,
        number: u64,
        result: Result<usize, ExecuteError<std::convert::Infallible>>,
    ) {
        match result {
            Ok(place) => {
                super::say("ack ", number);
                self.entered.push(number);
                self.has_begun = true;
                if place != self.entered.len() {
                    self.wrong(format!("{number} came to place {place}"));
                }
                if self.is_poisoned {
                    self.wrong("a command was acknowledged after the database was poisoned");
                }
            }
            Err(error) => {
                if matches!(error, ExecuteError::Poisoned(_)) {
                    self.doubtful.push(number);
                    self.is_poisoned = true;
                }
                self.notes(error.to_string());
            }
        }
    }

    /// Submits several commands before it waits for the first.
    pub fn enter_together(&mut self, count: usize) {
        let Some(database) = self.database.clone() else { return };
        let submitted: Vec<_> = (0..count)
            .map(|index| {
                let number = self.take_number();
                let padding = vec![5; if index % 2 == 0 { LARGE_BYTES } else { 10 }];
                (number, database.submit(Enter { number, padding }))
            })
            .collect();
        drop(database);
        for (number, pending) in submitted {
            let result = pending.and_then(prevalence::Pending::wait);
            self.answered(number, result);
        }
    }

    pub fn snapshot(&mut self) {
        if self.database.is_some() {
            self.call(|database| database.unwrap().snapshot());
        }
    }

    pub fn back_up(&mut self, name: &str) {
        let target = self.scene.copies.join(name);
        if let Some(database) = self.database.clone().or_else(|| self.closed.clone()) {
            let copied = self.call(|_| database.backup(&target));
            if copied.is_some() {
                self.has_copied(target);
            }
        }
    }

    pub fn has_copied(&mut self, target: PathBuf) {
        self.copies.push((target, self.entered.clone()));
    }

    /// Returns whether a copy holds what was acknowledged.
    pub fn is_rescued(&self) -> bool {
        self.copies.iter().any(|(copy, _)| copy.ends_with("rescue.db"))
    }

    pub fn has_purged(&mut self, surely: bool) {
        self.purged = Some(surely);
    }

    pub fn close(&mut self) {
        if let Some(database) = self.database.take() {
            self.closed = Some(database.clone());
            self.is_closed_well = self.call(|_| database.close()).is_some();
        }
    }

    /// Checks that a second process, or another part of this one, cannot open the database.
    pub fn try_to_intrude(&mut self) {
        if self.database.is_none() {
            return;
        }
        let Ok(intruder) = builder(self.retention).open(&self.scene.path) else { return };
        let stood = self.entered.len();
        self.enter(false);
        if self.entered.len() > stood {
            self.wrong("a second opener got in, and the first one still acknowledges");
        }
        drop(intruder);
    }

    /// Checks that readers see what was acknowledged.
    pub fn check_memory(&mut self) {
        let Some(database) = &self.database else { return };
        let held = database.query(Diary::entries);
        let is_poisoned = matches!(database.health(), Health::Poisoned(_));
        if held != self.entered {
            let expected = self.entered.clone();
            self.wrong(format!("readers see {held:?} and not {expected:?}"));
        }
        self.is_poisoned |= is_poisoned;
    }

    /// Returns the states that our database may hold.
    pub fn may_stand(&self) -> Vec<Vec<u64>> {
        let mut states = Vec::new();
        for doubtful in 0..=self.doubtful.len() {
            let doubtful = self.doubtful.get(..doubtful).unwrap_or_default();
            let state = [&*self.entered, doubtful].concat();
            let purged = state.iter().map(|&n| if n == PURGED { IN_ITS_PLACE } else { n });
            match self.purged {
                Some(true) => states.push(purged.collect()),
                Some(false) => states.extend([state.clone(), purged.collect()]),
                None => states.push(state),
            }
        }
        states
    }
}
