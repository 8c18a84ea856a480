//! Room for request bodies and the events in them, so that memory is bounded whatever clients do: taken piece by
//! piece while a body is read, given back when its events are committed or refused.

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory of all bodies in flight and their events, in bytes. A container has 256 MiB unless the trail says otherwise, and
/// a group that is being written stands there three times: as events, as rows, as what goes over the wire.
///
/// What is counted: what is set aside for a body, as sent and as decoded (up to twice its length), and for each event what its
/// parts take in memory, about five times its JSON at 300 bytes ([`crate::event::json::Reading::weight_bytes`]). The body's
/// share is held until the commit, though the body is gone by then: it stands for the copies that writing makes.
pub const ROOM_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What one request may hold, in bytes: its body twice while it is decoded, its events, and room to spare for others.
pub const REQUEST_MAX_BYTES: usize = 48 * 1024 * 1024;

/// The unit in which room is given: a semaphore counts in 32 bits.
const UNIT_BYTES: usize = 1024;

/// Why there is no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoRoom {
    /// Others hold it: the same again has a chance when they have been served.
    #[error("the collector has as much in hand as it can hold; try again")]
    Others,
    /// This request alone takes more than [`REQUEST_MAX_BYTES`]: it never has a chance.
    #[error("the body holds more values than one request may: send fewer events at once")]
    Request,
}

/// Room for bodies. Clones share it.
#[derive(Clone, Debug)]
pub struct Room {
    free: Arc<Semaphore>,
    /// Large bodies that are decoded and parsed at once: the memory that this takes for itself stays bounded, and cores
    /// are left for others.
    turns: Arc<Semaphore>,
}

/// Room that one request holds. Given back when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Held {
    room: Room,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for Room {
    fn default() -> Self {
        Self::of(ROOM_MAX_BYTES)
    }
}

impl Room {
    /// Room for `bytes`, in whole KiB.
    pub fn of(bytes: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { free: Arc::new(Semaphore::new(bytes / UNIT_BYTES)), turns: Arc::new(Semaphore::new(cores)) }
    }

    /// A request that holds nothing yet.
    pub fn enter(&self) -> Held {
        Held { room: self.clone(), taken: Arc::default() }
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> usize {
        self.free.available_permits() * UNIT_BYTES
    }
}

impl Held {
    /// Takes `bytes` more. On an error nothing more is held than before.
    pub fn grow(&self, bytes: usize) -> Result<(), NoRoom> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.bytes + bytes > REQUEST_MAX_BYTES {
            return Err(NoRoom::Request);
        }
        let more = (taken.bytes + bytes).div_ceil(UNIT_BYTES) - taken.bytes.div_ceil(UNIT_BYTES);
        let more = u32::try_from(more).map_err(|_| NoRoom::Others)?;
        let permit = Arc::clone(&self.room.free).try_acquire_many_owned(more).map_err(|_| NoRoom::Others)?;
        match &mut taken.permit {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
        taken.bytes += bytes;
        Ok(())
    }

    /// Gives `bytes` back, at most what is held.
    pub fn shrink(&self, bytes: usize) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.bytes.saturating_sub(bytes);
        let units = taken.bytes.div_ceil(UNIT_BYTES) - left.div_ceil(UNIT_BYTES);
        drop(taken.permit.as_mut().and_then(|all| all.split(units)));
        taken.bytes = left;
    }

    /// A turn to read a large body.
    pub async fn turn(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.room.turns).acquire_owned().await.expect("nobody closes it")
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_up_to_its_bound_and_not_one_byte_past_it() {
        let room = Room::of(8 * UNIT_BYTES);
        let held = room.enter();
        held.grow(8 * UNIT_BYTES).expect("all of it");
        assert_eq!(held.grow(1), Err(NoRoom::Others));
        assert_eq!(held.bytes(), 8 * UNIT_BYTES);
    }

    #[test]
    fn one_request_never_gets_more_than_its_share() {
        let held = Room::default().enter();
        held.grow(REQUEST_MAX_BYTES).expect("its share");
        assert_eq!(held.grow(1), Err(NoRoom::Request));
    }

    #[test]
    fn small_pieces_share_a_unit() {
        let room = Room::of(2 * UNIT_BYTES);
        let held = room.enter();
        for _ in 0..UNIT_BYTES {
            held.grow(1).expect("room");
        }
        assert_eq!(room.free_bytes(), UNIT_BYTES);
    }

    #[test]
    fn what_was_held_is_free_again_when_the_last_clone_is_gone() {
        let room = Room::of(4 * UNIT_BYTES);
        let held = room.enter();
        held.grow(3 * UNIT_BYTES).expect("room");
        held.shrink(UNIT_BYTES + 1);
        assert_eq!(room.free_bytes(), 2 * UNIT_BYTES);
        let clone = held.clone();
        drop(held);
        assert_eq!(room.free_bytes(), 2 * UNIT_BYTES);
        drop(clone);
        assert_eq!(room.free_bytes(), 4 * UNIT_BYTES);
    }
}
