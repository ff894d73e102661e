//! What a power cut leaves of the files that the shim watched.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What becomes of writes that no sync made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// All are lost.
    Everything,
    /// Each sector of each of them is lost or kept by a draw, as a disk with a cache may: writes are torn, and later ones outlive earlier ones.
    SomeSectors,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cut {
    /// Writes in the life that the kill ended.
    pub writes: usize,
    /// Syncs in it.
    pub syncs: usize,
    /// Writes that no sync had made durable.
    pub unsynced: usize,
}

const MAGIC: u32 = 0x5057_5253;
const HEAD: usize = 48;
/// What a disk writes whole.
const SECTOR: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    Write,
    Truncate,
    Sync,
    SyncFolder,
    Unlink,
}

/// One entry of the journal; the same layout is in shim.c.
struct Record {
    kind: Kind,
    number: u64,
    offset: u64,
    old_size: u64,
    path: PathBuf,
    old: Vec<u8>,
    new: Vec<u8>,
}

pub(super) fn cut(home: &Path, disk: &Path, forget: Forget) -> Cut {
    let journal = home.join("journal");
    let bytes = std::fs::read(&journal).expect("the shim's journal");
    let records = parse(&bytes);
    let count = |kind| records.iter().filter(|it| it.kind == kind).count();
    let (writes, syncs) = (count(Kind::Write), count(Kind::Sync));
    assert!(writes > 0, "the shim saw no write: was it in place?");
    let undone = undone(&records);
    for record in undone.iter().rev() {
        undo(record, &home.join("graveyard"));
    }
    if forget == Forget::SomeSectors {
        undone.iter().for_each(|record| keep_some(record));
    }
    // It is mapped, never synced, and made anew by whoever opens the database first.
    for entry in std::fs::read_dir(disk).expect("the disk").flatten() {
        if entry.path().to_string_lossy().ends_with("-shm") {
            std::fs::remove_file(entry.path()).expect("the disk");
        }
    }
    for grave in std::fs::read_dir(home.join("graveyard")).expect("a folder") {
        std::fs::remove_file(grave.expect("a file").path()).expect("a file");
    }
    std::fs::write(&journal, b"").expect("the shim's journal");
    let unsynced = undone.iter().filter(|it| it.kind == Kind::Write).count();
    Cut {
        writes,
        syncs,
        unsynced,
    }
}

/// What is not durable, in the order in which it was done.
fn undone(records: &[Record]) -> Vec<&Record> {
    let (mut files, mut folders) = (HashMap::new(), HashMap::new());
    for record in records {
        let durable = match record.kind {
            Kind::Sync => &mut files,
            Kind::SyncFolder => &mut folders,
            _ => continue,
        };
        let upto: &mut u64 = durable.entry(record.path.as_path()).or_default();
        *upto = record.number.max(*upto);
    }
    let upto = |of: &HashMap<&Path, u64>, path: &Path| of.get(path).copied().unwrap_or(0);
    // Names whose file of before is gone for good: what was written to that one means nothing now.
    let mut renewed = HashSet::new();
    let mut undone = Vec::new();
    for record in records.iter().rev() {
        match record.kind {
            Kind::Sync | Kind::SyncFolder => {}
            Kind::Create | Kind::Unlink => {
                let folder = record.path.parent().expect("a folder");
                if record.number > upto(&folders, folder) {
                    undone.push(record);
                } else {
                    renewed.insert(record.path.as_path());
                }
            }
            Kind::Write | Kind::Truncate => {
                let durable = record.number <= upto(&files, &record.path);
                if !durable && !renewed.contains(record.path.as_path()) {
                    undone.push(record);
                }
            }
        }
    }
    undone.reverse();
    undone
}

fn undo(record: &Record, graveyard: &Path) {
    match record.kind {
        Kind::Create => {
            let _ = std::fs::remove_file(&record.path);
        }
        Kind::Unlink => {
            let grave = graveyard.join(record.number.to_string());
            std::fs::rename(grave, &record.path).expect("a file that was kept");
        }
        Kind::Write | Kind::Truncate => {
            let file = file(&record.path);
            if record.kind == Kind::Truncate {
                file.set_len(record.old_size).expect("the disk");
            }
            file.write_all_at(&record.old, record.offset)
                .expect("the disk");
            file.set_len(record.old_size).expect("the disk");
        }
        Kind::Sync | Kind::SyncFolder => {}
    }
}

fn keep_some(record: &Record) {
    // A file whose name is lost is lost whole.
    if !record.path.exists() {
        return;
    }
    match record.kind {
        Kind::Write => {
            let file = file(&record.path);
            let mut at = record.offset;
            let mut rest = record.new.as_slice();
            while !rest.is_empty() {
                let to_border = SECTOR - usize::try_from(at % SECTOR as u64).expect("small");
                let (sector, after) = rest.split_at(to_border.min(rest.len()));
                if rand::random() {
                    file.write_all_at(sector, at).expect("the disk");
                }
                at += sector.len() as u64;
                rest = after;
            }
        }
        Kind::Truncate if rand::random() => {
            file(&record.path).set_len(record.offset).expect("the disk");
        }
        _ => {}
    }
}

fn file(path: &Path) -> File {
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    // A record that the kill tore was never followed by what it tells of.
    while let Some((record, rest)) = one(bytes) {
        records.push(record);
        bytes = rest;
    }
    records
}

fn one(bytes: &[u8]) -> Option<(Record, &[u8])> {
    use std::os::unix::ffi::OsStringExt as _;
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!(word(0), MAGIC, "the shim's journal is broken");
    let kind = match word(4) {
        1 => Kind::Create,
        2 => Kind::Write,
        3 => Kind::Truncate,
        4 => Kind::Sync,
        5 => Kind::SyncFolder,
        6 => Kind::Unlink,
        other => panic!("{other} is no record of the shim's"),
    };
    let (path, rest) = rest.split_at_checked(word(32) as usize)?;
    let (old, rest) = rest.split_at_checked(word(36) as usize)?;
    let (new, rest) = rest.split_at_checked(word(40) as usize)?;
    let record = Record {
        kind,
        number: long(8),
        offset: long(16),
        old_size: long(24),
        path: std::ffi::OsString::from_vec(path.to_vec()).into(),
        old: old.to_vec(),
        new: new.to_vec(),
    };
    Some((record, rest))
}
