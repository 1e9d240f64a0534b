//! One cell: a hazard at a position of a step, in a process of its own.

use std::path::Path;
use std::sync::Arc;

use super::hazard::Hazard;
use super::judge::{is_untouched, judge, temporaries};
use super::play::Play;
use super::scene::Scene;
use super::step::Step;
use super::strike::Striker;
use super::watch::{Position, Watch};
use super::{neighbor, process};
use crate::common::child::{alone, test_name};
use crate::common::quiet_panics;

/// The size of a disk that becomes full.
const SMALL_DISK_BYTES: u64 = 4 << 20;

/// A hazard, and where it happens.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub hazard: Hazard,
    pub step: Step,
    pub position: Position,
    pub ending: Ending,
}

/// What happens after the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The database is used further; then the hazard is undone; then the database is closed.
    UndoneThenClosed,
    /// The database is used further, and closed while the hazard exists.
    UsedAndClosed,
    /// The database is closed at once, while the hazard exists.
    Closed,
}

pub const ENDINGS: [Ending; 3] = [Ending::UndoneThenClosed, Ending::UsedAndClosed, Ending::Closed];

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { hazard, step, position, ending } = self;
        write!(f, "{hazard:?} {step:?} {position} {ending:?}")
    }
}

impl std::str::FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [hazard, step, position, ending] = *text.split(' ').collect::<Vec<_>>() else {
            return Err(format!("a cell is a hazard, a step, a position and an ending: {text}"));
        };
        let ending = ENDINGS.into_iter().find(|known| format!("{known:?}") == ending);
        Ok(Self {
            hazard: Hazard::named(hazard),
            step: Step::named(step),
            position: Position::parse(position),
            ending: ending.ok_or_else(|| format!("no such ending: {text}"))?,
        })
    }
}

/// The result of a cell.
pub enum Verdict {
    /// The step has fewer operations.
    NotReached,
    /// The hazard cannot happen there.
    Inapplicable(String),
    Judged {
        violations: Vec<String>,
        struck_at: String,
        said: Vec<String>,
    },
}

/// Not a test of its own: plays the cell that the environment names.
#[test]
#[ignore = "what the child processes run"]
fn child() {
    let Ok(named) = std::env::var(super::CELL) else { return };
    let cell: Cell = named.parse().unwrap();
    if std::env::var_os("PREVALENCE_HOSTILE_LOUD").is_none() {
        quiet_panics();
    }
    let root = std::env::var(super::ROOT).unwrap();
    let templates = std::env::var(super::TEMPLATES).unwrap();
    match cell.play(Path::new(&root), Path::new(&templates)) {
        Verdict::NotReached => println!("said not reached"),
        Verdict::Inapplicable(why) => println!("said inapplicable: {why}"),
        Verdict::Judged { violations, struck_at, said } => {
            said.iter().for_each(|error| println!("said error: {error}"));
            violations.iter().for_each(|wrong| println!("said violation: {wrong}"));
            println!("said struck at {struck_at}");
            println!("said judged");
        }
    }
}

/// What this test binary is told so that it runs [`child`].
pub fn child_arguments() -> [&'static str; 6] {
    alone(test_name!(child))
}

impl Cell {
    fn closes_under_it(self) -> bool {
        self.ending != Ending::UndoneThenClosed
    }

    /// Runs the cell in this process, and judges it.
    pub fn play(self, root: &Path, templates: &Path) -> Verdict {
        let Self { hazard, step, position, .. } = self;
        let scene = Scene::at(root, templates);
        scene.make();
        if let Err(error) = self.mount(&scene) {
            return Verdict::Inapplicable(error.to_string());
        }
        scene.furnish(step.template());
        if hazard.needs_another_user() {
            process::become_nobody(&scene);
        }
        let striker = Arc::new(Striker::new(hazard, &scene));
        let mut play = Play::new(&scene, &striker, step.retention());
        if hazard == Hazard::Chdir {
            play.work_beside_it();
        }
        step.prepare(&mut play);
        let watch = Watch::begin(striker.clone(), position);
        if position == Position::Before || hazard.is_everywhere() {
            watch.strike();
        }
        watch.count(hazard.needs_a_place() && (step.is_offline() || step.opens()));
        play.lets_panics_go_on(hazard.is_of_users_code() && (step.is_offline() || step.opens()));
        step.run(&mut play);
        play.lets_panics_go_on(false);
        watch.count_no_more();
        if position == Position::Behind {
            watch.strike();
        }
        if !watch.has_struck() {
            return Verdict::NotReached;
        }
        if let Some(why) = striker.inapplicable() {
            return Verdict::Inapplicable(why);
        }
        self.go_on(&mut play);
        self.end(&mut play, &striker, &watch);
        let struck_at = watch.struck_at();
        Verdict::Judged { violations: play.violations, struck_at, said: play.said }
    }

    fn mount(self, scene: &Scene) -> std::io::Result<()> {
        if !self.hazard.needs_mounts() {
            return Ok(());
        }
        process::unshare_mounts()?;
        match self.hazard {
            Hazard::FullDisk => process::mount_memory(&scene.disk, SMALL_DISK_BYTES),
            Hazard::ReadOnly => process::mount_itself(&scene.disk),
            _ => Ok(()),
        }
    }

    /// Uses the database further, as if nothing had happened.
    fn go_on(self, play: &mut Play<'_>) {
        let hazard = self.hazard;
        if hazard.is_for_one_operation()
            || hazard == Hazard::NoMemory
            || self.ending == Ending::Closed
        {
            return;
        }
        if self.step == Step::CommitFirst
            && hazard == Hazard::FullDisk
            && self.position == Position::Before
            && !play.said.is_empty()
        {
            let said = play.said.clone();
            play.wrong(format!("the reserve was not given: {said:?}"));
        }
        let limited = matches!(hazard, Hazard::NoDescriptors);
        if !hazard.leads_elsewhere() && !limited && !hazard.needs_another_user() {
            play.try_to_intrude();
        }
        (0..4).for_each(|_| play.enter(true));
        play.enter(false);
        if self.closes_under_it() {
            play.snapshot();
        }
    }

    /// Ends the run and undoes the hazard, in one order or the other. Then it judges everything.
    fn end(self, play: &mut Play<'_>, striker: &Striker, watch: &Watch) {
        let (hazard, scene) = (self.hazard, play.scene);
        if self.closes_under_it() && !hazard.may_end_the_process() {
            if hazard.is_final() {
                play.back_up("rescue.db");
            }
            play.close();
        }
        let has_looked = watch.looks_since() > 0;
        let nothing_said = play.said.is_empty() && play.violations.is_empty();
        let is_all_well = nothing_said && play.is_closed_well && play.has_begun && has_looked;
        if is_all_well && hazard.needs_a_place() {
            return self.stands_where_it_was(play);
        }
        if let Some(neighbor) = striker.neighbor.lock().unwrap().take() {
            neighbor.end();
        }
        striker.lift();
        self.after_the_remedy(play);
        watch.end();
        drop(striker.handle.lock().unwrap().take());
        self.check_all(play);
        drop(striker.forked.lock().unwrap().take());
        if hazard == Hazard::ReplacedAtWork {
            let expected = [neighbor::entries()];
            let path = scene.disk.join("neighbor.db");
            if let Err(wrong) = judge(&path, &expected, prevalence::Retention::Archive) {
                play.wrong(format!("another process's database: {wrong}"));
            }
        }
    }

    /// Checks our database in its place when no call has failed, although the engine has checked
    /// the place. It must be exact, and the hazard must not be one of the place.
    fn stands_where_it_was(self, play: &mut Play<'_>) {
        let held = judge(&play.scene.path, &play.may_stand(), self.step.retention());
        // An open takes the archive as it finds it, and who reads it says whose it is.
        let is_archive = self.hazard == Hazard::ArchiveReplaced && self.step.opens();
        match held {
            Ok(()) if self.hazard.is_of_the_place() && !is_archive => play.wrong("not noticed"),
            Ok(()) => {}
            Err(wrong) => play.wrong(format!("not noticed, and lost where it was: {wrong}")),
        }
    }

    /// Continues the run if nothing is in doubt, and ends it.
    fn after_the_remedy(self, play: &mut Play<'_>) {
        let hazard = self.hazard;
        play.check_memory();
        if hazard.only_refuses() && play.is_poisoned {
            play.wrong("poisoned, though nothing is in doubt");
        }
        if hazard.is_harmless() && !play.said.is_empty() {
            let said = play.said.clone();
            play.wrong(format!("something failed: {said:?}"));
        }
        if hazard.is_final() {
            if !play.is_rescued() {
                play.back_up("rescue.db");
            }
        } else if !play.is_poisoned && play.database.is_some() {
            let said = play.said.len();
            play.enter(false);
            if play.said.len() > said {
                let why = play.said.last().cloned();
                play.wrong(format!("it does not go on after the remedy: {why:?}"));
            }
        }
        play.check_memory();
        play.close();
    }

    /// Checks that the first error says what happened.
    fn check_errors(self, play: &mut Play<'_>) {
        let words = self.hazard.words();
        let says = |error: &&String| !words.iter().any(|word| error.contains(word));
        if let Some(error) = play.said.first().filter(says).cloned() {
            play.wrong(format!("an error that does not say what happened: {error}"));
        }
    }

    fn check_all(self, play: &mut Play<'_>) {
        let scene = play.scene;
        self.check_errors(play);
        for (copy, entered) in play.copies.clone() {
            if let Err(wrong) = judge(&copy, &[entered], prevalence::Retention::Archive) {
                play.wrong(format!("the copy {}: {wrong}", copy.display()));
            }
        }
        if self.hazard.is_final() {
            if !play.is_rescued() && !play.said.is_empty() && play.has_begun {
                play.wrong("it failed, and no backup could be made");
            }
        } else if let Err(wrong) = judge(&scene.path, &play.may_stand(), self.step.retention()) {
            play.wrong(format!("after the remedy: {wrong}"));
        }
        if !self.hazard.is_final() {
            let mut left = temporaries(&scene.root);
            if matches!(self.hazard, Hazard::NoDescriptors | Hazard::ReadOnly) {
                // A half-made copy cannot be removed there; its name says what it is.
                left.retain(|path| !Path::new(path).starts_with(&scene.copies));
            }
            if !left.is_empty() {
                play.wrong(format!("temporary files are left: {left:?}"));
            }
        }
        for (path, template) in scene.untouched() {
            if !is_untouched(path, &template) {
                play.wrong(format!("another database was changed: {}", path.display()));
            }
        }
    }
}
