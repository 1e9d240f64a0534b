//! A model whose command misuses a handle to its own database.

use std::sync::Mutex;

use super::*;

pub static HANDLE: Mutex<Option<Database<Nested>>> = Mutex::new(None);

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Nested;

impl Model for Nested {
    type Event = ();
}

#[derive(Serialize, Deserialize)]
pub struct Nest;

impl Command<Nested> for Nest {
    type Output = bool;
    type Rejection = ();

    fn apply(self, _: &mut Nested, _: &mut Context<'_, Nested>) -> Result<bool, ()> {
        let handle = HANDLE.lock().unwrap().take().unwrap();
        Ok(matches!(handle.execute(Nest), Err(ExecuteError::Reentrant)))
    }
}

prevalence::commands! { Nested { 1 => Nest } }
