//! Parked cells: a guest's memory (`image`, and `packed` in few bytes), what the host knows of
//! the cell (`head`), and the bytes that both become (`seal`, with a `key` of the host's).

mod head;
mod image;
mod key;
mod packed;
mod seal;
#[cfg(test)]
mod tests;
mod written;

pub(super) use head::{Head, ParkedEvent, PendingCall, nanos};
pub(super) use image::{Image, Pristine};
pub use key::ParkKey;
pub(super) use packed::{Dictionary, Packed};

use crate::backend::{CellId, ParkError, ParkedCell};
use crate::limits::{OverLimit, SessionLimits};
use crate::recent::RecentSet;
use crate::support::lock;
use key::Seal;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex};

/// Parked cells that are remembered to have been woken.
const WOKEN_REMEMBERED: usize = 65_536;

/// Names a parked cell.
type Name = [u8; 16];

/// A parked cell that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) name: Name,
    /// What the host knew of the cell.
    pub(super) head: Head,
    /// Its guest's memory.
    pub(super) image: Image,
}

/// How the cells of a session are parked and woken. A clone shares the memory of which cells
/// were woken.
///
/// ```
/// use cellblock::{ParkKey, Parking};
///
/// // Shared by the hosts that are to wake each other's cells; the default key is the
/// // process's own, made at random.
/// let parking = Parking::new(&ParkKey::encrypting([7; 32])).forbidding_forks();
/// ```
#[derive(Clone)]
pub struct Parking {
    /// `None` where there was no randomness for a key.
    seal: Option<Arc<Seal>>,
    /// Names of the cells that were woken, newest 65,536.
    woken: Arc<Mutex<RecentSet<Name>>>,
    allows_forks: bool,
    /// Random numbers of every cell go on in another way when it is woken.
    reseeds: bool,
    /// Bytes that a parked cell may have.
    most_bytes: usize,
}

impl Parking {
    /// Parks and wakes with this key.
    pub fn new(key: &ParkKey) -> Self {
        Self {
            seal: Some(Arc::new(Seal::new(key))),
            woken: Arc::new(Mutex::new(RecentSet::new(WOKEN_REMEMBERED))),
            allows_forks: true,
            reseeds: false,
            most_bytes: seal::MOST_BYTES,
        }
    }

    /// Refuses to wake a cell twice, and forks that are asked for. What other processes have
    /// woken is not known here, nor what this one has woken before the newest 65,536.
    #[must_use]
    pub fn forbidding_forks(self) -> Self {
        Self { allows_forks: false, ..self }
    }

    /// Has the random numbers of every cell that is woken go on in another way, as those of a fork
    /// do. For one of several processes that wake the same cells, none of which knows what the
    /// others have woken.
    #[must_use]
    pub fn reseeding(self) -> Self {
        Self { reseeds: true, ..self }
    }

    /// Parks no cell as more than so many bytes: one that is larger stays where it is. For
    /// those who have to send it in one message.
    #[must_use]
    pub fn limited_to(self, bytes: usize) -> Self {
        Self { most_bytes: bytes.min(seal::MOST_BYTES), ..self }
    }

    pub(super) fn seal(
        &self,
        cell: &CellId,
        head: &Head,
        image: &Packed,
        guest: &[u8; 32],
    ) -> Result<ParkedCell, ParkError> {
        let (mut name, mut nonce) = ([0; 16], [0; 24]);
        let is_random = getrandom::fill(&mut name).is_ok() && getrandom::fill(&mut nonce).is_ok();
        let seal = self.seal.as_ref().filter(|_| is_random).ok_or(ParkError::NoRandomness)?;
        let too_large =
            |bytes| ParkError::TooLarge { cell: cell.clone(), bytes, limit: self.most_bytes };
        let sealed = seal::seal(head, image, guest, seal, name, nonce).map_err(too_large)?;
        let bytes = sealed.as_bytes().len();
        if bytes > self.most_bytes { Err(too_large(bytes)) } else { Ok(sealed) }
    }

    /// Opens a parked cell, if it is one that a session with these limits may have.
    pub(super) fn open(
        &self,
        cell: &ParkedCell,
        dictionary: &Dictionary,
        limits: &SessionLimits,
    ) -> Result<Opened, ParkError> {
        let seal = self.seal.as_ref().ok_or(ParkError::NoRandomness)?;
        let opened = seal::open(cell, dictionary, seal, most_bytes(limits))?;
        let Opened { head, image, .. } = &opened;
        head.check(limits)?;
        let most = head.limits.sandbox_bytes() + crate::limits::CellLimits::MAX_STACK_BYTES;
        if image.memory() > most as u64 {
            return Err(above("memory in bytes", &image.memory(), most));
        }
        Ok(opened)
    }

    /// Notes that a cell is woken: whether its random numbers are to go on in another way.
    pub(super) fn note_woken(&self, name: Name, is_fork: bool) -> Result<bool, ParkError> {
        if is_fork && !self.allows_forks {
            return Err(ParkError::ForkForbidden);
        }
        let is_first = lock(&self.woken).insert(name);
        if !is_first && !self.allows_forks {
            return Err(ParkError::ForkForbidden);
        }
        Ok(is_fork || !is_first || self.reseeds)
    }
}

impl Default for Parking {
    /// Cells are known again within this process.
    fn default() -> Self {
        static PROCESS: LazyLock<Parking> = LazyLock::new(|| {
            let key = ParkKey::random();
            let parking = Parking::new(key.as_ref().unwrap_or(&ParkKey::new([0; 32])));
            Parking { seal: parking.seal.filter(|_| key.is_ok()), ..parking }
        });
        PROCESS.clone()
    }
}

impl fmt::Debug for Parking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parking").field("allows_forks", &self.allows_forks).finish_non_exhaustive()
    }
}

/// Something of a parked cell, by its name, is above what is allowed.
pub(super) fn above(name: &str, value: &impl ToString, allowed: usize) -> ParkError {
    let (name, value, allowed) = (name.to_owned(), value.to_string(), allowed.to_string());
    ParkError::OverLimits(OverLimit { name, value, allowed })
}

/// The most bytes that a parked cell of a session can have: its memory, what the host holds
/// for it, and the stored values, which JSON may write six times as long.
fn most_bytes(limits: &SessionLimits) -> usize {
    let held = limits.cell.held_bytes().saturating_add(limits.stored_bytes);
    limits
        .cell
        .sandbox_bytes()
        .saturating_mul(2)
        .saturating_add(held.saturating_mul(6))
        .min(seal::MOST_BYTES)
}
