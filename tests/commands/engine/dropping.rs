//! A model whose command drops the last handle to its own database.

use std::sync::Mutex;

use super::*;

pub static HANDLE: Mutex<Option<Database<Dropper>>> = Mutex::new(None);

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Dropper;

impl Model for Dropper {
    type Event = ();
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Last;

impl Command<Dropper> for Last {
    type Output = ();
    type Rejection = ();

    fn apply(self, _: &mut Dropper, _: &mut Context<'_, Dropper>) -> Result<(), ()> {
        drop(HANDLE.lock().unwrap().take());
        Ok(())
    }
}

prevalence::commands! { Dropper { 1 => Last } }
