//! The kinds of damage: each function returns every case of one kind for a specimen.

use std::path::Path;

use super::judge::{Damage, Specimen};

/// How closely a file is tested. Its preallocated zeros are many, and all equal.
#[derive(Clone, Copy, PartialEq)]
pub enum Look {
    /// Every bit, every length.
    All,
    /// Every bit and length in and near bytes that are not zero, and some of the others.
    Close,
    /// In bytes that are not zero, one bit of every second byte, and every third length.
    Glance,
}

/// Returns the positions in a file to test, and whether each is near a byte that is not zero.
fn positions(file: &[u8], look: Look) -> Vec<(usize, bool)> {
    let near = |at: usize| {
        let around = &file[at.saturating_sub(8)..file.len().min(at + 9)];
        at + 8 >= file.len() || around.iter().any(|&byte| byte != 0)
    };
    let near = |at: usize| look == Look::All || near(at);
    let chosen = (0..file.len()).map(|at| (at, near(at)));
    chosen.filter(|&(at, near)| near || at % 499 == 0).collect()
}

/// Returns the part of the cases that this process was asked to run; by default all of them.
pub fn part(damages: impl Iterator<Item = Damage> + Send) -> impl Iterator<Item = Damage> + Send {
    let told = std::env::var("PREVALENCE_DAMAGE_PART").unwrap_or_else(|_| "1/1".to_owned());
    let (part, parts) = told.split_once('/').expect("PREVALENCE_DAMAGE_PART is like 2/5");
    let (part, parts): (usize, usize) = (part.parse().unwrap(), parts.parse().unwrap());
    damages.skip(part - 1).step_by(parts)
}

pub fn flips(specimen: &Specimen, look: Look) -> impl Iterator<Item = Damage> + Send {
    specimen.files.iter().flat_map(move |(name, file)| {
        let name = name.clone();
        positions(file, look).into_iter().flat_map(move |(at, near)| {
            let name = name.clone();
            let one = at / 2 % 8;
            let bits = match look {
                Look::Glance if near && at % 2 == 1 => 0..0,
                Look::All | Look::Close if near => 0..8,
                _ => one..one + 1,
            };
            bits.map(move |bit| {
                let name = name.clone();
                let what = format!("bit {bit} of byte {at} of {}", name.display());
                Damage::new(what, move |files| files.get_mut(&name).unwrap()[at] ^= 1 << bit)
            })
        })
    })
}

/// Makes a damage that gives one file another content.
pub fn replaced(what: String, name: &Path, content: Vec<u8>) -> Damage {
    let name = name.to_owned();
    Damage::new(format!("{}: {what}", name.display()), move |files| {
        files.insert(name, content);
    })
}

pub fn cuts(specimen: &Specimen, look: Look) -> impl Iterator<Item = Damage> + Send {
    specimen.files.iter().flat_map(move |(name, file)| {
        let lengths = positions(file, look).into_iter().map(|(length, _)| length);
        let lengths = lengths.filter(move |length| look != Look::Glance || length % 3 == 0);
        lengths
            .map(|length| replaced(format!("cut to {length} bytes"), name, file[..length].to_vec()))
    })
}

/// Appends zeros, ones, the file's own first bytes, and a copy of the whole file.
pub fn extensions(specimen: &Specimen) -> impl Iterator<Item = Damage> + Send {
    specimen.files.iter().flat_map(|(name, file)| {
        [1, 3, 8, 511, 512, 4096, 70_000].into_iter().flat_map(move |more| {
            let own = file.iter().copied().chain(std::iter::repeat(0x5a)).take(more).collect();
            let tails: [Vec<u8>; 3] = [vec![0; more], vec![0xff; more], own];
            tails.into_iter().enumerate().map(move |(kind, tail)| {
                let longer = [&file[..], &tail[..]].concat();
                replaced(format!("{more} bytes of kind {kind} behind it"), name, longer)
            })
        })
    })
}

/// Damages every block of 512 bytes: it is filled with zeros, filled with ones, and replaced by the
/// block before or after it, as by a disk that writes to the wrong place.
pub fn blocks(specimen: &Specimen) -> impl Iterator<Item = Damage> + Send {
    specimen.files.iter().flat_map(|(name, file)| {
        (0..file.len()).step_by(512).flat_map(move |at| {
            let end = file.len().min(at + 512);
            let other = |from: usize| -> Vec<u8> {
                let rest = file.get(from..).unwrap_or(&[]).iter().copied();
                rest.chain(std::iter::repeat(0)).take(end - at).collect()
            };
            let size = end - at;
            let fillings =
                [vec![0; size], vec![0xff; size], other(at.saturating_sub(512)), other(at + 512)];
            let changed = fillings
                .into_iter()
                .enumerate()
                .filter(move |(_, filling)| filling[..] != file[at..end]);
            changed.map(move |(kind, filling)| {
                let whole = [&file[..at], &filling[..], &file[end..]].concat();
                replaced(format!("block at {at} became kind {kind}"), name, whole)
            })
        })
    })
}

/// Deletes and empties every file and every two files, exchanges every two, and copies each to
/// another's name.
pub fn exchanges(specimen: &Specimen) -> Vec<Damage> {
    let names = specimen.names();
    let mut damages = Vec::new();
    for one in &names {
        damages.push(replaced("emptied".to_owned(), one, Vec::new()));
        for other in &names {
            let (a, b) = (one.clone(), other.clone());
            let what = format!("deleted {} and {}", a.display(), b.display());
            damages.push(Damage::new(what, move |files| {
                files.remove(&a);
                files.remove(&b);
            }));
            if one == other {
                continue;
            }
            damages.push(replaced(
                format!("became {}", other.display()),
                one,
                specimen.files[other].clone(),
            ));
            let (a, b) = (one.clone(), other.clone());
            let what = format!("exchanged {} and {}", a.display(), b.display());
            damages.push(Damage::new(what, move |files| {
                let of_a = files.remove(&a).unwrap();
                let of_b = files.insert(b, of_a).unwrap();
                files.insert(a, of_b);
            }));
        }
    }
    damages
}
