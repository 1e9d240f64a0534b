//! Models that do not come out of their encoding as they went in.

use super::*;

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Hashed(pub HashMap<u32, u32>);
impl Model for Hashed {
    type Event = ();
}
#[derive(Serialize, Deserialize)]
pub struct Put(pub u32);
impl Command<Hashed> for Put {
    type Output = ();
    type Rejection = ();
    fn apply(self, model: &mut Hashed, _: &mut Context<'_, Hashed>) -> Result<(), ()> {
        model.0.extend((0..self.0).map(|key| (key, self.0)));
        Ok(())
    }
}
#[derive(Serialize, Deserialize)]
pub struct PutClock;
impl Command<Hashed> for PutClock {
    type Output = ();
    type Rejection = ();
    fn apply(self, model: &mut Hashed, _: &mut Context<'_, Hashed>) -> Result<(), ()> {
        model.0.insert(0, clock_ns() as u32);
        Ok(())
    }
}
prevalence::commands! { Hashed { 1 => Put, 2 => PutClock } }

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Gappy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    pub number: u64,
}
impl Model for Gappy {
    type Event = ();
}
#[derive(Serialize, Deserialize)]
pub struct Clear;
impl Command<Gappy> for Clear {
    type Output = ();
    type Rejection = ();
    fn apply(self, model: &mut Gappy, _: &mut Context<'_, Gappy>) -> Result<(), ()> {
        *model = Gappy { text: None, number: 900 };
        Ok(())
    }
}
prevalence::commands! { Gappy { 1 => Clear } }
