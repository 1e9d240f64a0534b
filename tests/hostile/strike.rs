//! Makes a hazard happen, and undoes it.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use prevalence::Database;

use super::diary::{self, Diary};
use super::hazard::Hazard;
use super::neighbor::Neighbor;
use super::process::{self, Forked};
use super::scene::Scene;
use crate::common::{copy_directory, segments};

/// One hazard in one scene.
pub struct Striker {
    pub hazard: Hazard,
    scene: Scene,
    /// A handle for the forked child.
    pub handle: Mutex<Option<Database<Diary>>>,
    is_on: AtomicBool,
    /// Why the hazard cannot happen here.
    inapplicable: Mutex<Option<String>>,
    pub neighbor: Mutex<Option<Neighbor>>,
    pub forked: Mutex<Option<Forked>>,
    signals: Mutex<Option<process::Signals>>,
}

impl Striker {
    pub fn new(hazard: Hazard, scene: &Scene) -> Self {
        Self {
            hazard,
            scene: scene.clone(),
            handle: Mutex::default(),
            is_on: AtomicBool::new(false),
            inapplicable: Mutex::default(),
            neighbor: Mutex::default(),
            forked: Mutex::default(),
            signals: Mutex::default(),
        }
    }

    pub fn inapplicable(&self) -> Option<String> {
        self.inapplicable.lock().unwrap().clone()
    }

    pub fn strike(&self) {
        self.is_on.store(true, Ordering::SeqCst);
        if let Err(error) = self.try_to_strike() {
            *self.inapplicable.lock().unwrap() = Some(error.to_string());
        }
    }

    fn try_to_strike(&self) -> std::io::Result<()> {
        let Scene { path, away, other, disk, theirs, .. } = &self.scene;
        match self.hazard {
            Hazard::Nothing => {}
            Hazard::Chdir => std::env::set_current_dir(theirs.parent().unwrap())?,
            Hazard::Moved => std::fs::rename(path, away)?,
            Hazard::Replaced => {
                std::fs::rename(path, away)?;
                std::fs::rename(other, path)?;
            }
            Hazard::ReplacedAtWork => {
                std::fs::rename(path, away)?;
                *self.neighbor.lock().unwrap() = Some(Neighbor::start(path));
            }
            // Files come and go meanwhile.
            Hazard::Removed => while std::fs::remove_dir_all(path).is_err() {},
            Hazard::LockRemoved => std::fs::remove_file(path.join("LOCK"))?,
            Hazard::LockReplaced => {
                std::fs::remove_file(path.join("LOCK"))?;
                std::fs::write(path.join("LOCK"), "")?;
            }
            Hazard::JournalMoved => std::fs::rename(path.join("journal"), away)?,
            Hazard::JournalReplaced => self.exchange("journal")?,
            Hazard::SnapshotsReplaced => self.exchange("snapshots")?,
            Hazard::ArchiveReplaced => self.exchange("archive")?,
            Hazard::SegmentRemoved | Hazard::SegmentReplaced => self.take_segment()?,
            Hazard::MountedOver => process::mount_memory(path, 1 << 20)?,
            Hazard::ReadOnly => process::make_read_only(disk, true)?,
            Hazard::FullDisk => fill_up(&disk.join("ballast")),
            Hazard::NoRights => process::set_mode(path, 0o000)?,
            Hazard::OtherOwner => process::as_root(|| {
                process::set_mode(path, 0o700)?;
                std::os::unix::fs::chown(path, Some(0), Some(0))
            })?,
            Hazard::Fork => {
                let handle = self.handle.lock().unwrap().take();
                *self.forked.lock().unwrap() = Some(Forked::start(&self.scene, handle));
            }
            Hazard::NoDescriptorOnce | Hazard::NoDescriptors => process::limit_descriptors(3),
            Hazard::NoMemory => process::limit_memory(true),
            Hazard::Signals => *self.signals.lock().unwrap() = Some(process::Signals::begin()),
            Hazard::ClockForward => process::move_clock(10 * YEAR_S)?,
            Hazard::ClockBack => process::move_clock(-20 * YEAR_S)?,
            Hazard::ApplyPanics => arm(diary::APPLY),
            Hazard::ClonePanics => arm(diary::CLONE),
            Hazard::DropPanics => arm(diary::DROP),
            Hazard::SerializePanics => arm(diary::SERIALIZE),
            Hazard::DeserializePanics => arm(diary::DESERIALIZE),
            Hazard::Unreadable => arm(diary::UNREADABLE),
        }
        Ok(())
    }

    /// Replaces a directory inside our database by that of another database.
    fn exchange(&self, name: &str) -> std::io::Result<()> {
        let Scene { path, away, other, .. } = &self.scene;
        std::fs::rename(path.join(name), away)?;
        copy_directory(&other.join(name), &path.join(name));
        Ok(())
    }

    fn take_segment(&self) -> std::io::Result<()> {
        let newest = segments(&self.scene.path).pop();
        let newest = newest.ok_or_else(|| std::io::Error::other("there is no segment"))?;
        if self.hazard == Hazard::SegmentReplaced {
            // At once: a reader must not come upon half of a copy.
            let copy = self.scene.disk.join("copy of a segment");
            std::fs::copy(&newest, &copy)?;
            std::fs::rename(copy, &newest)?;
        } else {
            std::fs::remove_file(&newest)?;
        }
        // Other threads go on meanwhile: what was the newest may be a segment that was left, and an
        // older one that is damaged is another hazard.
        match segments(&self.scene.path).pop() {
            Some(later) if later > newest => {
                Err(std::io::Error::other("the journal went on to another segment meanwhile"))
            }
            _ => Ok(()),
        }
    }

    /// Undoes the hazard, if it can be undone.
    pub fn lift(&self) {
        if !self.is_on.swap(false, Ordering::SeqCst) || self.inapplicable().is_some() {
            return;
        }
        let Scene { path, away, other, disk, .. } = &self.scene;
        match self.hazard {
            Hazard::Moved => std::fs::rename(away, path).unwrap(),
            Hazard::Replaced => {
                std::fs::rename(path, other).unwrap();
                std::fs::rename(away, path).unwrap();
            }
            Hazard::ReplacedAtWork => {
                std::fs::rename(path, disk.join("neighbor.db")).unwrap();
                std::fs::rename(away, path).unwrap();
            }
            Hazard::JournalMoved => self.put_back("journal"),
            Hazard::JournalReplaced => self.put_back("journal"),
            Hazard::SnapshotsReplaced => self.put_back("snapshots"),
            Hazard::ArchiveReplaced => self.put_back("archive"),
            Hazard::MountedOver => process::unmount(path),
            Hazard::ReadOnly => process::make_read_only(disk, false).unwrap(),
            Hazard::FullDisk => std::fs::remove_file(disk.join("ballast")).unwrap(),
            Hazard::NoRights => process::set_mode(path, 0o755).unwrap(),
            Hazard::OtherOwner => process::as_root(|| {
                std::os::unix::fs::chown(path, Some(process::NOBODY), Some(process::NOBODY))
            })
            .unwrap(),
            Hazard::NoDescriptorOnce | Hazard::NoDescriptors => process::limit_descriptors(1024),
            Hazard::NoMemory => process::limit_memory(false),
            Hazard::Signals => drop(self.signals.lock().unwrap().take()),
            _ => diary::ARMED.store(0, Ordering::SeqCst),
        }
    }

    fn put_back(&self, name: &str) {
        let Scene { path, away, .. } = &self.scene;
        let inner = path.join(name);
        if inner.exists() {
            std::fs::rename(&inner, self.scene.disk.join("replaced")).unwrap();
        }
        std::fs::rename(away, inner).unwrap();
    }
}

const YEAR_S: i64 = 365 * 24 * 3600;

fn arm(what: u32) {
    diary::ARMED.store(what, Ordering::SeqCst);
}

/// Fills every free byte.
fn fill_up(ballast: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(ballast).unwrap();
    for piece in [64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![1; piece]).is_ok() {}
    }
}
