//! `--state FOLDER`: where cells that sleep outlive their process.
//!
//! A database in the folder has each of them, sealed, under its name. One thread reads and writes
//! it, and does what is asked of it in order. What is asked for while it writes goes into its next
//! transaction together, so that many cells share one write to the disk.

mod database;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use cellblock::support::lock;
use cellblock::{CellStore, CellStoreError, KeptName, ParkedCell};
use database::Cells;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

/// The name of the key that cells are sealed with, unless another is given.
const KEY: &str = "park.key";

/// What may wait for the thread. Those who ask wait for room.
const QUEUE: usize = 1_024;

/// What one transaction does at most, in number and in bytes of cells.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 16 << 20;

/// How long a cell that is to run on waits for a database that has failed, and how often it asks.
const PATIENCE: Duration = Duration::from_mins(1);
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A folder of cells that sleep.
pub struct StateFolder {
    requests: mpsc::Sender<Request>,
    /// Cells that this process has kept or found: they are alive, and not found again.
    alive: Mutex<HashSet<KeptName>>,
    /// The process is to end, and leaves what is there.
    is_left: AtomicBool,
    #[cfg(test)]
    thread: std::thread::JoinHandle<()>,
}

/// What the thread is asked for.
enum Request {
    Keep { name: KeptName, cell: ParkedCell, time_left: Duration, done: Done<()> },
    Remove { name: KeptName, done: Done<()> },
    Find { name: KeptName, done: Done<Option<(ParkedCell, Duration)>> },
}

/// Where the outcome goes. One that nobody waits for any more is not needed.
type Done<T> = oneshot::Sender<Result<T, CellStoreError>>;

impl StateFolder {
    /// Opens a folder, and makes it when there is none. Its cells take `most_bytes` at most.
    pub fn open(folder: &Path, most_bytes: u64) -> Result<Self> {
        let cells = Cells::open(folder, most_bytes);
        let mut cells = cells.with_context(|| format!("--state {}", folder.display()))?;
        let (requests, mut queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("cellblock-state".to_owned())
            .spawn(move || run(&mut cells, &mut queue))
            .context("cannot start the thread of --state")?;
        #[cfg(not(test))]
        drop(thread);
        Ok(Self {
            requests,
            alive: Mutex::default(),
            is_left: AtomicBool::new(false),
            #[cfg(test)]
            thread,
        })
    }

    /// Ends its thread, and returns when the folder is free.
    #[cfg(test)]
    async fn close(self) {
        let Self { requests, thread, .. } = self;
        drop(requests);
        tokio::task::spawn_blocking(move || thread.join()).await.unwrap().unwrap();
    }

    /// Leaves its cells to the next process: none runs on here from now on.
    pub fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    /// Where the key is that the cells of a folder are sealed with, unless another is given.
    pub fn key(folder: &Path) -> Result<PathBuf> {
        let key = folder.join(KEY);
        ensure!(
            !Cells::are_in(folder) || key.exists(),
            "--state {}: it has cells, and the key that they are sealed with is gone; restore {}, \
             or delete the cells",
            folder.display(),
            key.display()
        );
        Ok(key)
    }

    async fn ask<T>(&self, request: impl FnOnce(Done<T>) -> Request) -> Result<T, CellStoreError> {
        let ended = || CellStoreError("the process ends".to_owned());
        let (done, outcome) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }
}

#[async_trait]
impl CellStore for StateFolder {
    async fn keep(
        &self,
        name: KeptName,
        cell: ParkedCell,
        time_left: Duration,
    ) -> Result<(), CellStoreError> {
        lock(&self.alive).insert(name);
        self.ask(|done| Request::Keep { name, cell, time_left, done }).await
    }

    async fn take(&self, name: KeptName) -> Result<(), CellStoreError> {
        let until = Instant::now() + PATIENCE;
        loop {
            if self.is_left.load(Ordering::Relaxed) {
                // The process ends before this does.
                std::future::pending::<()>().await;
            }
            match self.remove(name).await {
                Err(_) if Instant::now() < until => sleep(ASK_AGAIN).await,
                taken => return taken,
            }
        }
    }

    async fn remove(&self, name: KeptName) -> Result<(), CellStoreError> {
        self.ask(|done| Request::Remove { name, done }).await?;
        lock(&self.alive).remove(&name);
        Ok(())
    }

    async fn find(&self, name: KeptName) -> Result<Option<(ParkedCell, Duration)>, CellStoreError> {
        if !lock(&self.alive).insert(name) {
            return Ok(None);
        }
        let mut claim = Claim { store: self, name, is_found: false };
        let found = self.ask(|done| Request::Find { name, done }).await?;
        claim.is_found = found.is_some();
        Ok(found)
    }

    fn release(&self, name: KeptName) {
        lock(&self.alive).remove(&name);
    }
}

/// A cell that is looked for: nobody else finds it meanwhile.
struct Claim<'a> {
    store: &'a StateFolder,
    name: KeptName,
    is_found: bool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.is_found {
            self.store.release(self.name);
        }
    }
}

/// The thread that reads and writes the database: serves until nobody can ask any more.
fn run(cells: &mut Cells, queue: &mut mpsc::Receiver<Request>) {
    while let Some(request) = queue.blocking_recv() {
        let mut bytes = size(&request);
        let mut batch = vec![request];
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Ok(request) = queue.try_recv() else { break };
            bytes += size(&request);
            batch.push(request);
        }
        serve(cells, batch);
    }
}

/// Does what is asked for, in order: writes until the next question are one transaction.
fn serve(cells: &mut Cells, batch: Vec<Request>) {
    let mut writes = Vec::new();
    for request in batch {
        match request {
            Request::Find { name, done } => {
                write(cells, std::mem::take(&mut writes));
                let _ = done.send(cells.find(name));
            }
            write => writes.push(write),
        }
    }
    write(cells, writes);
}

fn write(cells: &mut Cells, writes: Vec<Request>) {
    if writes.is_empty() {
        return;
    }
    let written = cells.write(&writes);
    for (at, write) in writes.into_iter().enumerate() {
        let (Request::Keep { done, .. } | Request::Remove { done, .. }) = write else {
            continue;
        };
        let outcome = written.as_ref().map_err(Clone::clone);
        let _ = done.send(outcome.and_then(|outcomes| outcomes[at].clone()));
    }
}

/// Bytes of a cell that a request carries.
fn size(request: &Request) -> usize {
    match request {
        Request::Keep { cell, .. } => cell.as_bytes().len(),
        Request::Remove { .. } | Request::Find { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn cell(byte: u8, bytes: usize) -> ParkedCell {
        let mut made = b"CBPARKED\x01\x00".to_vec();
        made.extend(vec![byte; bytes]);
        ParkedCell::from_bytes(made).unwrap()
    }

    fn name(byte: u8) -> KeptName {
        KeptName::from([byte; 16])
    }

    async fn found(store: &StateFolder, byte: u8) -> Option<ParkedCell> {
        store.find(name(byte)).await.unwrap().map(|(cell, _)| cell)
    }

    #[tokio::test]
    async fn cells_outlive_the_process_until_they_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        let store = StateFolder::open(&folder, u64::MAX).unwrap();
        for byte in 1..=3 {
            store.keep(name(byte), cell(byte, 10_000), HOUR).await.unwrap();
        }
        store.keep(name(2), cell(20, 5), HOUR).await.unwrap();
        store.remove(name(3)).await.unwrap();
        store.remove(name(9)).await.unwrap();
        assert_eq!(found(&store, 1).await, None, "it is alive here");
        // Another process cannot use it meanwhile.
        let other = StateFolder::open(&folder, 1).err().unwrap();
        assert!(format!("{other:#}").contains("another process uses it"), "{other:#}");
        drop(store);

        let store = StateFolder::open(&folder, u64::MAX).unwrap();
        assert_eq!(found(&store, 1).await, Some(cell(1, 10_000)));
        assert_eq!(found(&store, 1).await, None, "found once");
        assert_eq!(found(&store, 2).await, Some(cell(20, 5)), "the newest");
        assert_eq!((found(&store, 3).await, found(&store, 4).await), (None, None));
    }

    #[tokio::test]
    async fn cells_are_dropped_when_their_time_is_over_or_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        let store = StateFolder::open(&folder, 1_000).unwrap();
        store.keep(name(1), cell(1, 600), Duration::ZERO).await.unwrap();
        let refused = store.keep(name(2), cell(2, 600), HOUR).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the store of cells failed: --state holds 1000 bytes of cells at most"
        );
        drop(store);
        // A later process begins with what is still of use.
        let store = StateFolder::open(&folder, 1_000).unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        store.remove(name(7)).await.unwrap();
        assert_eq!(found(&store, 1).await, None);
        store.keep(name(2), cell(2, 600), HOUR).await.unwrap();
        // What is kept anew takes the room of what it was.
        store.keep(name(2), cell(2, 700), HOUR).await.unwrap();
    }

    /// Whatever a file holds, it is refused or read: the process goes on.
    #[tokio::test]
    async fn a_damaged_database_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        let store = StateFolder::open(&folder, u64::MAX).unwrap();
        for byte in 0..40 {
            store.keep(name(byte), cell(byte, 3_000), HOUR).await.unwrap();
        }
        store.close().await;
        let database = folder.join("cells.redb");
        let whole = std::fs::read(&database).unwrap();
        let mut random = 1_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % below
        };
        let mut refused = 0;
        for round in 0..100 {
            let mut damaged = whole.clone();
            // The first page has what all the rest is found by.
            let within = if round % 3 == 0 { 4_096 } else { damaged.len() };
            for _ in 0..=next(20) {
                let at = next(within);
                damaged[at] = u8::try_from(next(256)).unwrap();
            }
            if round % 10 == 0 {
                damaged.truncate(next(within));
            }
            std::fs::write(&database, &damaged).unwrap();
            let Ok(store) = StateFolder::open(&folder, u64::MAX) else {
                refused += 1;
                continue;
            };
            for byte in (0..40).step_by(13) {
                // What is found may be anything: it is sealed.
                let _ = store.find(name(byte)).await;
                let _ = store.keep(name(byte), cell(byte, 100), HOUR).await;
                let _ = store.remove(name(byte)).await;
            }
            store.close().await;
        }
        assert!(refused > 0 && refused < 100, "{refused}");
    }

    #[test]
    fn a_folder_that_others_can_use_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let refused = StateFolder::open(folder.path(), 1).err().unwrap();
        assert!(format!("{refused:#}").contains("chmod 700"), "{refused:#}");
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(StateFolder::open(&file, 1).is_err());
    }
}
