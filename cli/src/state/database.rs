//! The database in the folder of `--state`.

use super::{CellStoreError, Request};
use anyhow::{Context, Result, bail};
use cellblock::{KeptName, ParkedCell};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The database's name in its folder.
const DATABASE: &str = "cells.redb";

/// Cells by their names: when each was kept, when its total time is over, both in milliseconds of
/// Unix time, and the sealed cell.
const CELLS: TableDefinition<'static, &[u8; 16], (u64, u64, &[u8])> = TableDefinition::new("cells");

/// When the total time of each cell is over, so that those that nobody wakes are found.
const EXPIRIES: TableDefinition<'static, (u64, &[u8; 16]), ()> = TableDefinition::new("expiries");

/// Bytes that the sealed cells have together.
const TOTAL: TableDefinition<'static, (), u64> = TableDefinition::new("total");

/// Memory in which the database keeps pages of its file.
const CACHE_BYTES: usize = 32 << 20;

/// How long another process may take to let the folder go: one that has just been killed.
const LOCKED_FOR: Duration = Duration::from_secs(5);

/// How often cells are dropped whose total time is over.
const SWEEP: Duration = Duration::from_mins(10);

/// How long after an attempt to open the database that failed the next one is made.
const OPEN_AGAIN: Duration = Duration::from_secs(1);

/// What each write of a transaction came to.
pub(super) type Outcomes = Vec<Result<(), CellStoreError>>;

/// The cells of a folder. A database that has failed is opened anew: redb does nothing more after
/// a write that has failed, and panics at some damage.
pub(super) struct Cells {
    path: PathBuf,
    most_bytes: u64,
    /// `None` after it has failed.
    database: Option<Database>,
    /// Why it has failed, and when it may be opened again.
    failure: Option<(CellStoreError, Instant)>,
    /// When it was last looked for cells whose time is over.
    swept: Option<Instant>,
}

impl Cells {
    /// Opens a folder that only this user can use, and makes it when there is none.
    pub(super) fn open(folder: &Path, most_bytes: u64) -> Result<Self> {
        check(folder)?;
        let path = folder.join(DATABASE);
        let database = Some(open(&path)?);
        Ok(Self { path, most_bytes, database, failure: None, swept: None })
    }

    /// Whether a folder has a database.
    pub(super) fn are_in(folder: &Path) -> bool {
        std::fs::metadata(folder.join(DATABASE)).is_ok_and(|of| of.len() > 0)
    }

    /// Does something with the database: once more, opened anew, if it fails.
    fn with<T>(
        &mut self,
        mut ask: impl FnMut(&mut Self, &Database) -> Result<T>,
    ) -> Result<T, CellStoreError> {
        for is_last in [false, true] {
            let database = self.opened()?;
            let asked = catch_unwind(AssertUnwindSafe(|| ask(self, &database)));
            let why = match asked {
                Ok(Ok(outcome)) => {
                    self.database = Some(database);
                    if self.failure.take().is_some() {
                        tracing::error!("{} works again", self.path.display());
                    }
                    return Ok(outcome);
                }
                Ok(Err(error)) => format!("{}: {error:#}", self.path.display()),
                Err(_) => format!("{} is damaged", self.path.display()),
            };
            // To close what has failed may fail.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
            if is_last {
                return Err(self.failed(why));
            }
        }
        Err(self.failed(format!("{} does not work", self.path.display())))
    }

    /// The database, opened anew if it has failed a while ago.
    fn opened(&mut self) -> Result<Database, CellStoreError> {
        if let Some(database) = self.database.take() {
            return Ok(database);
        }
        match &self.failure {
            Some((error, again_at)) if *again_at > Instant::now() => Err(error.clone()),
            _ => open(&self.path).map_err(|error| self.failed(format!("{error:#}"))),
        }
    }

    fn failed(&mut self, why: String) -> CellStoreError {
        if self.failure.is_none() {
            tracing::error!("cells that sleep are in memory alone: {why}");
        }
        let error = CellStoreError(why);
        self.failure = Some((error.clone(), Instant::now() + OPEN_AGAIN));
        error
    }

    /// Writes in one transaction, and returns what each write came to. What is half done when one
    /// fails is not done.
    pub(super) fn write(&mut self, writes: &[Request]) -> Result<Outcomes, CellStoreError> {
        self.with(|cells, database| {
            let most_bytes = cells.most_bytes;
            let transaction = cells.begin(database)?;
            let write = |write: &Request| match write {
                Request::Keep { name, cell, time_left, .. } => {
                    keep(&transaction, *name, cell, *time_left, most_bytes)
                }
                Request::Remove { name, .. } => drop_cell(&transaction, name.as_bytes()).map(Ok),
                Request::Find { .. } => Ok(Ok(())),
            };
            let outcomes = writes.iter().map(write).collect::<Result<_>>()?;
            transaction.commit()?;
            Ok(outcomes)
        })
    }

    fn begin(&mut self, database: &Database) -> Result<WriteTransaction> {
        let mut transaction = database.begin_write()?;
        // After a crash, the database is there at once.
        transaction.set_quick_repair(true);
        if self.swept.is_none_or(|swept| swept.elapsed() > SWEEP) {
            sweep(&transaction)?;
            self.swept = Some(Instant::now());
        }
        Ok(transaction)
    }

    /// A cell, and how long ago it was kept.
    pub(super) fn find(
        &mut self,
        name: KeptName,
    ) -> Result<Option<(ParkedCell, Duration)>, CellStoreError> {
        self.with(|_, database| {
            let transaction = database.begin_read()?;
            let cells = match transaction.open_table(CELLS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                cells => cells?,
            };
            let Some(cell) = cells.get(name.as_bytes())? else { return Ok(None) };
            let (kept_at, _, bytes) = cell.value();
            let cell = ParkedCell::from_bytes(bytes)?;
            Ok(Some((cell, Duration::from_millis(now().saturating_sub(kept_at)))))
        })
    }
}

/// Makes the folder when there is none, and checks that only this user can use it.
fn check(folder: &Path) -> Result<()> {
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
    Ok(())
}

/// Opens a database, and makes it when there is none.
fn open(path: &Path) -> Result<Database> {
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nofollow)
        .open(path)
        .with_context(|| path.display().to_string())?;
    let is_new = file.metadata().is_ok_and(|of| of.len() == 0);
    let until = Instant::now() + LOCKED_FOR;
    loop {
        // A damaged file may make the database panic.
        let opening = catch_unwind(|| Builder::new().set_cache_size(CACHE_BYTES).create(path));
        let why = match opening {
            Ok(Ok(database)) => return Ok(database),
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => bail!("another process uses it"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it is damaged".to_owned(),
        };
        if is_new {
            // What is half made would be taken for damage.
            let _ = std::fs::remove_file(path);
            bail!("cannot make {}: {why}", path.display());
        }
        bail!(
            "cannot open {}: {why}; restore it, or delete it: the cells in it are lost then",
            path.display()
        );
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
