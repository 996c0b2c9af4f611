//! The bytes of one file in memory: as a running machine sees them, and as a restarted one would.
//! Sans-io.

use std::io;

/// What a disk writes at once or not at all, in bytes.
const SECTOR: usize = 512;

/// What becomes of writes that were not synced when the power goes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of them are lost.
    All,
    /// None is lost: the disk was done with them.
    Nothing,
    /// The first ones are there, one is cut short, the later ones are lost.
    Torn {
        /// Chooses where; any number.
        seed: u64,
    },
    /// Some sectors are there and some are not, in no order.
    Scattered {
        /// Chooses which; any number.
        seed: u64,
    },
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    live: Vec<u8>,
    safe: Vec<u8>,
    unsynced: Vec<Change>,
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.live
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        let found = self.live.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.change(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.change(Change::Length(len));
    }

    fn change(&mut self, change: Change) {
        change.apply_to(&mut self.live);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply_to(&mut self.safe);
        }
    }

    /// What a system does whose sync failed: it forgets that the bytes are yet to be written, and
    /// the next sync succeeds without them.
    pub(super) fn sync_in_vain(&mut self) {
        self.unsynced.clear();
    }

    /// Flips a bit, as a dying disk does.
    pub(super) fn flip(&mut self, at: usize, bit: u8) {
        for bytes in [&mut self.live, &mut self.safe] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    pub(super) fn lose_power(&mut self, loss: Loss) {
        let count = self.unsynced.len();
        let torn_at = |seed| usize::try_from(mix(seed) % (count as u64 + 1)).unwrap_or(0);
        for (number, change) in std::mem::take(&mut self.unsynced).into_iter().enumerate() {
            match loss {
                Loss::All => {}
                Loss::Nothing => change.apply_to(&mut self.safe),
                Loss::Torn { seed } => match number.cmp(&torn_at(seed)) {
                    std::cmp::Ordering::Less => change.apply_to(&mut self.safe),
                    std::cmp::Ordering::Equal => change.first_half().apply_to(&mut self.safe),
                    std::cmp::Ordering::Greater => {}
                },
                Loss::Scattered { seed } => change.scatter(seed, &mut self.safe),
            }
        }
        self.live.clone_from(&self.safe);
    }
}

impl Change {
    fn apply_to(&self, file: &mut Vec<u8>) {
        match self {
            Self::Length(len) => file.resize(*len, 0),
            Self::Write { offset, bytes } => put(file, *offset, bytes),
        }
    }

    fn first_half(self) -> Self {
        match self {
            Self::Length(len) => Self::Length(len),
            Self::Write { offset, mut bytes } => {
                let sectors = bytes.len().div_ceil(SECTOR);
                bytes.truncate(sectors / 2 * SECTOR);
                Self::Write { offset, bytes }
            }
        }
    }

    /// Keyed by the place on disk, not by the order of the writes, so that one seed means one
    /// thing whatever order a library writes in.
    fn scatter(&self, seed: u64, file: &mut Vec<u8>) {
        match self {
            // File systems order the length with the blocks; losing it loses them all.
            Self::Length(len) if *len >= file.len() => file.resize(*len, 0),
            Self::Length(_) => {}
            Self::Write { offset, bytes } => {
                for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                    let at = offset + number * SECTOR;
                    if mix(seed ^ mix(at as u64)) & 1 == 0 {
                        put(file, at, sector);
                    }
                }
            }
        }
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

/// A number that looks random and is the same every time.
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
