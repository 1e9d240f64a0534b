//! Runs the recovery on the thread that becomes the writer afterwards. Knows nothing of how the
//! recovery works.
//!
//! Allocators such as glibc's give each thread a region of its own, and other threads cannot use
//! what was freed there. If one thread loaded the model and another replaced it piece by piece, the
//! process would end up with twice the memory: measured, 3.1 times the bare model instead of 1.2.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use super::report::Progress;
use crate::error::Error;
use crate::process::stack;

type Job = Box<dyn FnOnce() + Send>;

/// The thread. It ends when this is dropped.
pub(crate) struct LoadingThread {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

enum Step<R> {
    Progress(Progress),
    Done(std::thread::Result<R>),
}

impl LoadingThread {
    /// Starts the thread that becomes the writer of the database at `path`.
    pub(crate) fn start(path: &Path) -> Result<Self, Error> {
        Self::start_named("prevalence-writer", path)
    }

    pub(crate) fn start_named(name: &str, path: &Path) -> Result<Self, Error> {
        let (jobs, inbox) = bounded::<Job>(1);
        let work = move || inbox.into_iter().for_each(|job| job());
        let thread =
            stack::spawn(name.to_owned(), work).map_err(Error::io("start a thread for", path))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `load` on the thread and waits for it. `progress` is called on the calling thread. A
    /// panic on either thread continues on the calling thread.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        load: impl FnOnce(&mut (dyn FnMut(Progress) + Send)) -> R + Send + 'static,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> R {
        let (outbox, inbox) = bounded(1);
        self.send(Box::new(move || {
            // If nobody listens any more, the load still finishes.
            let mut tell = |progress| drop(outbox.send(Step::Progress(progress)));
            let loaded = catch_unwind(AssertUnwindSafe(|| load(&mut tell)));
            outbox.send(Step::Done(loaded)).ok();
        }));
        for step in inbox {
            match step {
                Step::Progress(made) => progress(made),
                Step::Done(Ok(loaded)) => return loaded,
                Step::Done(Err(panic)) => resume_unwind(panic),
            }
        }
        unreachable!("every load sends its end before it drops its channel")
    }

    /// Runs `body` on the thread from now on.
    pub(crate) fn go_on_with(mut self, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        self.send(Box::new(body));
        self.jobs = None;
        self.thread.take().expect("the thread is taken only here and in `drop`")
    }

    fn send(&self, job: Job) {
        let jobs =
            self.jobs.as_ref().expect("the channel is taken only by functions that consume this");
        jobs.send(job).expect("the thread takes jobs as long as this can send them");
    }
}

impl Drop for LoadingThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // After a failed open, the thread releases all that it holds of the directory.
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::report::Phase;

    fn thread() -> LoadingThread {
        LoadingThread::start(Path::new("x")).unwrap()
    }

    fn made(done: u64) -> Progress {
        Progress { phase: Phase::Snapshot, done, total: 3 }
    }

    #[test]
    fn progress_is_told_on_the_thread_that_waits_and_all_runs_on_the_other() {
        let here = std::thread::current().id();
        let mut told = Vec::new();
        let thread = thread();
        let there = thread.run(
            |progress| {
                (1..=3).for_each(|done| progress(made(done)));
                std::thread::current().id()
            },
            &mut |progress| {
                assert_eq!(std::thread::current().id(), here);
                told.push(progress.done);
            },
        );
        assert_ne!(there, here);
        assert_eq!(told, [1, 2, 3]);
        let (outbox, inbox) = bounded(1);
        let writer = thread.go_on_with(move || outbox.send(std::thread::current().id()).unwrap());
        assert_eq!(inbox.recv().unwrap(), there);
        writer.join().unwrap();
    }

    #[test]
    fn a_panic_on_either_side_comes_to_the_caller_once_the_thread_has_let_go() {
        let held = std::sync::Arc::new(());
        for on_load in [true, false] {
            let its = held.clone();
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let load = move |progress: &mut (dyn FnMut(Progress) + Send)| {
                    (1..=3).for_each(|done| progress(made(done)));
                    assert!(!on_load, "as asked");
                    its
                };
                thread().run(load, &mut |_| assert!(on_load, "as asked"))
            }));
            assert!(caught.is_err());
            assert_eq!(std::sync::Arc::strong_count(&held), 1);
        }
    }
}
