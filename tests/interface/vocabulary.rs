//! Tests of tags, names and types over the years: what old journals mean to new programs.

use std::path::Path;

use prevalence::{Command, Context, Database, Error, Model};
use serde::{Deserialize, Serialize};

use crate::common::{self, temporary};

type Never = std::convert::Infallible;

/// A release of one application: the model is always called Bank.
macro_rules! bank {
    () => {
        #[derive(Clone, Default, Debug, PartialEq, Serialize, Deserialize)]
        pub struct Bank(pub Vec<String>);

        impl Model for Bank {
            type Event = ();
        }
    };
}

macro_rules! command {
    ($command:ty, $self:ident => $text:expr) => {
        impl Command<Bank> for $command {
            type Output = ();
            type Rejection = Never;

            fn apply($self, bank: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), Never> {
                bank.0.push($text);
                Ok(())
            }
        }
    };
}

mod first {
    use super::*;
    bank!();
    #[derive(Serialize, Deserialize)]
    pub struct Deposit(pub u64);
    #[derive(Serialize, Deserialize)]
    pub struct Withdraw(pub u32);
    command!(Deposit, self => format!("deposit {}", self.0));
    command!(Withdraw, self => format!("withdraw {}", self.0));
    prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw } }
}

/// Withdraw has a reason now; the old type is called WithdrawV1.
mod second {
    use super::*;
    bank!();
    #[derive(Serialize, Deserialize)]
    pub struct Deposit(pub u64);
    #[derive(Serialize, Deserialize)]
    pub struct WithdrawV1(pub u32);
    #[derive(Serialize, Deserialize)]
    pub struct Withdraw(pub u64, pub String);
    impl From<WithdrawV1> for Withdraw {
        fn from(old: WithdrawV1) -> Self {
            Self(old.0.into(), "unknown".to_owned())
        }
    }
    command!(Deposit, self => format!("deposit {}", self.0));
    command!(Withdraw, self => format!("withdraw {} for {}", self.0, self.1));
    prevalence::commands! {
        Bank { 1 => Deposit, 2 => WithdrawV1 as Withdraw, 3 => Withdraw }
    }
}

/// The current type was renamed only in the code; journals know it as Withdraw.
mod third {
    use super::*;
    bank!();
    #[derive(Serialize, Deserialize)]
    pub struct Deposit(pub u64);
    #[derive(Serialize, Deserialize)]
    pub struct Small(pub u32);
    #[derive(Serialize, Deserialize)]
    pub struct TakeOut(pub u64, pub String);
    impl From<Small> for TakeOut {
        fn from(old: Small) -> Self {
            Self(old.0.into(), "unknown".to_owned())
        }
    }
    command!(Deposit, self => format!("deposit {}", self.0));
    command!(TakeOut, self => format!("withdraw {} for {}", self.0, self.1));
    prevalence::commands! {
        Bank { 1 => Deposit, 2 => Small as TakeOut = "WithdrawV1" | "Withdraw", 3 => TakeOut = "Withdraw" }
    }
}

/// Model and command were renamed only in the code.
mod renamed {
    use super::*;
    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct House(pub Vec<String>);
    impl Model for House {
        type Event = ();
    }
    #[derive(Serialize, Deserialize)]
    pub struct PayIn(pub u64);
    impl Command<House> for PayIn {
        type Output = ();
        type Rejection = Never;
        fn apply(self, house: &mut House, _: &mut Context<'_, House>) -> Result<(), Never> {
            house.0.push(format!("deposit {}", self.0));
            Ok(())
        }
    }
    prevalence::commands! { House = "Bank" { 1 => PayIn = "Deposit" } }
}

mod renumbered {
    use super::*;
    bank!();
    #[derive(Serialize, Deserialize)]
    pub struct Deposit(pub u64);
    #[derive(Serialize, Deserialize)]
    pub struct Withdraw(pub u32);
    command!(Deposit, self => format!("deposit {}", self.0));
    command!(Withdraw, self => format!("withdraw {}", self.0));
    prevalence::commands! { Bank { 2 => Deposit, 1 => Withdraw } }
}

/// Withdraw was removed.
mod removed {
    use super::*;
    bank!();
    #[derive(Serialize, Deserialize)]
    pub struct Deposit(pub u64);
    command!(Deposit, self => format!("deposit {}", self.0));
    prevalence::commands! { Bank { 1 => Deposit } }
}

/// Deposit has another shape under the same name and tag.
mod reshaped {
    use super::*;
    bank!();
    #[derive(Serialize, Deserialize)]
    pub struct Deposit(pub u64, pub u64);
    #[derive(Serialize, Deserialize)]
    pub struct Withdraw(pub u32);
    command!(Deposit, self => format!("deposit {} {}", self.0, self.1));
    command!(Withdraw, self => format!("withdraw {}", self.0));
    prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw } }
}

/// Deposit refuses now, and Withdraw panics.
mod stricter {
    use super::*;
    bank!();
    #[derive(Serialize, Deserialize)]
    pub struct Deposit(pub u64);
    #[derive(Serialize, Deserialize)]
    pub struct Withdraw(pub u32);
    impl Command<Bank> for Deposit {
        type Output = ();
        type Rejection = ();
        fn apply(self, _: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), ()> {
            if self.0 == 5 { Ok(()) } else { Err(()) }
        }
    }
    impl Command<Bank> for Withdraw {
        type Output = ();
        type Rejection = ();
        fn apply(self, _: &mut Bank, _: &mut Context<'_, Bank>) -> Result<(), ()> {
            panic!("on purpose")
        }
    }
    prevalence::commands! { Bank { 1 => Deposit, 2 => Withdraw } }
}

mod stranger {
    use super::*;
    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Library(pub Vec<String>);
    impl Model for Library {
        type Event = ();
    }
    prevalence::commands! { Library {} }
}

/// Makes what the first release leaves.
fn first_release(path: &Path) {
    let bank = Database::<first::Bank>::open(path).unwrap();
    bank.execute(first::Deposit(5)).unwrap();
    bank.execute(first::Withdraw(3)).unwrap();
    bank.close().unwrap();
}

#[test]
fn upcasting_reads_what_the_old_type_wrote() {
    let (_directory, path) = temporary();
    first_release(&path);
    let bank = Database::<second::Bank>::open(&path).unwrap();
    bank.execute(second::Withdraw(1, "rent".to_owned())).unwrap();
    drop(bank);
    // The second time, some segments know tag 2 by its old name and some by its new one.
    let bank = Database::<second::Bank>::open(&path).unwrap();
    let expected = ["deposit 5", "withdraw 3 for unknown", "withdraw 1 for rent"];
    assert_eq!(bank.view().0, expected);
    drop(bank);
    assert_eq!(Database::<third::Bank>::open(&path).unwrap().view().0, expected);
    assert_eq!(Database::<second::Bank>::open(&path).unwrap().view().0, expected);
}

#[test]
fn renamed_types_keep_their_names_in_the_journal() {
    let (_directory, path) = temporary();
    let bank = Database::<first::Bank>::open(&path).unwrap();
    bank.execute(first::Deposit(5)).unwrap();
    drop(bank);
    let house = Database::<renamed::House>::open(&path).unwrap();
    house.execute(renamed::PayIn(6)).unwrap();
    drop(house);
    let bank = Database::<first::Bank>::open(&path).unwrap();
    assert_eq!(bank.view().0, ["deposit 5", "deposit 6"]);
}

#[test]
fn a_renumbered_tag_is_an_error_at_open() {
    let (_directory, path) = temporary();
    first_release(&path);
    match Database::<renumbered::Bank>::open(&path).unwrap_err() {
        Error::RenumberedTag { tag, journaled, declared, .. } => {
            let (tag, journaled, declared) = (tag, journaled.as_str(), declared.as_str());
            assert!(matches!(
                (tag, journaled, declared),
                (1, "Deposit", "Withdraw") | (2, "Withdraw", "Deposit")
            ));
        }
        other => panic!("{other}"),
    }
    Database::<first::Bank>::open(&path).unwrap();
}

#[test]
fn a_removed_command_is_named_by_the_journal_itself() {
    let (_directory, path) = temporary();
    first_release(&path);
    let error = Database::<removed::Bank>::open(&path).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownTag { sequence: 2, tag: 2, command, .. }
            if command == "Withdraw"),
        "{error}"
    );
}

#[test]
fn replay_that_diverges_names_sequence_command_and_reason() {
    common::quiet_panics();
    let (_directory, path) = temporary();
    first_release(&path);
    let changed = Database::<reshaped::Bank>::open(&path).unwrap_err();
    assert!(
        matches!(&changed, Error::CommandChanged { sequence: 1, command, .. }
            if command == "Deposit"),
        "{changed}"
    );
    match Database::<stricter::Bank>::open(&path).unwrap_err() {
        Error::ReplayDiverged { sequence, command, reason } => {
            assert_eq!((sequence, command.as_str()), (2, "Withdraw"));
            assert!(reason.contains("panics"), "{reason}");
        }
        other => panic!("{other}"),
    }
    let (_directory, path) = temporary();
    let bank = Database::<first::Bank>::open(&path).unwrap();
    bank.execute(first::Deposit(4)).unwrap();
    drop(bank);
    let error = Database::<stricter::Bank>::open(&path).unwrap_err();
    assert!(error.to_string().contains("rejected"), "{error}");
}

#[test]
fn another_model_is_refused_by_name() {
    let (_directory, path) = temporary();
    first_release(&path);
    let error = Database::<stranger::Library>::open(&path).unwrap_err();
    assert!(
        matches!(&error, Error::WrongModel { expected, found, .. }
            if expected == "Library" && found == "Bank"),
        "{error}"
    );
}

/// A command whose `Serialize` and `Deserialize` disagree could never be replayed.
mod lopsided {
    use super::*;
    bank!();
    #[derive(Serialize, Deserialize)]
    pub struct Note {
        #[serde(skip_serializing_if = "Option::is_none")]
        pub text: Option<String>,
        pub number: u64,
    }
    command!(Note, self => format!("{:?} {}", self.text, self.number));
    /// serde leaves this field out both ways.
    #[derive(Serialize, Deserialize)]
    pub struct Forgetful {
        pub kept: u8,
        #[serde(skip)]
        pub skipped: u8,
    }
    command!(Forgetful, self => format!("{} {}", self.kept, self.skipped));
    prevalence::commands! { Bank { 1 => Note, 2 => Forgetful } }
}

#[test]
fn a_command_that_cannot_be_replayed_never_gets_into_the_journal() {
    let (_directory, path) = temporary();
    let bank = Database::<lopsided::Bank>::open(&path).unwrap();
    let refused = bank.execute(lopsided::Note { text: None, number: 900 }).unwrap_err();
    assert!(matches!(refused, prevalence::ExecuteError::Undecodable { .. }), "{refused:?}");
    let text = Some("hello".to_owned());
    bank.execute(lopsided::Note { text, number: 900 }).unwrap();
    // What is applied is what was journaled, so live and replayed models agree from the start.
    bank.execute(lopsided::Forgetful { kept: 1, skipped: 2 }).unwrap();
    let expected = ["Some(\"hello\") 900", "1 0"];
    assert_eq!(bank.view().0, expected);
    drop(bank);
    let bank = Database::<lopsided::Bank>::open(&path).unwrap();
    assert_eq!(bank.view().0, expected);
}

/// The vocabulary becomes durable with the first accepted command: a release that was only started
/// can be undone, even if it had to write again what a crash left.
#[test]
fn a_release_that_was_only_started_can_be_taken_back() {
    let opened_and_closed = |path: &Path| {
        let bank = Database::<second::Bank>::open(path).unwrap();
        bank.snapshot().unwrap();
        bank.close().unwrap();
    };
    // A new database, and one that was closed.
    let (_directory, path) = temporary();
    opened_and_closed(&path);
    for number in 1..=3 {
        let bank = Database::<first::Bank>::open(&path).unwrap();
        bank.execute(first::Withdraw(number)).unwrap();
        bank.close().unwrap();
        opened_and_closed(&path);
    }
    // What a killed process left: nothing states yet that its last command is durable.
    let image = path.with_extension("image");
    let bank = Database::<first::Bank>::open(&path).unwrap();
    bank.execute(first::Withdraw(4)).unwrap();
    common::copy_directory(&path, &image);
    bank.close().unwrap();
    drop(Database::<second::Bank>::open(&image).unwrap());
    let bank = Database::<first::Bank>::open(&image).unwrap();
    assert_eq!(bank.query(|bank| bank.0.len()), 4);
    bank.execute(first::Withdraw(5)).unwrap();
    bank.close().unwrap();
    // From its first command on there is no way back, and the error says why.
    let bank = Database::<second::Bank>::open(&image).unwrap();
    bank.execute(second::Deposit(1)).unwrap();
    bank.close().unwrap();
    let error = Database::<first::Bank>::open(&image).unwrap_err();
    assert!(matches!(&error, Error::RenumberedTag { tag: 2, .. }), "{error}");
    assert!(error.to_string().contains("newer release"), "{error}");
}
