//! Compiled code on disk.
//!
//! Compiled code is trusted input: a user who can write it can run anything in this
//! process. So it is loaded only from a folder and a regular file that belong to this
//! user and that nobody else may write, and its name says what it was made from:
//! guest, wasmtime version and configuration. A digest follows the code, because
//! wasmtime does not check that the code is undamaged; it is XXH3, which finds damage in a
//! tenth of the time of SHA-256, and nobody has to be kept from forging what only this user
//! can write. The file is mapped, so that processes share the code, and so it is never changed
//! in place. What does not fit is compiled again, and a cache that cannot be used costs time,
//! never the run.

use super::engine::EngineError;
use crate::clock::{Random, SystemRandom};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, StatVfsMountFlags};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use twox_hash::XxHash3_128;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Files of compiled code of each kind that are kept: for some versions of Cellblock used side by side.
const KEPT: usize = 8;
/// Files of the folder that are looked at when it is tidied.
const LISTED: usize = 4_096;
/// Age from which a draft is what a process left behind that was killed: writing one
/// takes milliseconds.
const STALE_DRAFT: Duration = Duration::from_hours(1);
/// Bytes of a cached file. The guest takes five million; what is far larger is not ours.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes of the digest at the end of a file.
const DIGEST_BYTES: usize = 16;
/// Bytes that are read and hashed at a time: they stay in the processor's cache.
const BLOCK_BYTES: usize = 64 << 10;
/// How the names of drafts end.
const DRAFT: &str = "tmp";
/// How the names of compiled code end.
const CODE: &str = "cwasm";

/// `$XDG_CACHE_HOME/cellblock`, or `.cache/cellblock` in the home folder.
pub(super) fn default_dir() -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("cellblock"))
}

/// A component to be compiled.
#[derive(Clone, Copy)]
pub(super) struct Code {
    /// What it is, as the name of its file begins.
    pub(super) kind: &'static str,
    /// The component.
    pub(super) wasm: &'static [u8],
    /// SHA-256 of the component.
    pub(super) hash: [u8; 32],
}

/// SHA-256 of the component that a manifest describes, which begins with it. Read when this is
/// compiled: hashing three megabytes would take a process two milliseconds when it starts.
pub(super) const fn component_hash(manifest: &str) -> [u8; 32] {
    const BEGINNING: &[u8] = b"{\n  \"component\": \"";
    let bytes = manifest.as_bytes();
    let mut at = 0;
    while at < BEGINNING.len() {
        assert!(bytes[at] == BEGINNING[at], "the manifest begins with the component's hash");
        at += 1;
    }
    let mut hash = [0; 32];
    let mut byte = 0;
    while byte < hash.len() {
        hash[byte] = digit(bytes[at]) << 4 | digit(bytes[at + 1]);
        at += 2;
        byte += 1;
    }
    hash
}

/// The value of a hexadecimal digit.
const fn digit(text: u8) -> u8 {
    match text {
        b'0'..=b'9' => text - b'0',
        b'a'..=b'f' => text - b'a' + 10,
        _ => panic!("a hash is hexadecimal"),
    }
}

/// A component, compiled: from the cache where that can be trusted.
pub(super) fn load_or_compile(
    engine: &Engine,
    dir: Option<&Path>,
    code: Code,
) -> Result<Component, EngineError> {
    let name = file_name(engine, code);
    if let Some(dir) = dir {
        match load(engine, dir, &name) {
            Ok(Some(component)) => return Ok(component),
            Ok(None) => {}
            Err(reason) => tracing::warn!("{} is not used: {reason}", dir.join(&name).display()),
        }
    }
    let component = Component::new(engine, code.wasm)
        .map_err(|error| EngineError::Compile(format!("{error:#}")))?;
    if let Some(dir) = dir
        && let Err(reason) = store(&component, dir, &name, code.kind)
    {
        tracing::warn!("compiled code is not cached in {}: {reason}", dir.display());
    }
    Ok(component)
}

/// Names what the code is made from.
fn file_name(engine: &Engine, code: Code) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    hasher.write(&code.hash);
    // Covers wasmtime's version, its configuration and the processor's features.
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let digest = hasher.0.finalize();
    let (half, _) = digest.split_at(16);
    format!(
        "{}-{}.{CODE}",
        code.kind,
        half.iter().fold(String::new(), |name, byte| format!("{name}{byte:02x}"))
    )
}

/// The component in the cache; `None` when there is none.
fn load(engine: &Engine, dir: &Path, name: &str) -> Result<Option<Component>, String> {
    let Some(dir) = open_dir(dir)? else { return Ok(None) };
    // NONBLOCK: opening a FIFO waits for a writer without it.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    check_ours(&file, FileType::RegularFile)?;
    let is_mappable = !rustix::fs::fstatvfs(&file)
        .map_err(|error| error.to_string())?
        .f_flag
        .contains(StatVfsMountFlags::NOEXEC);
    let mut file = File::from(file);
    let bytes = checked(&mut file)?;
    let loaded = if is_mappable {
        // By way of the descriptor's link, so that it is the file that was checked. Only pages
        // that are used are read, and all processes of this user share them.
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        #[expect(unsafe_code, reason = "see the module documentation")]
        // SAFETY: only this user can write the file and the folder that it is in. `store` below
        // is what writes there, always under a new name, and the digest says that these bytes
        // are what it wrote. Wasmtime checks version and configuration.
        unsafe {
            Component::deserialize_file(engine, link)
        }
    } else {
        // Programs of this file system are not run from it; memory of this process is.
        let mut code = vec![0; bytes];
        file.read_exact_at(&mut code, 0).map_err(|error| error.to_string())?;
        #[expect(unsafe_code, reason = "see the module documentation")]
        // SAFETY: as above.
        unsafe {
            Component::deserialize(engine, code)
        }
    };
    loaded.map(Some).map_err(|error| format!("{error:#}"))
}

/// The bytes of the code in a file, after a check of its digest.
fn checked(file: &mut File) -> Result<usize, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let damaged = || "it is damaged, and is made again".to_owned();
    let length = file.metadata().map_err(|error| text(&error))?.len();
    let bytes = length.checked_sub(DIGEST_BYTES as u64).ok_or_else(damaged)?;
    let bytes = usize::try_from(bytes).map_err(|error| text(&error))?;
    if length > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let mut hasher = XxHash3_128::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut rest = bytes;
    while rest > 0 {
        let block = &mut block[..rest.min(BLOCK_BYTES)];
        file.read_exact(block).map_err(|error| text(&error))?;
        hasher.write(block);
        rest -= block.len();
    }
    let mut digest = [0; DIGEST_BYTES];
    file.read_exact(&mut digest).map_err(|error| text(&error))?;
    if hasher.finish_128().to_le_bytes() != digest {
        return Err(damaged());
    }
    Ok(bytes)
}

/// Opens the folder, after a check that it is ours; `None` when there is none.
fn open_dir(dir: &Path) -> Result<Option<OwnedFd>, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, dir, flags, Mode::empty()) {
        Ok(dir) => check_ours(&dir, FileType::Directory).map(|()| Some(dir)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Checks that a file is of a kind, and ours, and that nobody else may write it.
fn check_ours(file: impl AsFd, kind: FileType) -> Result<(), String> {
    let stat = rustix::fs::fstat(file).map_err(|error| error.to_string())?;
    let others_write = Mode::WGRP | Mode::WOTH;
    if FileType::from_raw_mode(stat.st_mode) != kind {
        Err(format!("it is not a {kind:?}"))
    } else if stat.st_uid != rustix::process::geteuid().as_raw() {
        Err("it belongs to another user".to_owned())
    } else if Mode::from_raw_mode(stat.st_mode).intersects(others_write) {
        Err("other users may write it".to_owned())
    } else {
        Ok(())
    }
}

fn store(component: &Component, dir: &Path, name: &str, kind: &str) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(dir).map_err(|error| text(&error))?;
    let dir = open_dir(dir)?.ok_or("the folder is gone")?;
    let code = component.serialize().map_err(|error| text(&error))?;
    let digest = XxHash3_128::oneshot(&code).to_le_bytes();
    // Under a name of its own first: a reader finds all of it or nothing.
    let draft = format!("{name}.{:016x}.{DRAFT}", SystemRandom::default().seed());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, &draft, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| text(&error))?;
    let mut file = File::from(file);
    let written = file
        .write_all(&code)
        .and_then(|()| file.write_all(&digest))
        .and_then(|()| Ok(rustix::fs::renameat(&dir, &draft, &dir, name)?));
    let result = written.map_err(|error| {
        let _ = rustix::fs::unlinkat(&dir, &draft, AtFlags::empty());
        text(&error)
    });
    // Also when nothing could be written: old files may be why.
    tidy(&dir, kind);
    result
}

/// Removes all but the newest files of a kind, as every version of a component and of
/// wasmtime leaves one, and the drafts of processes that were killed.
fn tidy(dir: &OwnedFd, kind: &str) {
    let Ok(entries) = rustix::fs::Dir::read_from(dir) else { return };
    let now = SystemTime::now();
    let mut compiled = Vec::new();
    let mut remove = Vec::new();
    for entry in entries.take(LISTED).flatten() {
        let name = entry.file_name();
        let Ok(text) = name.to_str() else { continue };
        let is_ours = text.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-'));
        let Some((_, ending)) = text.rsplit_once('.').filter(|_| is_ours) else { continue };
        let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let written = modified(&stat);
        if ending == CODE {
            compiled.push((written, name.to_owned()));
        } else if ending == DRAFT && now.duration_since(written).is_ok_and(|age| age > STALE_DRAFT)
        {
            remove.push(name.to_owned());
        }
    }
    compiled.sort();
    compiled.reverse();
    remove.extend(compiled.into_iter().skip(KEPT).map(|(_, name)| name));
    for name in remove {
        // Another process may have been quicker.
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
    }
}

fn modified(stat: &Stat) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
    let nanoseconds = Duration::from_nanos(stat.st_mtime_nsec);
    SystemTime::UNIX_EPOCH + seconds + nanoseconds
}

/// SHA-256 as a hasher, so that names do not depend on the standard library's.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::{Engine as Sandboxes, EngineConfig};
    use sha2::{Digest, Sha256};
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    fn engine_with(dir: &std::path::Path) -> Sandboxes {
        let config = EngineConfig {
            max_cells: 1,
            cache_dir: Some(dir.to_owned()),
            ..EngineConfig::default()
        };
        Sandboxes::new(&config).unwrap()
    }

    fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
        let mut files: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn compiled_code_is_kept_for_this_user_alone_and_stale_files_go() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("cellblock");
        std::fs::create_dir(&dir).unwrap();
        for number in 0..super::KEPT + 3 {
            std::fs::write(dir.join(format!("guest-{number}.cwasm")), "stale").unwrap();
        }
        engine_with(&dir);
        let kept = files(&dir);
        assert_eq!(kept.len(), super::KEPT);
        let newest = kept.iter().find(|path| path.metadata().unwrap().len() > 1000).unwrap();
        assert_eq!(newest.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn code_that_others_could_write_or_that_is_broken_is_not_loaded() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("cellblock");
        engine_with(&dir);
        let file = files(&dir).remove(0);
        // Broken: compiled anew, and replaced.
        std::fs::write(&file, "not compiled code").unwrap();
        engine_with(&dir);
        assert!(file.metadata().unwrap().len() > 1000);
        // Writable by others: left alone, and the run goes on without it.
        std::fs::write(&file, "not compiled code").unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        engine_with(&dir);
        assert_eq!(file.metadata().unwrap().len(), 17);
    }

    #[test]
    fn the_manifests_describe_the_components() {
        for code in [super::super::engine::GUEST, super::super::typescript::COMPONENT] {
            let hash: [u8; 32] = Sha256::digest(code.wasm).into();
            assert_eq!(code.hash, hash, "{}", code.kind);
        }
    }

    #[test]
    fn a_file_with_a_flipped_bit_is_never_loaded() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("cellblock");
        let wasmtime = engine_with(&dir).wasmtime().clone();
        let file = files(&dir).remove(0);
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let good = std::fs::read(&file).unwrap();
        assert!(super::load(&wasmtime, &dir, &name).unwrap().is_some());
        // Everywhere: headers, code, metadata, digest.
        for place in 0..64 {
            let mut damaged = good.clone();
            let at = place * (damaged.len() - 1) / 63;
            damaged[at] ^= 1 << (place % 8);
            std::fs::write(&file, damaged).unwrap();
            assert!(super::load(&wasmtime, &dir, &name).is_err(), "byte {at}");
        }
        for length in [0, 1, super::DIGEST_BYTES, good.len() - 1] {
            std::fs::write(&file, &good[..length]).unwrap();
            assert!(super::load(&wasmtime, &dir, &name).is_err(), "{length} bytes");
        }
        // It is made again, and is the same.
        engine_with(&dir);
        assert_eq!(std::fs::read(&file).unwrap().len(), good.len());
        assert!(super::load(&wasmtime, &dir, &name).unwrap().is_some());
    }

    /// None of them is waited for, read without end or written through.
    #[test]
    fn what_is_not_a_regular_file_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("cellblock");
        engine_with(&dir);
        let file = files(&dir).remove(0);
        let fifo = |path: &std::path::Path| {
            let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success() && path.metadata().unwrap().file_type().is_fifo());
        };
        let victim = home.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let makers: [&dyn Fn(&std::path::Path); 3] = [
            &fifo,
            &|path| {
                symlink("/dev/zero", path).unwrap();
            },
            &|path| {
                symlink(&victim, path).unwrap();
            },
        ];
        for make in makers {
            std::fs::remove_file(&file).unwrap();
            make(&file);
            engine_with(&dir);
            assert!(file.symlink_metadata().unwrap().is_file());
        }
        assert_eq!(std::fs::read(victim).unwrap(), b"precious");
        // A folder cannot be replaced, and the run goes on without a cache.
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        engine_with(&dir);
        assert_eq!(files(&dir), [file]);
    }

    #[test]
    fn drafts_of_processes_that_were_killed_go() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("cellblock");
        std::fs::create_dir(&dir).unwrap();
        let draft = |name: &str, age: Duration| {
            let file = std::fs::File::create(dir.join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        };
        draft("guest-0.cwasm.1.tmp", super::STALE_DRAFT + Duration::from_mins(1));
        draft("guest-0.cwasm.2.tmp", Duration::ZERO);
        draft("somebody-elses.tmp", super::STALE_DRAFT * 2);
        engine_with(&dir);
        let names: Vec<_> = files(&dir)
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .filter(|name| name.contains(".tmp"))
            .collect();
        assert_eq!(names, ["guest-0.cwasm.2.tmp", "somebody-elses.tmp"]);
    }
}
