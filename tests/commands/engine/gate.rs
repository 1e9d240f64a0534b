//! A command that holds the writer up until the test lets it go on.

use std::sync::{Condvar, Mutex};

use super::*;

static OPEN: Mutex<Option<bool>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Gated(pub u64);

impl Model for Gated {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
pub struct Pass;

impl Command<Gated> for Pass {
    type Output = ();
    type Rejection = ();

    fn apply(self, model: &mut Gated, _: &mut Context<'_, Gated>) -> Result<(), ()> {
        let mut open = OPEN.lock().unwrap();
        *open = open.or(Some(false)); // says that a command has arrived
        CHANGED.notify_all();
        while *open != Some(true) {
            open = CHANGED.wait(open).unwrap();
        }
        model.0 += 1;
        Ok(())
    }
}

prevalence::commands! { Gated { 1 => Pass } }

pub fn wait_for_arrival() {
    let mut open = OPEN.lock().unwrap();
    while open.is_none() {
        open = CHANGED.wait(open).unwrap();
    }
}

pub fn open() {
    *OPEN.lock().unwrap() = Some(true);
    CHANGED.notify_all();
}
