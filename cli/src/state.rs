//! `--state FOLDER`: where cells that sleep outlive their process.
//!
//! A database in the folder has each of them, sealed, under its name. One thread reads and writes
//! it, and does what is asked of it in order. What is asked for while it writes goes into its next
//! transaction together, so that many cells share one write to the disk.

use anyhow::{Context, Result, bail};
use cellblock::{CellStore, CellStoreError, KeptName, ParkedCell};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};
use std::collections::HashSet;
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// The database's name in its folder.
const DATABASE: &str = "cells.redb";

/// The name of the key that cells are sealed with, unless another is given.
const KEY: &str = "park.key";

/// Cells by their names: when each was kept, when its total time is over, both in milliseconds of
/// Unix time, and the sealed cell.
const CELLS: TableDefinition<'static, &[u8; 16], (u64, u64, &[u8])> = TableDefinition::new("cells");

/// When the total time of each cell is over, so that those that nobody wakes are found.
const EXPIRIES: TableDefinition<'static, (u64, &[u8; 16]), ()> = TableDefinition::new("expiries");

/// Bytes that the sealed cells have together.
const TOTAL: TableDefinition<'static, (), u64> = TableDefinition::new("total");

/// What may wait for the thread. Those who ask wait for room.
const QUEUE: usize = 1_024;

/// What one transaction does at most, in number and in bytes of cells.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 16 << 20;

/// Memory in which the database keeps pages of its file.
const CACHE_BYTES: usize = 32 << 20;

/// How long another process may take to let the folder go: one that has just been killed.
const LOCKED_FOR: Duration = Duration::from_secs(5);

/// How often cells are dropped whose total time is over.
const SWEEP: Duration = Duration::from_mins(10);

/// A folder of cells that sleep.
pub struct StateFolder {
    requests: mpsc::Sender<Request>,
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
        let database = open(folder).with_context(|| format!("--state {}", folder.display()))?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let owner = Owner { database, most_bytes, alive: HashSet::new(), swept: None };
        let thread = std::thread::Builder::new()
            .name("cellblock-state".to_owned())
            .spawn(move || owner.run(queue))
            .context("cannot start the thread of --state")?;
        #[cfg(not(test))]
        drop(thread);
        Ok(Self {
            requests,
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

    /// Leaves its cells to the next process: none is removed from here on, and none runs on here.
    pub fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    /// Where the key is that its cells are sealed with, unless another is given.
    pub fn key(folder: &Path) -> PathBuf {
        folder.join(KEY)
    }

    async fn ask<T>(&self, request: impl FnOnce(Done<T>) -> Request) -> Result<T, CellStoreError> {
        let ended = || CellStoreError("the database of --state is damaged".to_owned());
        let (done, outcome) = oneshot::channel();
        self.requests.send(request(done)).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }
}

#[async_trait::async_trait]
impl CellStore for StateFolder {
    async fn keep(
        &self,
        name: KeptName,
        cell: ParkedCell,
        time_left: Duration,
    ) -> Result<(), CellStoreError> {
        self.ask(|done| Request::Keep { name, cell, time_left, done }).await
    }

    async fn remove(&self, name: KeptName) -> Result<(), CellStoreError> {
        if self.is_left.load(Ordering::Relaxed) {
            // The process ends before this does.
            std::future::pending::<()>().await;
        }
        self.ask(|done| Request::Remove { name, done }).await
    }

    async fn find(&self, name: KeptName) -> Result<Option<(ParkedCell, Duration)>, CellStoreError> {
        self.ask(|done| Request::Find { name, done }).await
    }
}

/// Opens the database of a folder that only this user can use.
fn open(folder: &Path) -> Result<Database> {
    match DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let of = std::fs::metadata(folder)?;
    if !of.is_dir() {
        bail!("it is not a folder");
    }
    if of.mode() & 0o077 != 0 {
        bail!("others than its owner may use it; chmod 700 it");
    }
    if of.uid() != rustix::process::geteuid().as_raw() {
        bail!("it belongs to another user");
    }
    let path = folder.join(DATABASE);
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nofollow)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    let until = Instant::now() + LOCKED_FOR;
    loop {
        // A damaged file may make the database panic.
        let opening = catch_unwind(|| Builder::new().set_cache_size(CACHE_BYTES).create(&path));
        let Ok(opened) = opening else { bail!("{} is damaged", path.display()) };
        match opened {
            Ok(database) => return Ok(database),
            Err(DatabaseError::DatabaseAlreadyOpen) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(DatabaseError::DatabaseAlreadyOpen) => bail!("another process uses it"),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
}

/// The thread that reads and writes the database.
struct Owner {
    database: Database,
    most_bytes: u64,
    /// Cells that this process has kept or found: they are alive, and not found again.
    alive: HashSet<KeptName>,
    /// When it was last looked for cells whose time is over.
    swept: Option<Instant>,
}

impl Owner {
    /// Serves until nobody can ask any more.
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(request) = queue.blocking_recv() {
            let mut batch = vec![request];
            let mut bytes = size(&batch[0]);
            while batch.len() < BATCH && bytes < BATCH_BYTES {
                let Ok(request) = queue.try_recv() else { break };
                bytes += size(&request);
                batch.push(request);
            }
            // A damaged file may make the database panic: nothing is asked of it any more, and
            // those who asked find their senders dropped.
            if catch_unwind(AssertUnwindSafe(|| self.serve(batch))).is_err() {
                tracing::error!("the database of --state is damaged");
                return;
            }
        }
    }

    /// Does what is asked for, in order: writes until the next question are one transaction.
    fn serve(&mut self, batch: Vec<Request>) {
        let mut writes = Vec::new();
        for request in batch {
            match request {
                Request::Find { name, done } => {
                    self.write(std::mem::take(&mut writes));
                    let _ = done.send(self.find(name).map_err(|error| failed(&error)));
                }
                write => writes.push(write),
            }
        }
        self.write(writes);
    }

    fn write(&mut self, writes: Vec<Request>) {
        if writes.is_empty() {
            return;
        }
        let committed = self.commit(&writes);
        for (at, write) in writes.into_iter().enumerate() {
            let (Request::Keep { done, .. } | Request::Remove { done, .. }) = write else {
                continue;
            };
            let _ = done.send(match &committed {
                Ok(outcomes) => outcomes[at].clone(),
                Err(error) => Err(failed(error)),
            });
        }
    }

    /// Writes in one transaction, and returns what each write came to. What is half done when one
    /// fails is not done.
    fn commit(&mut self, writes: &[Request]) -> Result<Vec<Result<(), CellStoreError>>> {
        for write in writes {
            match write {
                Request::Keep { name, .. } => drop(self.alive.insert(*name)),
                Request::Remove { name, .. } => drop(self.alive.remove(name)),
                // It was done before.
                Request::Find { .. } => {}
            }
        }
        let transaction = self.begin()?;
        let write = |write: &Request| match write {
            Request::Keep { name, cell, time_left, .. } => {
                keep(&transaction, *name, cell, *time_left, self.most_bytes)
            }
            Request::Remove { name, .. } => drop_cell(&transaction, name.as_bytes()).map(Ok),
            Request::Find { .. } => Ok(Ok(())),
        };
        let outcomes = writes.iter().map(write).collect::<Result<_>>()?;
        transaction.commit()?;
        Ok(outcomes)
    }

    fn begin(&mut self) -> Result<WriteTransaction> {
        let mut transaction = self.database.begin_write()?;
        // After a crash, the database is there at once.
        transaction.set_quick_repair(true);
        if self.swept.is_none_or(|swept| swept.elapsed() > SWEEP) {
            self.swept = Some(Instant::now());
            sweep(&transaction)?;
        }
        Ok(transaction)
    }

    fn find(&mut self, name: KeptName) -> Result<Option<(ParkedCell, Duration)>> {
        if self.alive.contains(&name) {
            return Ok(None);
        }
        let transaction = self.database.begin_read()?;
        let cells = match transaction.open_table(CELLS) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            cells => cells?,
        };
        let Some(cell) = cells.get(name.as_bytes())? else { return Ok(None) };
        let (kept_at, _, bytes) = cell.value();
        let cell = ParkedCell::from_bytes(bytes)?;
        self.alive.insert(name);
        Ok(Some((cell, Duration::from_millis(now().saturating_sub(kept_at)))))
    }
}

/// Bytes of a cell that a request carries.
fn size(request: &Request) -> usize {
    match request {
        Request::Keep { cell, .. } => cell.as_bytes().len(),
        Request::Remove { .. } | Request::Find { .. } => 0,
    }
}

/// Keeps a cell, unless there is no more room.
fn keep(
    transaction: &WriteTransaction,
    name: KeptName,
    cell: &ParkedCell,
    time_left: Duration,
    most_bytes: u64,
) -> Result<Result<(), CellStoreError>> {
    drop_cell(transaction, name.as_bytes())?;
    let mut total = transaction.open_table(TOTAL)?;
    let bytes = total_of(&total)?.saturating_add(cell.as_bytes().len() as u64);
    if bytes > most_bytes {
        let why = format!("--state holds {most_bytes} bytes of cells at most");
        return Ok(Err(CellStoreError(why)));
    }
    total.insert((), bytes)?;
    let kept_at = now();
    let left = u64::try_from(time_left.as_millis()).unwrap_or(u64::MAX);
    let expires_at = kept_at.saturating_add(left);
    let mut cells = transaction.open_table(CELLS)?;
    cells.insert(name.as_bytes(), (kept_at, expires_at, cell.as_bytes()))?;
    transaction.open_table(EXPIRIES)?.insert((expires_at, name.as_bytes()), ())?;
    Ok(Ok(()))
}

/// Takes a cell out, if it is there.
fn drop_cell(transaction: &WriteTransaction, name: &[u8; 16]) -> Result<()> {
    let mut cells = transaction.open_table(CELLS)?;
    let Some(cell) = cells.remove(name)? else { return Ok(()) };
    let (_, expires_at, bytes) = cell.value();
    transaction.open_table(EXPIRIES)?.remove((expires_at, name))?;
    let mut total = transaction.open_table(TOTAL)?;
    let bytes = total_of(&total)?.saturating_sub(bytes.len() as u64);
    total.insert((), bytes)?;
    Ok(())
}

fn total_of(total: &Table<(), u64>) -> Result<u64> {
    Ok(total.get(())?.map_or(0, |bytes| bytes.value()))
}

/// Drops the cells whose total time is over: nobody has woken them.
fn sweep(transaction: &WriteTransaction) -> Result<()> {
    let over: Vec<[u8; 16]> = {
        let expiries = transaction.open_table(EXPIRIES)?;
        let until = (now(), &[0; 16]);
        let over = expiries.range(..until)?.map(|entry| entry.map(|(key, _)| *key.value().1));
        over.collect::<Result<_, _>>()?
    };
    for name in &over {
        drop_cell(transaction, name)?;
    }
    if !over.is_empty() {
        tracing::info!("dropped {} cells from --state whose total time was over", over.len());
    }
    Ok(())
}

/// Milliseconds of Unix time.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn failed(error: &anyhow::Error) -> CellStoreError {
    CellStoreError(format!("{error:#}"))
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
        let database = folder.join(DATABASE);
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
